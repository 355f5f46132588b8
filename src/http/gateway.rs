//! Requests of IPFS clients for `/ipfs/{cid}`, as the [trustless
//! gateway](https://specs.ipfs.tech/http-gateways/trustless-gateway/) specification says.
//!
//! A gateway serves only what the client can verify: a block (`raw`), or a DAG as a
//! [CAR](crate::dag::car).

use std::fmt;
use std::ops::Range;

use cid::Cid;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::dag::car::{Duplicates, Extent};
use crate::dag::cid::{cid_text, parse_cid};
use crate::http::precondition;

/// Media type of a block.
pub const RAW_TYPE: &str = "application/vnd.ipld.raw";
/// Media type of a CAR.
pub const CAR_TYPE: &str = "application/vnd.ipld.car";
/// The requested path.
pub const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
/// The CIDs along that path.
pub const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

/// The CID of no bytes, with which clients probe for a gateway.
const PROBE: &str = "bafkqaaa";

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The block, or the root of the DAG.
    pub cid: Cid,
    /// The requested format.
    pub format: Format,
    /// Whether the `Accept` field decided the format.
    negotiated: bool,
}

/// The format of a response. Exhaustive: a gateway has to serve every format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The root block.
    Raw,
    /// A CAR.
    Car(Scope, Duplicates),
}

/// The requested part of a DAG: `dag-scope`, which `entity-bytes` narrows. Exhaustive, as the
/// specification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The root block.
    Block,
    /// The file. That is the whole DAG: a model has no directories.
    Entity,
    /// The blocks that are needed to verify these bytes of the file.
    Bytes(EntityBytes),
    /// The whole DAG.
    All,
}

/// The value of `entity-bytes`: `from:to`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    /// The first byte; a negative number counts from the end.
    from: i64,
    /// The last byte; a negative number counts from the end, and `None` is the end (`*`).
    to: Option<i64>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The path has no CID, or one in an unsupported notation.
    #[error(
        "{0:?} is not a supported CID: it must be version 1 in lower-case base32, such as \
         bafybei… or bafkrei…"
    )]
    NotACid(String),
    /// Neither `format` nor `Accept` names a format.
    #[error(
        "the request names no format: use ?format=raw (or Accept: {RAW_TYPE}) for a block, \
         ?format=car ({CAR_TYPE}) for a DAG"
    )]
    NoFormat,
    /// `Accept` allows no supported format.
    #[error(
        "{0:?} is not available; {RAW_TYPE} is, and {CAR_TYPE} with version=1, order=dfs or unk, \
         dups=n or y"
    )]
    NotAcceptable(String),
    /// A parameter of the query is not supported.
    #[error("{name}={value} is not supported; {name} must be {allowed}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// The supported values.
        allowed: &'static str,
    },
    /// The request names a block by a path below another block.
    #[error(
        "a block has to be requested by its own CID: format=raw serves no path below /ipfs/{0}"
    )]
    BelowBlock(String),
    /// The request names a path below a file.
    #[error("{0} has no path below it: this gateway serves files, not directories")]
    BelowFile(String),
    /// The file does not have the requested bytes.
    #[error("entity-bytes={asked} is outside the {size} bytes of the file")]
    OutOfRange {
        /// The requested bytes.
        asked: EntityBytes,
        /// Size of the file in bytes.
        size: u64,
    },
}

impl Refused {
    /// The status of the response.
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
    /// Parses a request: `path` is the part after `/ipfs/`, `query` has the decoded parameters, and
    /// `accept` is the `Accept` field.
    ///
    /// # Errors
    /// [`Refused`] says why the request is refused.
    pub fn read<N: AsRef<str>, V: AsRef<str>>(
        path: &str,
        query: impl IntoIterator<Item = (N, V)>,
        accept: Option<&str>,
    ) -> Result<Self, Refused> {
        let (text, below) = path.split_once('/').unwrap_or((path, ""));
        // `parse_cid` ignores bytes after a CID; text with such bytes is not a CID.
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

    /// Whether this is a probe for a gateway (the specification's "dedicated probe paths").
    #[must_use]
    pub fn is_probe(&self) -> bool {
        cid_text(&self.cid) == PROBE
    }

    /// The status of the response if the request's preconditions do not hold, such as when the
    /// client already has it: see [`precondition::refusal`].
    #[must_use]
    pub fn refusal(&self, fields: &HeaderMap) -> Option<StatusCode> {
        precondition::refusal(fields, &self.entity_tag())
    }

    /// The header fields of every response.
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

    /// The header fields of a response with a body of `length` bytes.
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

    /// Strong for a block. Weak for a CAR, which the specification does not require to be the same
    /// byte for byte.
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

/// Sets a field. All values are ASCII: CIDs, digits and fixed words.
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

/// The query that requests the format without `Accept`.
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
    /// The extent of a CAR of a file; `file` is the file's byte range in an artifact.
    ///
    /// # Errors
    /// [`Refused::OutOfRange`] when the file does not have the requested bytes.
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
        // `parse` alone would accept a plus sign.
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

    /// The byte range in a file of `size` bytes: empty when the last byte is before the first,
    /// `None` when the file does not have the first.
    fn resolve(self, size: u64) -> Option<Range<u64>> {
        let from_end = |n: i64| size.saturating_sub(n.unsigned_abs());
        let start = u64::try_from(self.from).unwrap_or_else(|_| from_end(self.from));
        if start >= size && size > 0 {
            return None;
        }
        let end = match self.to {
            None => size,
            // The last byte is before the file.
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

/// The known parameters of a query; the first of each name counts.
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

    /// The format, and whether `accept` decided it; the query has precedence.
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

    /// The supported media range with the highest weight; the first of several.
    fn best(&self, ranges: impl IntoIterator<Item = MediaRange>) -> Option<MediaRange> {
        let supported = |range: &MediaRange| match range.kind {
            Some(Kind::Raw) => true,
            Some(Kind::Car) => self.terms.or(&range.terms).duplicates().is_ok(),
            None => false,
        };
        let wanted = ranges.into_iter().filter(|range| range.weight > 0 && supported(range));
        wanted.reduce(|best, range| if range.weight > best.weight { range } else { best })
    }
}

/// Parameters of a CAR, from its media type or from the query.
#[derive(Default)]
struct Terms {
    version: Option<String>,
    order: Option<String>,
    dups: Option<String>,
}

impl Terms {
    /// These parameters, completed by the `others`.
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

    /// How often repeated blocks are sent; an error when another parameter is not supported.
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
    /// `None` for other types. Wildcards are other types: the client has to choose a format.
    kind: Option<Kind>,
    /// In thousandths.
    weight: u16,
    terms: Terms,
}

/// Parses an `Accept` field (RFC 9110, section 12.5.1).
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

/// Parses a weight (RFC 9110, section 12.4.2) in thousandths; a malformed weight is 0.
fn weight(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|digit| digit.is_ascii_digit());
    match (whole, format!("{fraction:0<3}").parse()) {
        ("1", Ok(0)) if digits => 1000,
        ("0", Ok(thousandths)) if digits => thousandths,
        _ => 0,
    }
}
