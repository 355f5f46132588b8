//! The HTTP semantics of the edge and the service worker: requests are read and answers are decided here, without I/O.

pub mod answer;
pub mod gateway;
pub mod gcs;
pub mod link;
pub mod openai;
pub mod range;
pub mod registry;
