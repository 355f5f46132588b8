//! The header `Server-Timing`: the origin of the first bytes, the part of the cache in it, and the
//! time to verify them.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The value without the time to verify. `origin` names the sources, such as `gcs+ipfs`; `cache` is
/// `hit`, `miss` or `off`.
pub fn text(origin: &str, cache: &str) -> String {
    format!("origin;desc=\"{origin}\", cache;desc={cache}")
}

/// Adds the header to `fields`. `verifying` is in milliseconds; `None` if nothing was verified (see
/// [`Subrequests::verifying`](crate::subrequests::Subrequests::verifying)).
pub fn set(fields: &mut HeaderMap, origin: &str, cache: &str, verifying: Option<u64>) {
    let mut value = text(origin, cache);
    if let Some(milliseconds) = verifying {
        value.push_str(", verify;dur=");
        value.push_str(&milliseconds.to_string());
    }
    if let Ok(value) = HeaderValue::from_str(&value) {
        fields.insert(HeaderName::from_static("server-timing"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(origin: &str, cache: &str, verifying: Option<u64>) -> Option<String> {
        let mut fields = HeaderMap::new();
        set(&mut fields, origin, cache, verifying);
        fields.get("Server-Timing").map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_time_to_verify_is_there_only_if_something_was_verified() {
        let hit = value("gcs+ipfs", "hit", None).unwrap();
        assert_eq!(hit, "origin;desc=\"gcs+ipfs\", cache;desc=hit");
        let miss = value("gcs", "miss", Some(12)).unwrap();
        assert_eq!(miss, "origin;desc=\"gcs\", cache;desc=miss, verify;dur=12");
    }

    #[test]
    fn an_origin_cannot_inject_a_header() {
        assert_eq!(value("gcs\r\nset-cookie: a=b", "hit", None), None);
    }
}
