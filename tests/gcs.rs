//! Signed URLs of Cloud Storage.

use std::time::Duration;

use edge_net_core::http::gcs::{HmacKey, MAX_LIFETIME, ServiceAccount, SigningError};
use edge_net_core::time::UnixTime;
use proptest::prelude::*;
use serde_json::json;

const URL: &str =
    "https://storage.googleapis.com/edge-net-models/minilm-l6-v2-q8/v1.0.0/model.onnx";

fn account(email: &str) -> ServiceAccount {
    let key = "-----BEGIN PRIVATE KEY-----\nAQID\nBA==\n-----END PRIVATE KEY-----\n";
    ServiceAccount::parse(&json!({ "client_email": email, "private_key": key }).to_string())
        .unwrap()
}

/// The text that @google-cloud/storage 7.22.0 (`getSignedUrl`, version v4) passes to its signer,
/// and the URL that it returns for the signature 1, 2, 3, 4.
#[test]
fn it_signs_what_googles_library_signs() {
    let vectors = [
        (
            URL,
            "edge@project.iam.gserviceaccount.com",
            UnixTime::from_secs(1_921_705_172),
            Duration::from_hours(12),
            "GOOG4-RSA-SHA256\n20301123T225932Z\n20301123/auto/storage/goog4_request\n\
             8a018b82a4655258aec22bfe0eb164dfd7024da32eaf687566a1cb92988ca50c",
            "https://storage.googleapis.com/edge-net-models/minilm-l6-v2-q8/v1.0.0/model.onnx?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=edge%40project.iam.gserviceaccount.com%2F20301123%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20301123T225932Z&X-Goog-Expires=43200&X-Goog-SignedHeaders=host&X-Goog-Signature=01020304",
        ),
        (
            "https://storage.googleapis.com/b/a%20b/%C3%BC%2B~%28x%29.bin",
            "a+b@c",
            UnixTime::from_secs(1_835_395_200),
            MAX_LIFETIME,
            "GOOG4-RSA-SHA256\n20280229T000000Z\n20280229/auto/storage/goog4_request\n\
             1f6d9b8eda8292d94f8f78735d34c25e4f23f1b97761d6fb085d0cb8e86ffe68",
            "https://storage.googleapis.com/b/a%20b/%C3%BC%2B~%28x%29.bin?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a%2Bb%40c%2F20280229%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20280229T000000Z&X-Goog-Expires=604800&X-Goog-SignedHeaders=host&X-Goog-Signature=01020304",
        ),
        (
            "https://storage.googleapis.com/bucket.example/model.onnx.leaves",
            "x@y",
            UnixTime::from_secs(4_102_444_799),
            MAX_LIFETIME,
            "GOOG4-RSA-SHA256\n20991231T235959Z\n20991231/auto/storage/goog4_request\n\
             52d1ff6165fa45ad84a2c0548ad5ddfa265dee5ce90cd98a38217b0355526ef5",
            "https://storage.googleapis.com/bucket.example/model.onnx.leaves?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=x%40y%2F20991231%2Fauto%2Fstorage%2Fgoog4_request&X-Goog-Date=20991231T235959Z&X-Goog-Expires=604800&X-Goog-SignedHeaders=host&X-Goog-Signature=01020304",
        ),
    ];
    for (url, email, now, lifetime, to_sign, signed) in vectors {
        let unsigned = account(email).unsigned(url, now, lifetime).unwrap();
        assert_eq!(unsigned.string_to_sign(), to_sign);
        assert_eq!(unsigned.with_signature(&[1, 2, 3, 4]), signed);
    }
}

#[test]
fn what_cannot_be_signed_is_named() {
    let refusal =
        |url: &str, now, lifetime| account("x@y").unsigned(url, now, lifetime).err().unwrap();
    for url in [
        "",
        "storage.googleapis.com/b/o",
        "ftp://host/o",
        "https://host",
        "https:///o",
        "https://host/o?alt=media",
        "https://a@host/o",
        "https://host/ü",
    ] {
        assert_eq!(
            refusal(url, UnixTime::default(), Duration::from_secs(1)),
            SigningError::Url(url.into())
        );
    }
    for lifetime in [Duration::ZERO, MAX_LIFETIME + Duration::from_secs(1)] {
        assert_eq!(refusal(URL, UnixTime::default(), lifetime), SigningError::Lifetime(lifetime));
    }
    let never = UnixTime::from_millis(u64::MAX);
    assert_eq!(refusal(URL, never, Duration::from_secs(1)), SigningError::Clock(never));
}

#[test]
fn a_key_file_that_cannot_be_read_is_named_but_not_quoted() {
    let pkcs1 = "-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n-----END RSA PRIVATE KEY-----";
    for text in [
        "",
        "{}",
        "[]",
        "secret",
        &json!({ "client_email": "x", "private_key": pkcs1 }).to_string(),
    ] {
        let error = ServiceAccount::parse(text).err().unwrap().to_string();
        assert!(
            error.contains("private_key")
                && !error.contains("c2VjcmV0")
                && !error.contains("secret,"),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in ".*", now in any::<u64>(), lifetime in any::<u32>()) {
        let _ = ServiceAccount::parse(&text);
        let key = HmacKey { access_id: text.clone(), secret: text.clone() };
        let (now, lifetime) = (UnixTime::from_millis(now), Duration::from_secs(lifetime.into()));
        let _ = key.sign(&text, now, lifetime);
        let _ = key.sign(&format!("https://host/{text}"), now, lifetime);
    }
}
