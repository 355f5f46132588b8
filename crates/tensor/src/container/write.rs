//! The bytes of tensors, written one tensor after the other.

use std::io::{self, Write};

use super::tensor::TensorInfo;

/// Counts what is written.
struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes what the caller has of each tensor, and zeros up to the tensor's offset before it.
pub(crate) fn write_tensors(
    out: &mut dyn Write,
    tensors: &[TensorInfo],
    mut at: u64,
    source: &mut dyn FnMut(usize, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    for (place, tensor) in tensors.iter().enumerate() {
        write_zeros(out, tensor.offset - at)?;
        let mut counting = Counting { out, written: 0 };
        source(place, &mut counting)?;
        if counting.written != tensor.size {
            let TensorInfo { name, size, .. } = tensor;
            let message =
                format!("{} bytes were written of the {size} of {name:?}", counting.written);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        at = tensor.end();
    }
    Ok(())
}

/// Writes zeros.
pub(crate) fn write_zeros(out: &mut dyn Write, mut count: u64) -> io::Result<()> {
    const ZEROS: [u8; 256] = [0; 256];
    while count > 0 {
        let length = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        out.write_all(&ZEROS[..length])?;
        count -= length as u64;
    }
    Ok(())
}
