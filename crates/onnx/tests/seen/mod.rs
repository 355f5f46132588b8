//! What a reader reported: shared by the tests of this crate and the fuzz target.

use edge_net_onnx::{Error, Event, Message, Reader};

/// An [`Event`] that owns its bytes; neighbouring pieces of one value are one.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Start(Message, u64),
    Field(Message, u32, Vec<u8>),
    Value(Message, u32, u64, u64),
    Data(Vec<u8>),
    End(Message),
}

/// Gives `piece` to a reader and adds what it reports to `seen`.
///
/// # Errors
/// The reader's error.
///
/// # Panics
/// When the reader leaves bytes.
pub fn take(reader: &mut Reader, mut piece: &[u8], seen: &mut Vec<Seen>) -> Result<(), Error> {
    while let Some(event) = reader.next(&mut piece)? {
        note(seen, event);
    }
    assert!(piece.is_empty(), "the reader takes all bytes");
    Ok(())
}

/// Adds one event to `seen`.
pub fn note(seen: &mut Vec<Seen>, event: Event<'_>) {
    let event = match event {
        Event::Start { message, length } => Seen::Start(message, length),
        Event::Field { message, number, encoded } => Seen::Field(message, number, encoded.to_vec()),
        Event::Value { message, number, length, position } => {
            Seen::Value(message, number, length, position)
        }
        Event::Data(data) => match seen.last_mut() {
            Some(Seen::Data(before)) => return before.extend_from_slice(data),
            _ => Seen::Data(data.to_vec()),
        },
        Event::End { message } => Seen::End(message),
    };
    seen.push(event);
}
