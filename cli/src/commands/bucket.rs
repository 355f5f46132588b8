//! `bucket`: configures a bucket for browsers and caches.

use clap::{Args, Subcommand};
use edge_net_core::http::answer::Freshness;
use semver::Version;
use serde_json::{Value, json};

use crate::bucket::Bucket as Remote;
use crate::context::Context;
use crate::credentials::{Credentials, Scope};
use crate::document::MANIFEST;
use crate::error::Error;

/// `bucket`
#[derive(Args)]
pub struct Bucket {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Let pages of other origins read the bucket, and correct how long its objects are cached
    Configure {
        /// Bucket to configure
        #[arg(long, default_value = "edge-net-models")]
        bucket: String,
        /// Endpoint of Google Cloud Storage
        #[arg(
            long,
            env = "STORAGE_EMULATOR_HOST",
            default_value = "https://storage.googleapis.com"
        )]
        gcs_endpoint: String,
        /// Origin of pages that may read it, such as https://app.example.com; repeatable
        #[arg(long, default_value = "*")]
        origin: Vec<String>,
    },
}

/// The methods that pages may use.
const METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
/// The header fields that pages may send and read: those of ranges and preconditions, and those
/// that the architecture names.
const FIELDS: [&str; 17] = [
    "Accept-Ranges",
    "Cache-Control",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Date",
    "ETag",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Modified",
    "Range",
    "Retry-After",
    "X-Goog-Generation",
    "X-Model-Checksum",
    "X-Model-Version",
];
/// How long browsers may keep the answer to a preflight, in seconds.
const MAX_AGE: u32 = 3600;
/// `Cache-Control` of objects that are not of a model: a day.
const OTHER: &str = "public, max-age=86400";

impl Bucket {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Bucket`] and [`Error::Credentials`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let Command::Configure { bucket, gcs_endpoint, origin } = self.command;
        let credentials = Credentials::of_environment(Scope::Buckets)?;
        let bucket = Remote::new(&gcs_endpoint, bucket, credentials);
        let rules = configure(&bucket, &origin, context)?;
        let mut changed = Vec::new();
        for (object, cache_control) in bucket.objects()? {
            let wanted = cache_control_of(&object);
            if cache_control != wanted {
                bucket.set_cache_control(&object, wanted)?;
                changed.push(object);
            }
        }
        if context.json {
            let report = json!({ "bucket": bucket.base_url(), "cors": rules, "changed": changed });
            out!("{report}");
        } else {
            for object in &changed {
                out!("{object}: {}", cache_control_of(object));
            }
            let origins = origin.join(", ");
            out!(
                "{}: pages of {origins} may read; {} objects changed",
                bucket.base_url(),
                changed.len()
            );
        }
        Ok(())
    }
}

/// Adds our rule to those for other origins, and returns the rules that the bucket then has.
fn configure(bucket: &Remote, origins: &[String], context: &Context) -> Result<Vec<Value>, Error> {
    let ours = json!({
        "origin": origins,
        "method": METHODS,
        "responseHeader": FIELDS,
        "maxAgeSeconds": MAX_AGE,
    });
    let mut rules = bucket.cors()?;
    if rules.contains(&ours) {
        return Ok(rules);
    }
    rules.retain(|rule| rule["origin"] != ours["origin"]);
    rules.push(ours);
    let there = bucket.set_cors(&rules)?;
    if there != rules {
        context.note(&format!(
            "warning: {} accepted the CORS configuration, but does not show it: is it an emulator?",
            bucket.base_url()
        ));
    }
    Ok(there)
}

/// Returns the `Cache-Control` of an object, by its name: what is below a version never changes.
fn cache_control_of(object: &str) -> &'static str {
    let mut parts = object.split('/').skip(1);
    let version = |part: &str| part.strip_prefix('v').is_some_and(|it| Version::parse(it).is_ok());
    match (parts.next(), parts.next()) {
        (Some(MANIFEST), None) => Freshness::Latest.cache_control(),
        (Some(_), Some(".publishing")) => "no-store",
        (Some(folder), Some(_)) if version(folder) => Freshness::Immutable.cache_control(),
        _ => OTHER,
    }
}
