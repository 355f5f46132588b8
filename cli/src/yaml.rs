//! The YAML of the configuration file: reads settings with their line numbers, and changes one
//! setting without touching comments and layout.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// The text of a setting, before its type parses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// A scalar.
    One(String),
    /// A sequence of scalars.
    Many(Vec<String>),
}

/// A setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub raw: Raw,
    /// The line of its value, from 1.
    pub line: usize,
}

/// A file that is not a list of settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadYaml {
    /// The line of the fault, from 1.
    pub line: usize,
    /// The fault.
    pub problem: String,
}

impl From<ScanError> for BadYaml {
    fn from(error: ScanError) -> Self {
        Self { line: error.marker().line(), problem: format!("not YAML: {}", error.info()) }
    }
}

fn bad<T>(span: Span, problem: impl Into<String>) -> Result<T, BadYaml> {
    Err(BadYaml { line: span.start.line(), problem: problem.into() })
}

/// The deepest nesting of settings.
const MAX_DEPTH: usize = 4;

/// Reads the settings of a file by name, `section.key`. Scalars stay text: the type of a setting
/// decides how its text is parsed.
///
/// # Errors
/// [`BadYaml`] when the text is not YAML, is not a mapping of names to scalars or lists, sets a
/// name twice, or nests deeper than four levels.
pub fn read(text: &str) -> Result<BTreeMap<String, Entry>, BadYaml> {
    let mut events = Parser::new_from_str(text);
    let mut entries = BTreeMap::new();
    let mut documents = 0;
    while let Some(event) = events.next() {
        match event? {
            (Event::MappingStart(..), _) => mapping(&mut events, &[], &mut entries)?,
            // An empty file, or one of comments only.
            (Event::Scalar(value, ..), _) if matches!(&*value, "" | "~" | "null") => {}
            (Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_), span) => {
                return bad(span, "the file must be a list of `key: value`");
            }
            (Event::DocumentStart(_), span) => {
                documents += 1;
                if documents > 1 {
                    return bad(span, "the file must be one YAML document");
                }
            }
            _ => {}
        }
    }
    Ok(entries)
}

/// Reads a mapping, whose start was read already, into `entries`.
fn mapping<'a>(
    events: &mut impl Iterator<Item = Result<(Event<'a>, Span), ScanError>>,
    above: &[String],
    entries: &mut BTreeMap<String, Entry>,
) -> Result<(), BadYaml> {
    while let Some(event) = events.next() {
        let key = match event? {
            (Event::MappingEnd, _) => break,
            (Event::Scalar(key, ..), _) => key.into_owned(),
            (_, span) => return bad(span, "a key must be a word"),
        };
        let path = [above, &[key]].concat();
        let name = path.join(".");
        let Some(value) = events.next() else { break };
        let (raw, span) = match value? {
            // Nothing but comments below the key: it is not set.
            (Event::Scalar(value, ScalarStyle::Plain, ..), _)
                if matches!(&*value, "" | "~" | "null" | "Null" | "NULL") =>
            {
                continue;
            }
            (Event::Scalar(value, ..), span) => (Raw::One(value.into_owned()), span),
            (Event::SequenceStart(..), span) => (Raw::Many(sequence(events, &name)?), span),
            (Event::MappingStart(..), span) if path.len() >= MAX_DEPTH => {
                return bad(span, format!("{name} is nested too deeply"));
            }
            (Event::MappingStart(..), _) => {
                mapping(events, &path, entries)?;
                continue;
            }
            (_, span) => {
                return bad(span, format!("{name}: anchors and aliases are not supported"));
            }
        };
        let entry = Entry { raw, line: span.start.line() };
        if let Some(first) = entries.get(&name) {
            return bad(
                span,
                format!("{name} is set a second time (first on line {})", first.line),
            );
        }
        entries.insert(name, entry);
    }
    Ok(())
}

/// Reads a sequence of scalars, whose start was read already.
fn sequence<'a>(
    events: &mut impl Iterator<Item = Result<(Event<'a>, Span), ScanError>>,
    name: &str,
) -> Result<Vec<String>, BadYaml> {
    let mut items = Vec::new();
    for event in events {
        match event? {
            (Event::SequenceEnd, _) => break,
            (Event::Scalar(item, ..), _) => items.push(item.into_owned()),
            (_, span) => return bad(span, format!("{name} must be a list of plain values")),
        }
    }
    Ok(items)
}

/// Returns the text with the setting `path` (a key, or a section and a key) set to `raw` and all
/// other text unchanged. `None` when the file uses a notation that this editor does not know.
#[must_use]
pub fn set(text: &str, path: &[&str], raw: &Raw) -> Option<String> {
    // Each line with its end: CR and LF stay where they are.
    let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let written = |key: &str, raw: &Raw, indent: usize| -> Vec<String> {
        written(key, raw, indent).into_iter().map(|line| line + end).collect()
    };
    if let Some(last) = lines.last_mut().filter(|last| !last.ends_with('\n')) {
        last.push_str(end);
    }
    match path {
        [key] => match item(&lines, 0..lines.len(), key, 0) {
            Some(at) => drop(lines.splice(at, written(key, raw, 0))),
            None => lines.extend(written(key, raw, 0)),
        },
        [section, key] => {
            if let Some(whole) = item(&lines, 0..lines.len(), section, 0) {
                let body = whole.start + 1..whole.end;
                let indent = body
                    .clone()
                    .map(|at| &lines[at])
                    .find(|line| is_content(line))
                    .map_or(2, |line| indent_of(line));
                match item(&lines, body.clone(), key, indent) {
                    Some(at) => drop(lines.splice(at, written(key, raw, indent))),
                    None => drop(lines.splice(body.start..body.start, written(key, raw, indent))),
                }
            } else {
                lines.push(format!("{section}:{end}"));
                lines.extend(written(key, raw, 2));
            }
        }
        _ => return None,
    }
    let changed = lines.concat();
    // Parse the result: it must differ in this one setting only.
    let values = |text: &str| {
        Some(
            read(text)
                .ok()?
                .into_iter()
                .map(|(name, entry)| (name, entry.raw))
                .collect::<BTreeMap<String, Raw>>(),
        )
    };
    let mut wanted = values(text)?;
    wanted.insert(path.join("."), raw.clone());
    (values(&changed)? == wanted).then_some(changed)
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    !matches!(line.trim_start().chars().next(), None | Some('#'))
}

/// Returns the lines of the item `key` at this indentation, from its key to its last line.
fn item(
    lines: &[String],
    within: std::ops::Range<usize>,
    key: &str,
    indent: usize,
) -> Option<std::ops::Range<usize>> {
    let is_key = |line: &String| {
        let rest = line
            .get(indent..)
            .filter(|_| indent_of(line) == indent)
            .and_then(|rest| rest.strip_prefix(key));
        rest.and_then(|rest| rest.strip_prefix(':'))
            .is_some_and(|rest| rest.starts_with([' ', '\r', '\n']))
    };
    let start = within.clone().find(|at| is_key(&lines[*at]))?;
    let belongs = |at: &usize| {
        let line = &lines[*at];
        // YAML allows the items of a sequence at the indentation of their key.
        is_content(line) && (indent_of(line) > indent || line.trim_start().starts_with("- "))
    };
    let end = (start + 1..within.end)
        .take_while(|at| !is_content(&lines[*at]) || belongs(at))
        .filter(belongs)
        .last();
    Some(start..end.map_or(start + 1, |last| last + 1))
}

/// Returns the lines of a setting.
fn written(key: &str, raw: &Raw, indent: usize) -> Vec<String> {
    let pad = " ".repeat(indent);
    match raw {
        Raw::One(value) => vec![format!("{pad}{key}: {}", scalar(value))],
        Raw::Many(items) if items.is_empty() => vec![format!("{pad}{key}: []")],
        Raw::Many(items) => {
            let items = items.iter().map(|item| format!("{pad}  - {}", scalar(item)));
            std::iter::once(format!("{pad}{key}:")).chain(items).collect()
        }
    }
}

/// Returns a scalar in YAML notation, quoted where the plain form could mean something else.
fn scalar(value: &str) -> String {
    let path = value.strip_prefix('~').filter(|path| path.starts_with('/')).unwrap_or(value);
    let plain =
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./:~+=-".contains(&byte))
            && path.starts_with(|first: char| {
                first.is_ascii_alphanumeric() || first == '/' || first == '.'
            })
            && !path.ends_with(':');
    if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::{Raw, read, set};

    const FILE: &str = "\
# mine
version: 1

cache:
  # large
  directory: ~/models # here
  maxSize: 10GB

ipfs:
  gateways:
    - https://a/ipfs/
    - https://b/ipfs/
  parallel: 4
";

    fn one(text: &str) -> Raw {
        Raw::One(text.into())
    }

    #[test]
    fn settings_are_read_with_their_lines() {
        let entries = read(FILE).unwrap();
        assert_eq!(
            (&entries["cache.maxSize"].raw, entries["cache.maxSize"].line),
            (&one("10GB"), 7)
        );
        assert_eq!(
            entries["ipfs.gateways"].raw,
            Raw::Many(vec!["https://a/ipfs/".into(), "https://b/ipfs/".into()])
        );
        assert!(read("# nothing\n").unwrap().is_empty());
        for (text, line, problem) in [
            ("a: 1\na: 2\n", 2, "a is set a second time (first on line 1)"),
            ("- a\n", 1, "the file must be a list of `key: value`"),
            ("a:\n  b: [1, {c: 2}]\n", 2, "a.b must be a list of plain values"),
            ("a: {b: {c: {d: {e: 1}}}}\n", 1, "a.b.c.d is nested too deeply"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem), "{text}");
        }
        assert!(read("a: [1\nb: 2\n").unwrap_err().problem.starts_with("not YAML: "));
    }

    #[test]
    fn one_setting_changes_and_all_else_stays() {
        let changed = set(FILE, &["cache", "maxSize"], &one("20GB")).unwrap();
        assert_eq!(changed, FILE.replace("10GB", "20GB"));
        let changed =
            set(FILE, &["ipfs", "gateways"], &Raw::Many(vec!["https://c/ipfs/".into()])).unwrap();
        assert_eq!(
            changed,
            FILE.replace(
                "    - https://a/ipfs/\n    - https://b/ipfs/\n",
                "    - https://c/ipfs/\n"
            )
        );
        assert_eq!(
            set(FILE, &["defaultSource"], &one("ipfs")).unwrap(),
            format!("{FILE}defaultSource: ipfs\n")
        );
        assert_eq!(
            set(FILE, &["cdn", "retries"], &one("5")).unwrap(),
            format!("{FILE}cdn:\n  retries: 5\n")
        );
        assert!(
            set(FILE, &["ipfs", "timeout"], &one("9"))
                .unwrap()
                .contains("ipfs:\n  timeout: 9\n  gateways:")
        );
        assert_eq!(
            set(&FILE.replace('\n', "\r\n"), &["cache", "maxSize"], &one("20GB")).unwrap(),
            FILE.replace("10GB", "20GB").replace('\n', "\r\n")
        );
        let empty = "cache:\n  # maxSize: 1GB\nipfs:\n  timeout: ~\n";
        assert!(read(empty).unwrap().is_empty());
        assert_eq!(
            set(empty, &["cache", "maxSize"], &one("2GB")).unwrap(),
            empty.replace("cache:\n", "cache:\n  maxSize: 2GB\n")
        );
        assert_eq!(
            set("", &["signing", "keyId"], &one("x: y")).unwrap(),
            "signing:\n  keyId: \"x: y\"\n"
        );
        for (value, written) in
            [("~/a", "~/a"), ("~/a:", "\"~/a:\""), ("~/a\t#b", "\"~/a\\t#b\""), ("~", "\"~\"")]
        {
            let changed = set("", &["directory"], &one(value));
            assert_eq!(changed, Some(format!("directory: {written}\n")));
        }
        // A notation that the editor does not know is left alone.
        assert_eq!(set("cache: {maxSize: 1GB}\n", &["cache", "maxSize"], &one("2GB")), None);
    }
}
