//! What other IPFS clients ask of us, and how it is answered: the
//! [trustless gateway](https://specs.ipfs.tech/http-gateways/trustless-gateway/) specification, for `/ipfs/{cid}`.
//!
//! Only what the client can verify is given out: a block (`raw`), or a DAG as a [`car`](crate::dag::car).

use std::fmt;
use std::ops::Range;

use cid::Cid;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::dag::car::{Duplicates, Extent};
use crate::dag::cid::{cid_text, parse_cid};
use crate::http::answer::lists;

/// Media type of a block.
pub const RAW_TYPE: &str = "application/vnd.ipld.raw";
/// Media type of an archive.
pub const CAR_TYPE: &str = "application/vnd.ipld.car";
/// The path that was asked for.
pub const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
/// The CIDs along that path.
pub const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// The CID of no bytes at all, by which clients probe whether somebody is a gateway.
const PROBE: &str = "bafkqaaa";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The block, or the root of the DAG.
    pub cid: Cid,
    /// How it is wanted.
    pub format: Format,
    /// Whether the `Accept` field had a say in that.
    negotiated: bool,
}

/// How a DAG is wanted. Exhaustive: the gateway has to answer every format it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Its root block.
    Raw,
    /// An archive.
    Car(Scope, Duplicates),
}

/// How much of a DAG is wanted: `dag-scope`, which `entity-bytes` narrows. Exhaustive, as the
/// specification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The root block.
    Block,
    /// The file: all of the DAG, as there are only files here.
    Entity,
    /// What these bytes of the file need.
    Bytes(EntityBytes),
    /// All of it.
    All,
}

/// A value of `entity-bytes`: `from:to`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    /// Counted from the end where it is negative.
    from: i64,
    /// The same; `None` is the end itself, `*`.
    to: Option<i64>,
}

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The path has no CID, or one that is written in another way than ours.
    #[error(
        "{0:?} is not a CID as it is read here: version 1, in lower-case base32, such as bafybei… or bafkrei…"
    )]
    NotACid(String),
    /// Neither `format` nor `Accept` is there.
    #[error(
        "say which format: ?format=raw (or Accept: {RAW_TYPE}) for a block, ?format=car ({CAR_TYPE}) for a DAG"
    )]
    NoFormat,
    /// `Accept` wants something else.
    #[error(
        "{0:?} is not to be had here: {RAW_TYPE} is, and {CAR_TYPE} with version=1, order=dfs or unk, dups=n or y"
    )]
    NotAcceptable(String),
    /// A parameter of the query that cannot be met.
    #[error("{name}={value} is not answered here; {name} must be {allowed}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// A block by path.
    #[error(
        "a block is asked for by its own CID: there is nothing below /ipfs/{0} with format=raw"
    )]
    BelowBlock(String),
    /// Something inside a file.
    #[error("there is nothing below {0}: only files are here, no directories")]
    BelowFile(String),
    /// Bytes that the file does not have.
    #[error("entity-bytes={asked} lies outside of the {size} bytes there are")]
    OutOfRange {
        /// What was asked for.
        asked: EntityBytes,
        /// Size of the file.
        size: u64,
    },
}

impl Refused {
    /// The status that says so.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::BelowFile(_) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl Asked {
    /// Reads a request for `path`, which is what follows `/ipfs/`, with the parameters of its query and its `Accept` field.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        path: &str,
        query: impl IntoIterator<Item = (N, V)>,
        accept: Option<&str>,
    ) -> Result<Self, Refused> {
        let (text, below) = path.split_once('/').unwrap_or((path, ""));
        // `parse_cid` takes no notice of bytes after a CID; who asks for that means something else.
        let cid = parse_cid(text)
            .filter(|cid| cid_text(cid) == text)
            .ok_or_else(|| Refused::NotACid(text.to_owned()))?;
        let query = Query::read(query);
        let (format, negotiated) = query.format(accept)?;
        match (format, below) {
            (_, "") => Ok(Self { cid, format, negotiated }),
            (Format::Raw, _) => Err(Refused::BelowBlock(text.to_owned())),
            (Format::Car(..), _) => Err(Refused::BelowFile(text.to_owned())),
        }
    }

    /// Whether this only asks whether we are a gateway (the specification's "dedicated probe paths").
    #[must_use]
    pub fn is_probe(&self) -> bool {
        cid_text(&self.cid) == PROBE
    }

    /// Whether the client said that it has the answer already (RFC 9110, section 13.1.2).
    #[must_use]
    pub fn is_unchanged(&self, fields: &HeaderMap) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let ours = opaque(&self.entity_tag());
        lists(fields, &IF_NONE_MATCH, |listed| opaque(listed) == ours)
    }

    /// The fields of an answer with or without a body.
    #[must_use]
    pub fn fields(&self) -> HeaderMap {
        let cid = cid_text(&self.cid);
        let mut fields = HeaderMap::new();
        fields
            .insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=29030400, immutable"));
        fields.insert(VARY, HeaderValue::from_static("Accept"));
        put(&mut fields, ETAG, &self.entity_tag());
        put(&mut fields, X_IPFS_PATH, &format!("/ipfs/{cid}"));
        put(&mut fields, X_IPFS_ROOTS, &cid);
        if self.negotiated {
            put(&mut fields, CONTENT_LOCATION, &format!("/ipfs/{cid}?{}", self.format));
        }
        fields
    }

    /// The fields of an answer with a body of `length` bytes.
    #[must_use]
    pub fn fields_with_body(&self, length: u64) -> HeaderMap {
        let mut fields = self.fields();
        let (media_type, extension) = match &self.format {
            Format::Raw => (RAW_TYPE.to_owned(), "bin"),
            Format::Car(_, duplicates) => {
                (format!("{CAR_TYPE}; version=1; order=dfs; dups={}", dups(*duplicates)), "car")
            }
        };
        put(&mut fields, CONTENT_TYPE, &media_type);
        put(
            &mut fields,
            CONTENT_DISPOSITION,
            &format!("attachment; filename=\"{}.{extension}\"", cid_text(&self.cid)),
        );
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        fields
    }

    /// Strong for a block; weak for an archive, which the specification does not take to be the same byte for byte.
    fn entity_tag(&self) -> String {
        let cid = cid_text(&self.cid);
        match &self.format {
            Format::Raw => format!("\"{cid}.raw\""),
            Format::Car(scope, duplicates) => {
                let scope = match scope {
                    Scope::All => String::new(),
                    Scope::Block => "block.".to_owned(),
                    Scope::Entity => "entity.".to_owned(),
                    Scope::Bytes(bytes) => format!("entity.{bytes}."),
                };
                let dups = if *duplicates == Duplicates::Each { ".dups" } else { "" };
                format!("W/\"{scope}{cid}{dups}.car\"")
            }
        }
    }
}

/// All values are made of ASCII: CIDs, digits and words of ours.
fn put(fields: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        fields.insert(name, value);
    }
}

const fn dups(duplicates: Duplicates) -> char {
    match duplicates {
        Duplicates::Once => 'n',
        Duplicates::Each => 'y',
    }
}

/// The query that asks for it, without `Accept`.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Car(scope, duplicates) = self else {
            return f.write_str("format=raw");
        };
        write!(f, "format=car&car-dups={}", dups(*duplicates))?;
        match scope {
            Scope::All => Ok(()),
            Scope::Block => f.write_str("&dag-scope=block"),
            Scope::Entity => f.write_str("&dag-scope=entity"),
            Scope::Bytes(bytes) => write!(f, "&entity-bytes={bytes}"),
        }
    }
}

impl Scope {
    /// What an archive has of a file that is the bytes `file` of an artifact.
    ///
    /// # Errors
    /// [`Refused::OutOfRange`].
    pub fn extent(self, file: &Range<u64>) -> Result<Extent, Refused> {
        match self {
            Self::Block => Ok(Extent::Block),
            Self::Entity | Self::All => Ok(Extent::All),
            Self::Bytes(asked) => {
                let size = file.end - file.start;
                let bytes = asked.resolve(size).ok_or(Refused::OutOfRange { asked, size })?;
                Ok(Extent::Bytes(file.start + bytes.start..file.start + bytes.end))
            }
        }
    }

    fn read(scope: Option<&str>, bytes: Option<&str>) -> Result<Self, Refused> {
        let bytes = bytes.map(EntityBytes::read).transpose()?;
        match (scope, bytes) {
            (None | Some("entity"), Some(bytes)) => Ok(Self::Bytes(bytes)),
            (Some("entity"), None) => Ok(Self::Entity),
            (Some("block"), None) => Ok(Self::Block),
            (None | Some("all"), None) => Ok(Self::All),
            (Some(value), Some(_)) => {
                parameter("dag-scope", value, "entity, where entity-bytes is given")
            }
            (Some(value), None) => parameter("dag-scope", value, "block, entity or all"),
        }
    }
}

impl EntityBytes {
    fn read(text: &str) -> Result<Self, Refused> {
        // `parse` alone would take a plus sign.
        let number = |digits: &str| digits.parse::<i64>().ok().filter(|_| !digits.starts_with('+'));
        let read = text.split_once(':').and_then(|(from, to)| match to {
            "*" => Some(Self { from: number(from)?, to: None }),
            _ => Some(Self { from: number(from)?, to: Some(number(to)?) }),
        });
        read.map_or_else(
            || parameter("entity-bytes", text, "from:to, two numbers, or * for the end"),
            Ok,
        )
    }

    /// The bytes of a file of `size` bytes: none where the last comes before the first, `None` where the first is not there.
    fn resolve(self, size: u64) -> Option<Range<u64>> {
        let from_end = |n: i64| size.saturating_sub(n.unsigned_abs());
        let start = u64::try_from(self.from).unwrap_or_else(|_| from_end(self.from));
        if start >= size && size > 0 {
            return None;
        }
        let end = match self.to {
            None => size,
            // Before the first byte.
            Some(to) if to < 0 && to.unsigned_abs() > size => 0,
            Some(to) => {
                u64::try_from(to).unwrap_or_else(|_| from_end(to)).saturating_add(1).min(size)
            }
        };
        Some(if start < end { start..end } else { start..start })
    }
}

impl fmt::Display for EntityBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            None => write!(f, "{}:*", self.from),
            Some(to) => write!(f, "{}:{to}", self.from),
        }
    }
}

/// The parameters of a query that mean something; the first of each name counts.
#[derive(Default)]
struct Query {
    format: Option<String>,
    scope: Option<String>,
    bytes: Option<String>,
    terms: Terms,
}

impl Query {
    fn read<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut query = Self::default();
        for (name, value) in pairs {
            let slot = match name.as_ref() {
                "format" => &mut query.format,
                "dag-scope" => &mut query.scope,
                "entity-bytes" => &mut query.bytes,
                "car-version" => &mut query.terms.version,
                "car-order" => &mut query.terms.order,
                "car-dups" => &mut query.terms.dups,
                _ => continue,
            };
            slot.get_or_insert_with(|| value.as_ref().to_owned());
        }
        query
    }

    /// The format, and whether `accept` had a say; the query has the first.
    fn format(&self, accept: Option<&str>) -> Result<(Format, bool), Refused> {
        let car = |terms: &Terms| -> Result<Format, Refused> {
            Ok(Format::Car(
                Scope::read(self.scope.as_deref(), self.bytes.as_deref())?,
                terms.duplicates()?,
            ))
        };
        let not_acceptable = |accept: &str| Refused::NotAcceptable(accept.to_owned());
        match (self.format.as_deref(), accept) {
            (Some("raw"), _) => Ok((Format::Raw, false)),
            (Some("car"), accept) => {
                self.terms.duplicates()?;
                let ranges: Vec<_> = ranges(accept.unwrap_or_default())
                    .filter(|range| range.kind == Some(Kind::Car))
                    .collect();
                if ranges.is_empty() {
                    return Ok((car(&self.terms)?, false));
                }
                let best =
                    self.best(ranges).ok_or_else(|| not_acceptable(accept.unwrap_or_default()))?;
                Ok((car(&self.terms.or(&best.terms))?, true))
            }
            (Some(other), _) => parameter("format", other, "raw or car"),
            (None, None) => Err(Refused::NoFormat),
            (None, Some(accept)) => {
                self.terms.duplicates()?;
                let best = self.best(ranges(accept)).ok_or_else(|| not_acceptable(accept))?;
                let format = match best.kind {
                    Some(Kind::Car) => car(&self.terms.or(&best.terms))?,
                    _ => Format::Raw,
                };
                Ok((format, true))
            }
        }
    }

    /// Of the media ranges that can be met, the one that is wanted most; the first of those that are wanted alike.
    fn best(&self, ranges: impl IntoIterator<Item = MediaRange>) -> Option<MediaRange> {
        let meets = |range: &MediaRange| match range.kind {
            Some(Kind::Raw) => true,
            Some(Kind::Car) => self.terms.or(&range.terms).duplicates().is_ok(),
            None => false,
        };
        let wanted = ranges.into_iter().filter(|range| range.weight > 0 && meets(range));
        wanted.reduce(|best, range| if range.weight > best.weight { range } else { best })
    }
}

/// What an archive must be like: parameters of its media type, or of the query.
#[derive(Default)]
struct Terms {
    version: Option<String>,
    order: Option<String>,
    dups: Option<String>,
}

impl Terms {
    /// These, and where they say nothing the `others`.
    fn or(&self, others: &Self) -> Self {
        let either = |ours: &Option<String>, others: &Option<String>| {
            ours.as_ref().or(others.as_ref()).cloned()
        };
        Self {
            version: either(&self.version, &others.version),
            order: either(&self.order, &others.order),
            dups: either(&self.dups, &others.dups),
        }
    }

    /// Whether duplicates are wanted, if the rest can be met.
    fn duplicates(&self) -> Result<Duplicates, Refused> {
        match self.version.as_deref() {
            None | Some("1") => {}
            Some(other) => return parameter("car-version", other, "1"),
        }
        match self.order.as_deref() {
            None | Some("dfs" | "unk") => {}
            Some(other) => return parameter("car-order", other, "dfs or unk"),
        }
        match self.dups.as_deref() {
            None | Some("n") => Ok(Duplicates::Once),
            Some("y") => Ok(Duplicates::Each),
            Some(other) => parameter("car-dups", other, "n or y"),
        }
    }
}

fn parameter<T>(name: &'static str, value: &str, allowed: &'static str) -> Result<T, Refused> {
    Err(Refused::Parameter { name, value: value.to_owned(), allowed })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    Car,
}

/// An element of an `Accept` field.
struct MediaRange {
    /// `None` where it is no type of ours. Wildcards are not: which of two formats is sent must be said.
    kind: Option<Kind>,
    /// In thousandths.
    weight: u16,
    terms: Terms,
}

/// Reads an `Accept` field (RFC 9110, section 12.5.1).
fn ranges(accept: &str) -> impl Iterator<Item = MediaRange> {
    accept.split(',').map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let kind = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            RAW_TYPE => Some(Kind::Raw),
            CAR_TYPE => Some(Kind::Car),
            _ => None,
        };
        let mut range = MediaRange { kind, weight: 1000, terms: Terms::default() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => range.weight = weight(value),
                "version" => range.terms.version = Some(value.to_owned()),
                "order" => range.terms.order = Some(value.to_owned()),
                "dups" => range.terms.dups = Some(value.to_owned()),
                _ => {}
            }
        }
        range
    })
}

/// A weight (RFC 9110, section 12.4.2) in thousandths; what is none counts as nothing.
fn weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match (whole, format!("{fraction:0<3}").parse()) {
        ("1", Ok(0)) if digits => 1000,
        ("0", Ok(thousandths)) if digits => thousandths,
        _ => 0,
    }
}
