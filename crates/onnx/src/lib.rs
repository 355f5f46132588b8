//! ONNX files, read and written in a stream.
//!
//! Model files reach gigabytes, nearly all of which are the values of tensors. [`Reader`] takes a
//! file in pieces of any size, reports the fields of model, graph and tensors as [`Event`]s, and
//! passes values on in pieces as they come: it holds one field at a time, and no field above the
//! limit that it is given. [`Collector`] makes a [`Model`] of the events, without the values.
//! [`Model::outline`] lays out a file again, and [`Outline::write`] writes it with values from
//! wherever the caller has them.
//!
//! ONNX is a Protocol Buffers message. The crates for that format, `prost` and `quick-protobuf`
//! among them, decode complete buffers only, so [`reader`] has a small pull parser of the
//! encoding's outer layers. Single messages, such as a node, are decoded and encoded by [`prost`].
//!
//! Input is not trusted: malformed bytes are an [`Error`], never a panic.
//!
//! ```
//! use edge_net_onnx::messages::{GraphProto, ModelProto, TensorProto};
//! use edge_net_onnx::{Collector, Event, Message, Model, Reader, Tensor, Values};
//!
//! // A model with one constant of four bytes, which are written separately.
//! let head = TensorProto {
//!     name: Some("zero".to_owned()),
//!     dims: vec![4],
//!     data_type: Some(3),
//!     ..TensorProto::default()
//! };
//! let values = Values { number: edge_net_onnx::schema::RAW_DATA, length: 4, position: 0 };
//! let model = Model {
//!     head: ModelProto { ir_version: Some(8), ..ModelProto::default() },
//!     graph: Some(GraphProto::default()),
//!     tensors: vec![Tensor { head, values: vec![values] }],
//! };
//! let mut file = Vec::new();
//! model.outline().write(&mut file, |_tensor, _values, out| out.write_all(&[0; 4]))?;
//!
//! // Read in pieces of seven bytes.
//! let mut reader = Reader::new(Message::Model, file.len() as u64, 1 << 20);
//! let mut collector = Collector::new(1 << 20);
//! let mut bytes = Vec::new();
//! for mut piece in file.chunks(7) {
//!     while let Some(event) = reader.next(&mut piece)? {
//!         collector.add(&event)?;
//!         if let Event::Data(data) = event {
//!             bytes.extend_from_slice(data);
//!         }
//!     }
//! }
//! reader.finish()?;
//! let read = collector.finish();
//! assert_eq!(read.tensors[0].head, model.tensors[0].head);
//! assert_eq!(bytes, [0; 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
pub mod messages;
mod model;
pub mod reader;
pub mod schema;
mod writer;

pub use error::Error;
pub use model::{Collector, FileError, MAX_GRAPH, Model, Tensor, Values, skim};
pub use schema::Message;
pub use writer::{Outline, Part};

/// Reader of an ONNX file. The first argument of [`new`](reader::Reader::new) is
/// [`Message::Model`].
pub type Reader = reader::Reader<Message>;

/// What a [`Reader`] reports.
pub type Event<'a> = reader::Event<'a, Message>;
