//! What a file says of itself.

use super::metadata::Metadata;
use super::reader::Event;
use super::tensor::TensorInfo;

/// The head of a file, collected from events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors, in the order of the file's list.
    pub tensors: Vec<TensorInfo>,
}

impl Contents {
    /// Adds what `event` tells of the head. Returns the bytes of a tensor, with its place in
    /// [`tensors`](Self::tensors), if the event has them.
    pub fn take<'i>(&mut self, event: Event<'i>) -> Option<(usize, &'i [u8])> {
        match event {
            Event::Metadata(key, value) => self.metadata.set(&key, value),
            Event::Tensor(info) => self.tensors.push(info),
            Event::Data { tensor, bytes } => return Some((tensor, bytes)),
        }
        None
    }

    /// The tensor with this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
