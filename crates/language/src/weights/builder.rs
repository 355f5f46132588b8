//! Weights from the bytes of tensors, in pieces.

use std::collections::HashMap;

use edge_net_tensor::container::TensorInfo;

use super::assemble::Parts;
use super::slot::Slot;
use super::{Weights, WeightsError};
use crate::config::Config;

/// Takes the bytes of a file's tensors and puts each piece where it is multiplied.
///
/// Tensors may come in any order, and pieces of several in turn; the pieces of one come in order.
/// Memory for a tensor is taken when its first byte comes. Tensors that the decoder does not need
/// are dropped.
#[derive(Debug)]
pub struct WeightsBuilder {
    config: Config,
    /// For each tensor of the list, its place if it is needed.
    slots: Vec<Option<Slot>>,
}

impl WeightsBuilder {
    /// Begins the weights of a decoder from a file with these tensors.
    ///
    /// # Errors
    /// When a needed tensor is absent, has another shape, or an element type that is not supported.
    pub fn new(config: &Config, tensors: &[TensorInfo]) -> Result<Self, WeightsError> {
        let places = tensors.iter().enumerate().map(|(place, info)| (info.name.as_str(), place));
        let places: HashMap<&str, usize> = places.collect();
        let mut slots: Vec<Option<Slot>> = tensors.iter().map(|_| None).collect();
        for needed in config.tensors() {
            let Some(&place) = places.get(needed.name.as_str()) else {
                return Err(WeightsError::Absent { name: needed.name, expected: needed.dims });
            };
            slots[place] = Some(Slot::new(needed, &tensors[place])?);
        }
        Ok(Self { config: config.clone(), slots })
    }

    /// Takes the next bytes of a tensor, named by its place in the list. After an error the weights
    /// cannot be finished.
    ///
    /// # Errors
    /// When the list has no such tensor, bytes are too many, a scale is not finite, or memory does
    /// not suffice.
    pub fn push(&mut self, tensor: usize, bytes: &[u8]) -> Result<(), WeightsError> {
        let tensors = self.slots.len();
        let slot = self.slots.get_mut(tensor);
        match slot.ok_or(WeightsError::NoTensor { tensor, tensors })? {
            Some(slot) => slot.push(bytes),
            None => Ok(()),
        }
    }

    /// The weights.
    ///
    /// # Errors
    /// [`WeightsError::Missing`], and [`WeightsError::NotFinite`] for norms and biases.
    pub fn finish(self) -> Result<Weights, WeightsError> {
        let mut parts = Parts::default();
        for slot in self.slots.into_iter().flatten() {
            let (id, name, matrix) = slot.finish()?;
            parts.add(id, name, matrix);
        }
        parts.assemble(&self.config)
    }
}
