//! Streaming reader of ONNX files.

pub mod reader;
