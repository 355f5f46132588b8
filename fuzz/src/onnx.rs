//! The streaming reader and the writer of ONNX files.

use std::io::{Cursor, Write as _};

use edge_net_onnx::{Collector, Error, Message, Model, Outline, Reader, Values, skim};

// What the tests of the reader note too.
#[path = "../../crates/onnx/tests/seen/mod.rs"]
mod seen;

use seen::{Seen, note, take};

/// Input: two bytes, then a file. The first byte is the length of the pieces in which the file
/// arrives, the second the limit of fields that are reported whole.
///
/// - The events of a file do not depend on the pieces in which it arrives.
/// - A field is held only up to the limit, and no byte is reported twice.
/// - A reader that seeks past values reports the same events.
/// - The values of a model that is read lie within the file.
/// - A model is written with the length that was announced, and what was written is read and
///   written again as the same bytes.
///
/// # Panics
/// When a property does not hold.
pub fn onnx(data: &[u8]) {
    let [piece, whole, file @ ..] = data else { return };
    let whole = usize::from(*whole);
    let at_once = events(file, file.len().max(1), whole);
    assert_eq!(events(file, usize::from(*piece).max(1), whole), at_once);
    assert_memory(&at_once.0, file, whole);
    assert_seeking(&at_once, file, whole);
    let mut collector = Collector::new(whole);
    let _ = skim(&mut Cursor::new(file), whole, |event| collector.add(event));
    if let Ok(model) = Model::read(&mut Cursor::new(file)) {
        let once = written(&model, file);
        if once.is_empty() {
            // All fields were unknown: they are dropped, and an empty file is refused.
            return;
        }
        let again = Model::read(&mut Cursor::new(&once)).expect("what was written can be read");
        assert_eq!(written(&again, &once), once);
    }
}

/// Everything that a reader reports for a file, and the error at its end, if any.
fn events(file: &[u8], piece: usize, whole: usize) -> (Vec<Seen>, Option<Error>) {
    let mut reader = Reader::new(Message::Model, file.len() as u64, whole);
    let mut seen = Vec::new();
    // An empty file ends with its first piece.
    for input in file.chunks(piece).chain([&[][..]]) {
        if let Err(error) = take(&mut reader, input, &mut seen) {
            return (seen, Some(error));
        }
    }
    (seen, reader.finish().err())
}

fn assert_memory(seen: &[Seen], file: &[u8], whole: usize) {
    let mut bytes = 0;
    for event in seen {
        match event {
            Seen::Field(_, _, encoded) => {
                // Key and length have up to 20 bytes, numbers of a fixed width 8.
                assert!(encoded.len() <= whole.max(8) + 20);
                bytes += encoded.len();
            }
            Seen::Value(_, _, length, position) => {
                assert!(position + length <= file.len() as u64, "a value past the end");
            }
            Seen::Data(data) => bytes += data.len(),
            Seen::Start(..) | Seen::End(_) => {}
        }
    }
    assert!(bytes <= file.len());
}

fn assert_seeking((all, error): &(Vec<Seen>, Option<Error>), file: &[u8], whole: usize) {
    let mut seen = Vec::new();
    let result = skim(&mut Cursor::new(file), whole, |event| {
        note(&mut seen, *event);
        Ok(())
    });
    assert_eq!(result.is_ok(), error.is_none());
    let without_data = all.iter().filter(|event| !matches!(event, Seen::Data(_)));
    assert_eq!(seen.iter().collect::<Vec<_>>(), without_data.collect::<Vec<_>>());
}

/// Writes a model that was read from `file`, with its values.
fn written(model: &Model, file: &[u8]) -> Vec<u8> {
    let outline: Outline = model.outline();
    let mut out = Vec::new();
    let source = |tensor: usize, values: Values, out: &mut dyn std::io::Write| {
        assert!(model.tensors[tensor].values.contains(&values));
        let from = usize::try_from(values.position).expect("the file is in memory");
        let length = usize::try_from(values.length).expect("the file is in memory");
        out.write_all(&file[from..from + length])
    };
    outline.write(&mut out, source).expect("the values have their length");
    out.flush().expect("memory");
    assert_eq!(out.len() as u64, outline.size());
    out
}
