//! `doctor`: asks edge, bucket, gateways and registry what a browser would ask them.

use std::time::{Duration, SystemTime};

use clap::Args;
use edge_net_core::transfer::source::SourceKind;
use edge_net_core::trust::manifest::{Artifact, MAX_MANIFEST_BYTES, Manifest};
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest};
use serde_json::json;
use ureq::Body;
use ureq::http::Response;

use crate::catalog::model_id;
use crate::config::Settings;
use crate::context::Context;
use crate::error::Error;
use crate::http::{self, of_url};
use crate::places::{Place, places};
use crate::registry::Registry;

/// `doctor`
#[derive(Args)]
pub struct Doctor {
    /// Model to ask for; default: the first one of the registry
    #[arg(value_parser = model_id)]
    id: Option<String>,
}

/// The origin of the page that the requests pretend to come from.
const ORIGIN: &str = "https://doctor.example";
/// The header fields of a partial response that pages have to read.
const EXPOSED: [&str; 2] = ["Content-Range", "Content-Length"];
/// The largest difference between two clocks that is not reported.
const CLOCK: Duration = Duration::from_mins(5);

/// One finding: a place, what was asked, and the fault with its cure, if there is one.
struct Finding {
    place: String,
    asked: &'static str,
    fault: Option<String>,
}

/// A model to ask for.
type Sample = Option<(Manifest, Artifact)>;

impl Doctor {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Unhealthy`] when something is wrong; [`Error::Config`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let keys = settings.pinned()?;
        let mut checkup = Checkup { keys: &keys, findings: Vec::new(), context };
        checkup.say(
            "settings",
            "pinned keys",
            if keys.is_empty() {
                Err("no key is pinned, so nothing can be verified; config set keys.<name> <key>"
                    .into())
            } else {
                Ok(())
            },
        );
        let listed = checkup.registry(&settings);
        let id = self.id.or(listed);
        let places = places(&settings);
        let sample =
            id.as_ref().and_then(|id| checkup.sample(&places.of(None).collect::<Vec<_>>(), id));
        for place in places.of(None) {
            checkup.place(place, sample.as_ref());
        }
        if id.is_none() {
            context.note("no model is known: name one to check manifests, ranges and blocks too");
        }
        checkup.end()
    }
}

/// A run of all checks.
struct Checkup<'a> {
    keys: &'a PinnedKeys,
    findings: Vec<Finding>,
    context: &'a Context,
}

impl Checkup<'_> {
    fn say(&mut self, place: &str, asked: &'static str, found: Result<(), String>) {
        let finding = Finding { place: place.to_owned(), asked, fault: found.err() };
        if !self.context.json {
            let Finding { place, asked, fault } = &finding;
            match fault {
                None => out!("ok       {place}: {asked}"),
                Some(fault) => out!("PROBLEM  {place}: {asked}: {fault}"),
            }
        }
        self.findings.push(finding);
    }

    /// Checks the registry, and returns its first model.
    fn registry(&mut self, settings: &Settings) -> Option<String> {
        let edge = &settings.edge_url.as_ref()?.0;
        let listed = Registry::new(edge).list(&[]);
        let first = listed.as_ref().ok().and_then(|models| Some(models.first()?.id.clone()));
        let cure = "does edge.url name the edge worker?";
        let said = listed.map(drop).map_err(|error| format!("{error}; {cure}"));
        self.say(edge, "list of models", said);
        first
    }

    /// Asks each place that keeps manifests for the one of a model, and returns the first good one.
    fn sample(&mut self, places: &[&Place], id: &str) -> Sample {
        let mut sample = None;
        for place in places {
            let Some(url) = place.source.manifest_url(id, None) else { continue };
            let base = &place.source.base;
            let manifest = self.manifest(place, &url);
            sample = sample.or_else(|| manifest.as_ref().ok().cloned());
            self.say(base, "manifest and signature", manifest.map(drop));
        }
        let manifest = sample?;
        let largest = manifest.artifacts.iter().max_by_key(|artifact| artifact.size)?.clone();
        Some((manifest, largest))
    }

    fn manifest(&self, place: &Place, url: &str) -> Result<Manifest, String> {
        let response = ask(place, "GET", url, &[])?;
        let response = http::accepted(url, response).map_err(|error| error.to_string())?;
        let text =
            http::text(url, response, MAX_MANIFEST_BYTES).map_err(|error| error.to_string())?;
        let manifest = VerifiedManifest::verify(&text, self.keys).map_err(|refusal| {
            format!("{refusal}; pin the publisher's key, or ask the publisher to sign again")
        })?;
        let manifest = manifest.not_expired(SystemTime::now().into()).map_err(|refusal| {
            format!("{refusal}; the publisher has to publish again with a later --expires")
        })?;
        Ok((*manifest).clone())
    }

    /// Asks one place what a browser asks it during a download.
    fn place(&mut self, place: &Place, sample: Option<&(Manifest, Artifact)>) {
        let base = place.source.base.clone();
        let Some((manifest, artifact)) = sample else { return };
        if place.source.kind == SourceKind::Ipfs {
            let Some(url) = place.source.block_url(&artifact.cid) else { return };
            let asked = "a block";
            match ask(place, "GET", &url, &[]) {
                Err(fault) => self.say(&base, asked, Err(fault)),
                Ok(response) => {
                    self.say(
                        &base,
                        asked,
                        status(&response, &[200], "pin the files, or use another gateway"),
                    );
                    self.say(&base, "CORS", cors(&response));
                    self.say(&base, "clock", clock(&response));
                }
            }
            return;
        }
        let url = place.source.artifact_url(manifest, artifact);
        match ask(place, "GET", &url, &[("Range", "bytes=0-0")]) {
            Err(fault) => self.say(&base, "a range", Err(fault)),
            Ok(response) => {
                self.say(&base, "a range", range(&response, artifact));
                self.say(&base, "CORS", cors(&response));
                self.say(&base, "exposed fields", exposed(&response));
                self.say(&base, "clock", clock(&response));
            }
        }
        let fields =
            [("Access-Control-Request-Method", "GET"), ("Access-Control-Request-Headers", "range")];
        let preflight = ask(place, "OPTIONS", &url, &fields).and_then(|response| {
            status(&response, &[200, 204], CURE)?;
            cors(&response)?;
            allows(&response, "Access-Control-Allow-Headers", "range")
        });
        self.say(&base, "preflight", preflight);
    }

    fn end(self) -> Result<(), Error> {
        if self.context.json {
            let findings = self.findings.iter().map(|Finding { place, asked, fault }| {
                json!({ "place": place, "asked": asked, "fault": fault })
            });
            out!("{}", json!({ "findings": findings.collect::<Vec<_>>() }));
        }
        match self.findings.iter().filter(|finding| finding.fault.is_some()).count() {
            0 => Ok(()),
            faults => Err(Error::Unhealthy(faults)),
        }
    }
}

/// Sends a request as a page of another origin would.
fn ask(
    place: &Place,
    method: &str,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<Response<Body>, String> {
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in [&[("Origin", ORIGIN)][..], fields].concat() {
        request = request.header(name, value);
    }
    let request = request.body(()).map_err(|error| format!("{url}: {error}"))?;
    place.agent.run(request).map_err(|error| of_url(url)(error).to_string())
}

/// The cure for a bucket that refuses pages.
const CURE: &str = "for a bucket: edge-net-models bucket configure";

fn field<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn status(response: &Response<Body>, good: &[u16], cure: &str) -> Result<(), String> {
    let status = response.status().as_u16();
    if good.contains(&status) { Ok(()) } else { Err(format!("status {status}; {cure}")) }
}

/// Checks that a page may read the response.
fn cors(response: &Response<Body>) -> Result<(), String> {
    match field(response, "Access-Control-Allow-Origin") {
        "*" | ORIGIN => Ok(()),
        "" => Err(format!("no Access-Control-Allow-Origin, so pages cannot read it; {CURE}")),
        other => Err(format!("only pages of {other} can read it; {CURE}, with --origin")),
    }
}

/// Checks that a field with a list has an item.
fn allows(response: &Response<Body>, name: &str, item: &str) -> Result<(), String> {
    let list = field(response, name);
    let has = |it: &str| it.trim().eq_ignore_ascii_case(item) || it.trim() == "*";
    if list.split(',').any(has) { Ok(()) } else { Err(format!("no {item} in {name}; {CURE}")) }
}

fn range(response: &Response<Body>, artifact: &Artifact) -> Result<(), String> {
    let cure = "is the version published, and readable by everyone?";
    status(response, &[206], &format!("206 is expected; {cure}"))?;
    let (got, want) = (field(response, "Content-Range"), format!("bytes 0-0/{}", artifact.size));
    if got == want { Ok(()) } else { Err(format!("Content-Range is {got:?} instead of {want:?}")) }
}

fn exposed(response: &Response<Body>) -> Result<(), String> {
    EXPOSED.iter().try_for_each(|name| allows(response, "Access-Control-Expose-Headers", name))
}

/// Compares the clock of a server with the one of this machine.
fn clock(response: &Response<Body>) -> Result<(), String> {
    let Ok(theirs) = httpdate::parse_http_date(field(response, "Date")) else { return Ok(()) };
    let ours = SystemTime::now();
    let apart = ours.duration_since(theirs).or_else(|_| theirs.duration_since(ours));
    match apart.unwrap_or_default() {
        apart if apart <= CLOCK => Ok(()),
        apart => Err(format!(
            "its clock and the one of this machine differ by {}; set the wrong one, else manifests \
             seem to be expired or of the future",
            humantime::format_duration(Duration::from_secs(apart.as_secs()))
        )),
    }
}
