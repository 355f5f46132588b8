//! Values as Python writes them.

use std::io;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

/// Most spaces of an indentation.
const MAX_INDENT: usize = 16;

/// `json.dumps(value, ensure_ascii=False)`: with spaces after commas and colons.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W>(&mut self, writer: &mut W, first: bool) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W>(&mut self, writer: &mut W, first: bool) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W>(&mut self, writer: &mut W) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        writer.write_all(b": ")
    }
}

/// The filter `tojson` of transformers, which is `json.dumps` and escapes nothing for HTML.
#[allow(clippy::needless_pass_by_value, reason = "the signature of filters")]
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Python's default is what is done here.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if let Some(indent) = indent.filter(|indent| *indent > MAX_INDENT) {
        let text = format!("tojson has an indent of {indent}; at most {MAX_INDENT} is supported");
        return Err(Error::new(ErrorKind::InvalidOperation, text));
    }
    let mut bytes = Vec::new();
    let spaces = [b' '; MAX_INDENT];
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, OneLine)),
        Some(indent) => {
            let pretty = PrettyFormatter::with_indent(&spaces[..indent]);
            value.serialize(&mut Serializer::with_formatter(&mut bytes, pretty))
        }
    };
    let wrong = |text: String| Error::new(ErrorKind::BadSerialization, text);
    written.map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(Value::from_safe_string(text))
}

/// `str(value)` for values that Python writes in another way than the template engine.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::None => Some("None".to_owned()),
        ValueKind::Bool => Some(if value.is_true() { "True" } else { "False" }.to_owned()),
        _ => None,
    }
}

/// Methods of Python's types.
pub(super) fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (name, value.as_str(), arguments) {
        ("title", Some(text), []) => Ok(Value::from(title(text))),
        _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments),
    }
}

/// `str.title`: a word is a run of letters.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for char in text.chars() {
        if in_word {
            titled.extend(char.to_lowercase());
        } else {
            titled.extend(char.to_uppercase());
        }
        in_word = char.is_alphabetic();
    }
    titled
}

/// The test `iterable`: to Python, `None` is not.
#[allow(clippy::needless_pass_by_value, reason = "the signature of tests")]
pub(super) fn is_iterable(value: Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}
