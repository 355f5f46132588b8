//! The origin of a response's bytes.

use edge_net_core::transfer::source::origin;

#[test]
fn the_edge_names_where_it_got_the_bytes() {
    for (field, named) in [
        (None, "edge"),
        (Some(""), "edge"),
        (Some("cache;desc=\"HIT\""), "edge"),
        (Some("origin;desc=\"gcs\""), "edge:gcs"),
        (Some("origin;desc=gcs"), "edge:gcs"),
        (Some("cache;desc=\"MISS\",verify;dur=3 , origin;desc=\"gcs+ipfs\""), "edge:gcs+ipfs"),
        (Some("original;desc=\"gcs\", origin;dur=3"), "edge"),
    ] {
        assert_eq!(origin("edge", field), named, "{field:?}");
    }
}
