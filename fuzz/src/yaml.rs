//! Configuration files: the reader of the command line tool, and its editor of one setting.

use std::collections::BTreeMap;

use serde_json::Value;

// The file alone: with the whole tool, libFuzzer's build would compile its TLS and its inference.
#[path = "../../cli/src/yaml.rs"]
mod source;

use source::{Raw, read, set};

/// Input: the name of a setting, `key` or `section.key`, a line feed, its value as a JSON string or
/// an array of strings, a line feed, and a configuration file.
///
/// - The lines of settings and of errors lie within the file.
/// - A setting that was set is read as its value, and all other settings as before.
/// - In a file without carriage returns, to set it again changes nothing, and all comments outside
///   of the setting stay.
/// - Any setting can be set in an empty file.
///
/// # Panics
/// When a property does not hold.
pub fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let (Some(name), Some(value)) = (lines.next(), lines.next()) else { return };
    let file = lines.next().unwrap_or_default();
    assert_lines(file);
    let (Some(path), Some(raw)) = (path(name), raw(value)) else { return };
    let fresh = set("", &path, &raw).expect("an empty file takes any setting");
    assert_eq!(settings(&fresh), Some(BTreeMap::from([(name.to_owned(), raw.clone())])));
    let Some(changed) = set(file, &path, &raw) else { return };
    let mut expected = settings(file).expect("only a readable file is changed");
    expected.insert(name.to_owned(), raw.clone());
    assert_eq!(settings(&changed), Some(expected));
    // The editor turns all line ends into line feeds.
    if !file.contains('\r') {
        assert_eq!(set(&changed, &path, &raw).as_ref(), Some(&changed));
        assert_rest_stays(file, &changed);
    }
}

fn assert_lines(file: &str) {
    // YAML ends lines at carriage returns too, and a value that is not there stands after the end.
    let lines = file.split(['\n', '\r']).count() + 1;
    match read(file) {
        Ok(entries) => {
            for (name, entry) in entries {
                assert!((1..=lines).contains(&entry.line), "{name} is on line {}", entry.line);
            }
        }
        Err(bad) => assert!(bad.line <= lines, "{bad} of {lines}"),
    }
}

/// One block of lines was replaced; the lines before and after it are as they were.
fn assert_rest_stays(file: &str, changed: &str) {
    let (old, new): (Vec<&str>, Vec<&str>) = (file.lines().collect(), changed.lines().collect());
    let same = |pair: &(&&str, &&str)| pair.0 == pair.1;
    let before = old.iter().zip(&new).take_while(same).count();
    let after = old[before..].iter().rev().zip(new[before..].iter().rev()).take_while(same).count();
    let (old, new) = (&old[before..old.len() - after], &new[before..new.len() - after]);
    // The lines that went are of one setting: its key, then items, comments and empty lines.
    let keys = |lines: &[&str]| {
        let is_key =
            |line: &&&str| !line.trim_start().starts_with(['-', '#']) && line.contains(':');
        lines.iter().filter(is_key).count()
    };
    assert!(keys(new) <= 2, "more than a section and its key were written: {new:?}");
    if let Some(first) = old.first() {
        assert!(!first.trim_start().starts_with('#'), "the comment {first:?} went");
    }
}

fn settings(file: &str) -> Option<BTreeMap<String, Raw>> {
    let entries = read(file).ok()?;
    Some(entries.into_iter().map(|(name, entry)| (name, entry.raw)).collect())
}

fn path(name: &str) -> Option<Vec<&str>> {
    let path: Vec<&str> = name.split('.').collect();
    let is_key = |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic());
    (path.len() <= 2 && path.iter().all(is_key)).then_some(path)
}

fn raw(json: &str) -> Option<Raw> {
    match serde_json::from_str(json).ok()? {
        Value::String(value) => Some(Raw::One(value)),
        Value::Array(items) => {
            let item = |item: Value| item.as_str().map(str::to_owned);
            items.into_iter().map(item).collect::<Option<_>>().map(Raw::Many)
        }
        _ => None,
    }
}
