//! The input of a product with quantized weights.

/// Elements that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Rows of values with their rounding to 8 bits, in blocks of 32 with a scale each.
///
/// Buffers are kept: [`Activations::set`] allocates only when it needs more than ever before.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

/// Why values are not rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{values} values are not rows of {columns}")]
pub struct ShapeError {
    /// Number of values given.
    pub values: usize,
    /// Length of a row.
    pub columns: usize,
}

impl Activations {
    /// No rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rounds rows of `columns` values.
    ///
    /// # Errors
    /// When the values are not a whole number of rows.
    pub fn quantize(values: &[f32], columns: usize) -> Result<Self, ShapeError> {
        let mut activations = Self::new();
        activations.set(values, columns)?;
        Ok(activations)
    }

    /// Replaces all rows by those of `columns` values in `values`.
    ///
    /// # Errors
    /// When the values are not a whole number of rows.
    pub fn set(&mut self, values: &[f32], columns: usize) -> Result<(), ShapeError> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            return Err(ShapeError { values: values.len(), columns });
        }
        self.rows = values.len() / columns;
        self.columns = columns;
        self.values.clear();
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of a row.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values as given, row after row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}
