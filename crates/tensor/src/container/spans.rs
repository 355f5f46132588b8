//! The bytes of a file that belong to tensors, in the order in which they come.

use super::error::Error;
use super::tensor::TensorInfo;

/// Bytes of one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub start: u64,
    pub end: u64,
    /// Place of the tensor in the file's list.
    pub tensor: usize,
}

/// Checks that tensors neither overlap nor pass the end of a file of `size` bytes, and puts their
/// bytes in order. Tensors without bytes are left out. `dense` asks for no byte between tensors,
/// nor from `data` to the first, nor from the last to the end, and for no tensor without bytes
/// inside another.
pub(super) fn in_order(
    tensors: &[TensorInfo],
    data: u64,
    size: u64,
    dense: bool,
) -> Result<Vec<Span>, Error> {
    let mut spans = Vec::with_capacity(tensors.len());
    for (tensor, info) in tensors.iter().enumerate() {
        if info.end() > size {
            let missing = info.end() - size.max(info.offset);
            return Err(Error::Missing { tensor: info.name.clone(), missing });
        }
        if info.size > 0 || dense {
            spans.push(Span { start: info.offset, end: info.end(), tensor });
        }
    }
    spans.sort_unstable_by_key(|span| (span.start, span.end, span.tensor));
    for pair in spans.windows(2) {
        if pair[1].start < pair[0].end {
            let name = |span: Span| tensors[span.tensor].name.clone();
            return Err(Error::Overlap { first: name(pair[0]), second: name(pair[1]) });
        }
    }
    if dense {
        without_holes(&spans, data, size)?;
        spans.retain(|span| span.start < span.end);
    }
    Ok(spans)
}

fn without_holes(spans: &[Span], data: u64, size: u64) -> Result<(), Error> {
    let mut at = data;
    for (start, end) in spans.iter().map(|span| (span.start, span.end)).chain([(size, size)]) {
        if start != at {
            return Err(Error::Hole { at, length: start - at });
        }
        at = end;
    }
    Ok(())
}
