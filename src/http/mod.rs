//! HTTP semantics of the edge and the service worker, without I/O: requests are parsed and
//! responses are decided here.

pub mod answer;
pub mod gateway;
pub mod gcs;
pub mod hub;
pub mod link;
pub mod openai;
pub mod path;
pub mod precondition;
pub mod range;
pub mod registry;
