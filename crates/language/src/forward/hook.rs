//! A place to look on at products.

use edge_net_tensor::Activations;

use crate::names::Id;

/// Looks on at each product with weights: a calibration reads inputs, an adapter adds to outputs.
pub trait Hook {
    /// A product has been computed: `output` has those of each input after those of the one before,
    /// bias included. Products of one input come one after the other with the same `input`. A head
    /// that is the embedding is [`Part::Head`](crate::names::Part::Head).
    fn product(&mut self, id: Id, input: &Activations, output: &mut [f32]);
}

/// Does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn product(&mut self, _: Id, _: &Activations, _: &mut [f32]) {}
}
