//! Promises of the crate's types: `Send`, `Sync`, and no secrets in `Debug`.

use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::blocks::Blocks;
use edge_net_core::dag::car::{Car, Stretch};
use edge_net_core::dag::hasher::FileHasher;
use edge_net_core::dag::verify::{Bytes, Hashed, LeafTable, VerifiedLeaves};
use edge_net_core::dag::walk::Walk;
use edge_net_core::http::gcs::{HmacKey, ServiceAccount};
use edge_net_core::http::link::LinkKeys;
use edge_net_core::transfer::download::{Action, Config, Download, Event};
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest};

/// Compiles only for types that threads can share.
fn is_shared<T: Send + Sync>() {}

#[test]
fn threads_can_share_everything() {
    is_shared::<Download<Arc<[u8]>>>();
    is_shared::<(Event<Arc<[u8]>>, Action<Arc<[u8]>>, Config)>();
    is_shared::<(LeafTable, Hashed<Arc<[u8]>>, VerifiedLeaves<Arc<[u8]>>)>();
    is_shared::<(Blocks, Car, Stretch, FileHasher, Walk)>();
    is_shared::<(PinnedKeys, VerifiedManifest)>();
    is_shared::<(LinkKeys, HmacKey, ServiceAccount)>();
}

/// Bytes that cannot leave their thread, as values of JavaScript cannot.
#[derive(Debug, Clone)]
struct OnOneThread(Rc<[u8]>);

impl Bytes for OnOneThread {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn slice(&self, range: std::ops::Range<u64>) -> Self {
        let at = |n: u64| usize::try_from(n).unwrap();
        Self(self.0[at(range.start)..at(range.end)].into())
    }
}

#[test]
fn the_machine_takes_bytes_that_stay_on_their_thread() {
    let empty = edge_net_core::dag::unixfs::root(&[], 0);
    let table = LeafTable::of_single_leaf(0, &empty).unwrap();
    let download = Download::<OnOneThread>::new(table, Vec::new(), Config::default()).unwrap();
    assert!(download.is_idle());
}

#[test]
fn secrets_are_not_shown() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=";
    let keys = format!(r#"{{"current": "a", "keys": {{"a": "{secret}"}}}}"#);
    let pem = format!("-----BEGIN PRIVATE KEY-----{secret}-----END PRIVATE KEY-----");
    let account = format!(r#"{{"client_email": "a", "private_key": "{pem}"}}"#);
    for (shown, whole) in [
        (
            format!("{:?}", LinkKeys::parse(&keys).unwrap()),
            "LinkKeys { current: \"a\", ids: [\"a\"], .. }",
        ),
        (
            format!("{:?}", ServiceAccount::parse(&account).unwrap()),
            "ServiceAccount { client_email: \"a\", .. }",
        ),
        (
            format!("{:?}", HmacKey { access_id: "a".into(), secret: secret.into() }),
            "HmacKey { access_id: \"a\", .. }",
        ),
    ] {
        assert_eq!(shown, whole);
    }
}
