//! Requests of IPFS clients.

use std::ops::Range;

use edge_net_core::dag::car::Extent;
use edge_net_core::dag::cid::cid_text;
use edge_net_core::http::gateway::{Asked, Format, Refused, Scope};
use edge_net_core::trust::manifest::MAX_SIZE;
use http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use http::{HeaderMap, StatusCode};

/// Input: four lines, of which the last three may be absent: what follows `/ipfs/`, the query, the
/// value of `Accept` (none where it is empty), and the size of the file.
///
/// - A request that is read names the CID as it was written.
/// - `Content-Location`, read again without `Accept`, is the same request.
/// - The ETag of a response makes `If-None-Match` true.
/// - The bytes of an `entity-bytes` are those of the specification, and lie within the file.
/// - A refusal has a status of a client error and a text.
///
/// # Panics
/// When a property does not hold.
pub fn gateway(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let path = lines.next().unwrap_or_default();
    let query = lines.next().unwrap_or_default();
    let accept = lines.next().filter(|accept| !accept.is_empty());
    let size = lines.next().and_then(|size| size.parse::<u64>().ok());
    match Asked::read(path, pairs(query), accept) {
        Ok(asked) => {
            assert_eq!(cid_text(&asked.cid), path.split('/').next().unwrap_or_default());
            assert_fields(&asked, accept);
            if let Format::Car(scope, _) = asked.format {
                assert_extent(scope, size.unwrap_or(1000).min(MAX_SIZE));
            }
        }
        Err(refused) => {
            assert!(refused.status().is_client_error());
            assert!(!refused.to_string().is_empty());
        }
    }
}

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn assert_fields(asked: &Asked, accept: Option<&str>) {
    let fields = asked.fields_with_body(5);
    for name in [ETAG, CONTENT_TYPE, CONTENT_DISPOSITION, CONTENT_LENGTH] {
        assert!(fields.contains_key(&name), "{name} is missing");
    }
    let mut again = HeaderMap::new();
    assert_eq!(asked.refusal(&again), None);
    again.insert(IF_NONE_MATCH, fields[ETAG].clone());
    assert_eq!(asked.refusal(&again), Some(StatusCode::NOT_MODIFIED));
    let Some(location) = fields.get(CONTENT_LOCATION) else { return };
    assert!(accept.is_some(), "nothing was negotiated");
    let location = location.to_str().expect("it is ASCII");
    let (path, query) = location.split_once('?').expect("it names the format");
    let path = path.strip_prefix("/ipfs/").expect("it is a path of the gateway");
    let located = Asked::read(path, pairs(query), None).expect("a location can be asked for");
    assert_eq!((located.cid, located.format), (asked.cid, asked.format));
    assert!(!located.fields().contains_key(CONTENT_LOCATION));
}

fn assert_extent(scope: Scope, size: u64) {
    let file = 262_144..262_144 + size;
    let expected = match scope {
        Scope::Block => Ok(Extent::Block),
        Scope::All | Scope::Entity => Ok(Extent::All),
        Scope::Bytes(bytes) => resolve(&bytes.to_string(), size)
            .map(|bytes| Extent::Bytes(file.start + bytes.start..file.start + bytes.end))
            .ok_or(Refused::OutOfRange { asked: bytes, size }),
    };
    assert_eq!(scope.extent(&file), expected);
}

/// What `from:to` says of a file of `size` bytes, by the trustless gateway specification.
fn resolve(text: &str, size: u64) -> Option<Range<u64>> {
    let size = i128::from(size);
    let (from, to) = text.split_once(':').expect("it is written with a colon");
    let from: i128 = from.parse().expect("it starts with a number");
    let start = if from < 0 { (size + from).max(0) } else { from };
    if start >= size && size > 0 {
        return None;
    }
    let end = match to {
        "*" => size,
        to => match to.parse::<i128>().expect("it ends with a number") {
            to if to < 0 => (size + to + 1).max(0),
            to => (to + 1).min(size),
        },
    };
    let bytes = |n: i128| u64::try_from(n).expect("it is a position in the file");
    Some(bytes(start)..bytes(end.max(start)))
}
