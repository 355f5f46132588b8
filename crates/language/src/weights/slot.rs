//! A tensor on its way from the bytes of a file to a matrix.

use edge_net_tensor::container::TensorInfo;
use edge_net_tensor::{Dtype, Matrix, MatrixBuilder};

use super::WeightsError;
use crate::names::{Id, Needed};

/// A tensor that the decoder needs.
#[derive(Debug)]
pub(super) struct Slot {
    pub id: Id,
    name: String,
    dtype: Dtype,
    /// A vector is a matrix of one row.
    rows: usize,
    columns: usize,
    /// Bytes that have not come yet.
    missing: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No byte has come, and no memory is taken.
    Waiting,
    Growing(Box<MatrixBuilder>),
    Done(Matrix),
}

impl Slot {
    /// A place for the tensor, if it is what the decoder needs.
    pub fn new(needed: Needed, info: &TensorInfo) -> Result<Self, WeightsError> {
        let Needed { id, name, dims } = needed;
        if info.dims != dims {
            return Err(WeightsError::Shape { name, expected: dims, found: info.dims.clone() });
        }
        let dtype = info.dtype().map_err(WeightsError::Element)?;
        let (rows, columns) = match dims[..] {
            [rows, columns] => (rows, columns),
            _ => (1, dims.iter().product()),
        };
        Ok(Self { id, name, dtype, rows, columns, missing: info.size, state: State::Waiting })
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), WeightsError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let refused = |source| WeightsError::Matrix { name: self.name.clone(), source };
        if matches!(self.state, State::Waiting) {
            let builder = MatrixBuilder::new(self.dtype, self.rows, self.columns);
            self.state = State::Growing(Box::new(builder.map_err(refused)?));
        }
        self.missing = self.missing.saturating_sub(bytes.len() as u64);
        match &mut self.state {
            State::Growing(builder) => builder.push(bytes).map_err(refused)?,
            State::Waiting | State::Done(_) => {
                let expected = self.dtype.row_bytes(self.columns).unwrap_or(0) * self.rows;
                let given = expected.saturating_add(bytes.len());
                let source = edge_net_tensor::MatrixError::Bytes { expected, given };
                return Err(refused(source));
            }
        }
        if self.missing == 0 {
            self.complete()?;
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), WeightsError> {
        if let State::Growing(builder) = std::mem::replace(&mut self.state, State::Waiting) {
            let matrix = builder.finish();
            let refused = |source| WeightsError::Matrix { name: self.name.clone(), source };
            self.state = State::Done(matrix.map_err(refused)?);
        }
        Ok(())
    }

    /// What the tensor is, its name, and the matrix.
    pub fn finish(self) -> Result<(Id, String, Matrix), WeightsError> {
        match self.state {
            State::Done(matrix) => Ok((self.id, self.name, matrix)),
            _ => Err(WeightsError::Missing { name: self.name, missing: self.missing }),
        }
    }
}
