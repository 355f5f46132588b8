//! The origin of a response's bytes.

use edge_net_core::dag::digest::Digest;
use edge_net_core::transfer::source::{leaf_url, origin};

#[test]
fn leaves_are_blocks_of_gateways_only() {
    let leaf = Digest::of(b"");
    let root = "bafybeidbwwzlkzd2rpf7trpsx35bxd7sgjr54oox26fufvra5gqdvhiblu";
    assert_eq!(
        leaf_url(&format!("https://gateway.example/ipfs/{root}"), &leaf).unwrap(),
        "https://gateway.example/ipfs/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku\
         ?format=raw"
    );
    assert_eq!(leaf_url("https://bucket.example/m/v1.0.0/model.onnx", &leaf), None);
}

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
