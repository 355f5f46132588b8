//! Names that every file system, URL and client can hold.
//!
//! A manifest is refused, when it is made and when it is read, if one of its files cannot be stored
//! beside the others on Linux, macOS and Windows. Names are ASCII, so Unicode normalisation cannot
//! change them. `/` separates parts; a backslash is no separator and not allowed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use semver::Version;

/// The longest part of a file name in bytes. File systems allow 255; `.leaves` and the name of an
/// unfinished file take some of these.
pub const MAX_PART: usize = 200;
/// The longest file name in bytes.
const MAX_FILENAME: usize = 512;
/// The longest version in bytes: it is part of URLs and folders.
pub const MAX_VERSION: usize = 128;
/// Names that Windows keeps for devices, with any extension; with a digit after them, COM and LPT.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
const PORTS: [&str; 2] = ["com", "lpt"];

/// Whether `id` can be the identifier of a model.
#[must_use]
pub fn is_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    (1..=128).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b))
        && is_windows_name(id)
}

/// Whether `filename` can be the path of an artifact: it must not leave its folder, be hidden, or
/// collide with names that are reserved here or by Windows.
#[must_use]
pub fn is_filename(filename: &str) -> bool {
    let is_version =
        |part: &str| part.strip_prefix('v').is_some_and(|version| Version::parse(version).is_ok());
    let (folders, name) = filename.rsplit_once('/').unwrap_or(("", filename));
    let is_free = |folder: &str| !is_ours(folder) && !has_leaves_suffix(folder);
    filename.len() <= MAX_FILENAME
        && filename.split('/').all(is_part)
        && (folders.is_empty() || folders.split('/').all(is_free))
        && !is_ours(filename)
        && !has_leaves_suffix(name)
        && !folders.split('/').next().is_some_and(is_version)
}

fn is_part(part: &str) -> bool {
    (1..=MAX_PART).contains(&part.len())
        && !part.starts_with('.')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && is_windows_name(part)
}

/// Windows drops a dot at the end, and opens a device instead of `nul.txt`.
fn is_windows_name(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    let is = |name: &str, text: &str| name.eq_ignore_ascii_case(text);
    let is_port = stem.len() == 4
        && stem.ends_with(|last: char| last.is_ascii_digit())
        && PORTS.iter().any(|port| is(port, &stem[..3]));
    !part.ends_with('.') && !is_port && !DEVICES.iter().any(|device| is(device, stem))
}

/// Whether a path is that of the manifest.
fn is_ours(path: &str) -> bool {
    path.eq_ignore_ascii_case("manifest.json")
}

/// Whether a name is that of a leaf table.
fn has_leaves_suffix(name: &str) -> bool {
    let suffix = ".leaves";
    name.len() >= suffix.len()
        && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

/// Two names that one folder cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clash {
    /// They are equal, or differ in case only.
    Same(String),
    /// One is a folder for the other.
    Folder(String),
}

/// The names of a manifest so far.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<String, (String, bool)>);

impl Names {
    /// Adds a file name, or says what it clashes with.
    pub(crate) fn add(&mut self, filename: &str) -> Result<(), Clash> {
        let folders = filename.match_indices('/').map(|(at, _)| (&filename[..at], true));
        for (path, is_folder) in folders.chain([(filename, false)]) {
            match self.0.entry(path.to_ascii_lowercase()) {
                Entry::Vacant(free) => drop(free.insert((path.to_owned(), is_folder))),
                Entry::Occupied(taken) => match taken.get() {
                    (known, true) if is_folder && known == path => {}
                    (known, folder) if *folder == is_folder => {
                        return Err(Clash::Same(known.clone()));
                    }
                    (known, _) => return Err(Clash::Folder(known.clone())),
                },
            }
        }
        Ok(())
    }
}
