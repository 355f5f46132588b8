//! A model of the BERT family, ready to run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tract_onnx::pb::GraphProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimLike, expand};

use crate::file::{FileReader, ReadError};
use crate::fuse::{PLACEHOLDER, fuse};

/// Why a file cannot be run as a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file cannot be read.
    #[error(transparent)]
    Unread(#[from] ReadError),
    /// The model is not of the BERT family.
    #[error(
        "this model has an input {0:?}; the supported inputs are input_ids, attention_mask, \
         token_type_ids and position_ids"
    )]
    Input(String),
    /// The model has no `input_ids`.
    #[error("this model has no input input_ids")]
    NoTokens,
    /// The model has no output that can be pooled.
    #[error("this model has no output of batch × sequence × width, such as last_hidden_state")]
    Output,
    /// The graph has operators or shapes that cannot be run.
    #[error("this model cannot be run: {0}")]
    Graph(String),
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[error("the model failed: {0}")]
pub struct RunError(pub String);

/// Reads a model file in pieces.
#[derive(Debug)]
pub struct ModelReader(FileReader);

impl ModelReader {
    /// A reader of a file of `size` bytes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self(FileReader::new(size))
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// [`ModelError::Unread`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), ModelError> {
        Ok(self.0.push(piece)?)
    }

    /// The model, after all bytes were pushed.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn finish(self) -> Result<Model, ModelError> {
        let mut file = self.0.finish()?;
        let graph = file.model.graph.as_mut().ok_or(ModelError::Output)?;
        check(graph).map_err(ModelError::Graph)?;
        let fused = fuse(graph, file.large);
        let model = guarded(|| {
            let mut model =
                tract_onnx::onnx().model_for_proto_model(&file.model).map_err(cannot_run)?;
            drop(file.model);
            for node in model.nodes_mut() {
                if let Some(op) = fused.get(&node.name) {
                    node.op = expand(op.clone());
                } else if node.name.starts_with(PLACEHOLDER) {
                    let name = &node.name;
                    return Err(ModelError::Graph(format!("the node name {name:?} is reserved")));
                }
            }
            drop(fused);
            Model::of(model)
        });
        model.unwrap_or_else(|panic| Err(ModelError::Graph(panic)))
    }
}

#[allow(clippy::needless_pass_by_value)] // The type that `map_err` passes.
fn cannot_run(error: TractError) -> ModelError {
    ModelError::Graph(format!("{error:#}"))
}

/// Checks the attributes with which tract does not terminate if they are wrong.
fn check(graph: &GraphProto) -> Result<(), String> {
    for node in &graph.node {
        let Some(perm) = node.attribute.iter().find(|attribute| attribute.name == "perm") else {
            continue;
        };
        let places: BTreeSet<i64> = perm.ints.iter().copied().collect();
        if !places.into_iter().eq(0..i64::try_from(perm.ints.len()).unwrap_or_default()) {
            let (name, order) = (&node.name, &perm.ints);
            return Err(format!("{name:?}: {order:?} is not a permutation of dimensions"));
        }
    }
    Ok(())
}

/// Runs `act` and returns a panic as an error: tract panics on some invalid graphs. In WASM panics
/// cannot be caught, and the host replaces the instance.
fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()))
            .unwrap_or_default()
    })
}

/// Meaning of an input of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Tokens,
    Mask,
    Types,
    Positions,
}

/// A model of the BERT family, ready to run.
#[derive(Debug)]
pub struct Model {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Input>,
    width: usize,
}

impl Model {
    fn of(mut model: InferenceModel) -> Result<Self, ModelError> {
        let failed = cannot_run;
        let mut inputs = Vec::new();
        let (batch, sequence) = (model.symbols.sym("batch"), model.symbols.sym("sequence"));
        for at in 0..model.input_outlets().map_err(failed)?.len() {
            let outlet = model.input_outlets().map_err(failed)?[at];
            let name = model.node(outlet.node).name.clone();
            inputs.push(match &*name {
                "input_ids" => Input::Tokens,
                "attention_mask" => Input::Mask,
                "token_type_ids" => Input::Types,
                "position_ids" => Input::Positions,
                _ => return Err(ModelError::Input(name)),
            });
            let shape: TVec<TDim> = tvec![batch.clone().into(), sequence.clone().into()];
            model
                .set_input_fact(at, InferenceFact::dt_shape(i64::datum_type(), shape))
                .map_err(failed)?;
        }
        if !inputs.contains(&Input::Tokens) {
            return Err(ModelError::NoTokens);
        }
        let output = model.output_outlets().map_err(failed)?.iter().position(|outlet| {
            let label = model.outlet_label(*outlet).unwrap_or_default();
            label == "last_hidden_state" || label == "token_embeddings"
        });
        let output = model.output_outlets().map_err(failed)?[output.unwrap_or(0)];
        model.select_output_outlets(&[output]).map_err(failed)?;
        // The declared shape may have other names for the same dimensions.
        model.set_output_fact(0, InferenceFact::default()).map_err(failed)?;
        let model = model.into_typed().and_then(TypedModel::into_decluttered).map_err(failed)?;
        let fact = model.output_fact(0).map_err(failed)?;
        let width = match &*fact.shape {
            [_, _, width] if fact.datum_type == f32::datum_type() => {
                width.to_usize().map_err(|_| ModelError::Output)?
            }
            _ => return Err(ModelError::Output),
        };
        let plan = model.into_optimized().and_then(TypedModel::into_runnable).map_err(failed)?;
        Ok(Self { plan, inputs, width })
    }

    /// Number of operators by name. Those of this crate are Linear8, Lookup8, LayerNorm and
    /// Attention.
    #[must_use]
    pub fn operators(&self) -> BTreeMap<String, usize> {
        let mut operators = BTreeMap::new();
        for node in self.plan.model().nodes() {
            *operators.entry(node.op.name().into_owned()).or_default() += 1;
        }
        operators
    }

    /// Length of a token's vector.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.width
    }

    /// The vectors of the tokens of `sequences` sequences of equal length: one row of
    /// [`width`](Self::width) numbers per token.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run(&self, tokens: &[u32], sequences: usize) -> Result<Vec<f32>, RunError> {
        guarded(|| self.eval(tokens, sequences)).unwrap_or_else(|panic| Err(RunError(panic)))
    }

    fn eval(&self, tokens: &[u32], sequences: usize) -> Result<Vec<f32>, RunError> {
        let failed = |error: TractError| RunError(format!("{error:#}"));
        let length = tokens.len().checked_div(sequences).unwrap_or(0);
        let input = |input: &Input| {
            let value = |at: usize| match input {
                Input::Tokens => i64::from(tokens[at]),
                Input::Mask => 1,
                Input::Types => 0,
                Input::Positions => (at % length).cast_signed() as i64,
            };
            let values: Vec<i64> = (0..sequences * length).map(value).collect();
            Ok(tensor1(&values).into_shape(&[sequences, length])?.into_tvalue())
        };
        let inputs =
            self.inputs.iter().map(input).collect::<TractResult<TVec<TValue>>>().map_err(failed)?;
        let outputs = self.plan.run(inputs).map_err(failed)?;
        let out = outputs[0]
            .try_as_plain_ram()
            .and_then(|view| view.as_slice::<f32>())
            .map_err(failed)?;
        if out.len() != sequences * length * self.width {
            return Err(RunError(format!(
                "the output has {} numbers for {sequences} × {length} tokens",
                out.len()
            )));
        }
        Ok(out.to_vec())
    }
}
