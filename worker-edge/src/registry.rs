//! The registry's database: D1, with the tables of `migrations/`.
//! [`edge_net_core::http::registry`] decides what may be written.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use cid::Cid;
use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::digest::Digest;
use edge_net_core::http::registry::{
    Filter, Known, Offer, Publication, Rejection, Release, Summary,
};
use edge_net_core::time::UnixTime;
use edge_net_driver::lookup::{self, Accepted, NoManifest};
use edge_net_driver::{host, log};
use futures::future::{Either, select};
use semver::Version;
use serde::Deserialize;
use wasm_bindgen::JsValue;
use worker::{D1Database, D1PreparedStatement, D1Result, Env};

use crate::catalog;
use crate::config::Config;
use crate::memory::Memory;

/// Name of the binding.
const BINDING: &str = "REGISTRY";
/// Time limit of a query, in milliseconds.
const TIMEOUT: u32 = 5_000;
/// Attempts at a publication while concurrent ones of the same model win.
const ATTEMPTS: usize = 3;
/// Maximum size of a manifest that is remembered, in bytes.
const MAX_KEPT_TEXT: usize = 64 << 10;
/// The manifest of a version.
const ONE_VERSION: &str = "SELECT manifest FROM versions WHERE model = ?1 AND version = ?2";

thread_local! {
    static MODELS: RefCell<Memory<Name, Found>> = RefCell::default();
    static PAGES: RefCell<Memory<String, Rc<Page>>> = RefCell::default();
}

/// A model's id, and the requested version.
type Name = (String, Option<Version>);

/// Models of a list, and the cursor of the next page.
pub type Page = (Vec<Summary>, Option<String>);

/// Why the database has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// No database is bound.
    #[error("no registry database is bound as {BINDING}; see wrangler.toml")]
    Unbound,
    /// The query failed, or its rows are malformed.
    #[error("the registry's database failed: {0}")]
    Failed(String),
    /// The query took too long.
    #[error("the registry's database did not answer within {TIMEOUT} ms")]
    Late,
}

impl From<worker::Error> for Unavailable {
    fn from(error: worker::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Why a manifest was not published.
#[derive(Debug, thiserror::Error)]
pub enum NotPublished {
    /// It is not allowed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The database is not available.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// Concurrent publications of the same model won.
    #[error("the model is being published by another request; try again")]
    Busy,
}

/// The registry's answer about a model.
#[derive(Clone)]
pub enum Found {
    /// The manifest.
    Manifest(Rc<Accepted>),
    /// All versions of the model are yanked.
    Yanked,
    /// The model is unknown.
    Nothing,
}

/// The registry's manifest of a model, for when the bucket is unreachable.
///
/// # Errors
/// The error of the bucket.
pub async fn instead(
    env: &Env,
    config: &Config,
    id: &str,
    version: Option<&Version>,
    absent: NoManifest,
) -> Result<Rc<Accepted>, NoManifest> {
    match Registry::of(env).manifest(config, id, version).await {
        Ok(Found::Manifest(accepted)) => Ok(accepted),
        Ok(Found::Yanked | Found::Nothing) => Err(absent),
        Err(error) => {
            log::warn("registry-failed").fact("model", id).say(error);
            Err(absent)
        }
    }
}

/// Adds the model of the artifact with the CID `root` to the catalog, if the registry knows it.
/// Returns whether it does.
///
/// # Errors
/// [`Unavailable`], which is logged.
pub async fn introduce(env: &Env, config: &Config, root: &Cid) -> Result<bool, Unavailable> {
    match Registry::of(env).holder(config, &cid_text(root)).await {
        Ok(Some(accepted)) => {
            catalog::introduce(&accepted);
            Ok(true)
        }
        Ok(None) | Err(Unavailable::Unbound) => Ok(false),
        Err(error) => {
            log::warn("registry-failed").fact("cid", cid_text(root)).say(&error);
            Err(error)
        }
    }
}

/// The database, if one is bound.
pub struct Registry(Option<D1Database>);

impl Registry {
    /// The database that is bound.
    pub fn of(env: &Env) -> Self {
        Self(env.d1(BINDING).ok())
    }

    /// Whether a database is bound.
    pub const fn is_bound(&self) -> bool {
        self.0.is_some()
    }

    fn database(&self) -> Result<&D1Database, Unavailable> {
        self.0.as_ref().ok_or(Unavailable::Unbound)
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn check(&self) -> Result<(), Unavailable> {
        bounded(self.bind("SELECT id FROM models LIMIT 1", &[])?.all()).await.map(drop)
    }

    /// The manifest of a version, or of the newest that is not yanked. It is verified again: its
    /// key may no longer be pinned.
    ///
    /// # Errors
    /// [`Unavailable`], also if the manifest does not verify.
    pub async fn manifest(
        &self,
        config: &Config,
        id: &str,
        version: Option<&Version>,
    ) -> Result<Found, Unavailable> {
        #[derive(Deserialize)]
        struct Row {
            manifest: Option<String>,
        }
        let key = (id.to_owned(), version.cloned());
        if let Some(known) = MODELS.with_borrow(|models| models.get(&key, host::now())) {
            return Ok(known);
        }
        let statement = match version {
            None => self.bind(
                "SELECT v.manifest FROM models m
                 LEFT JOIN versions v ON v.model = m.id AND v.version = m.newest WHERE m.id = ?1",
                &[id.into()],
            )?,
            Some(version) => self.bind(ONE_VERSION, &[id.into(), version.to_string().into()])?,
        };
        let rows: Vec<Row> = rows(&bounded(statement.all()).await?)?;
        let keep = |found: &Found| {
            MODELS.with_borrow_mut(|kept| kept.keep(key, found.clone(), host::now()));
        };
        let text = match rows.into_iter().next().map(|row| row.manifest) {
            Some(Some(text)) => text,
            absent => {
                let found = if absent.is_some() { Found::Yanked } else { Found::Nothing };
                keep(&found);
                return Ok(found);
            }
        };
        // Which version is the newest, the database knows: it may go back when one is yanked.
        let floor = catalog::floor(id);
        let acceptance = lookup::acceptance(&config.keys, id, version, floor.as_ref());
        let accepted = acceptance.current(text).map_err(|refusal| {
            Unavailable::Failed(format!("its manifest of {id} is refused: {refusal}"))
        })?;
        let is_small = accepted.text.len() <= MAX_KEPT_TEXT;
        let found = Found::Manifest(Rc::new(accepted));
        if is_small {
            keep(&found);
        }
        Ok(found)
    }

    /// The manifest of a version that lists an artifact with the CID `root`.
    async fn holder(
        &self,
        config: &Config,
        root: &str,
    ) -> Result<Option<Rc<Accepted>>, Unavailable> {
        #[derive(Deserialize)]
        struct Row {
            model: String,
            version: String,
        }
        // Any public one: the bytes are the same.
        let statement = "
            SELECT model, version FROM artifacts
            WHERE cid = ?1 AND model NOT IN (SELECT value FROM json_each(?2)) LIMIT 1";
        let found = bounded(
            self.bind(statement, &[root.into(), json(&config.private.models).into()])?.all(),
        )
        .await?;
        let Some(Row { model, version }) = rows(&found)?.pop() else { return Ok(None) };
        let Ok(version) = Version::parse(&version) else { return Ok(None) };
        match self.manifest(config, &model, Some(&version)).await? {
            Found::Manifest(accepted) => Ok(Some(accepted)),
            Found::Yanked | Found::Nothing => Ok(None),
        }
    }

    /// A page of the models that `filter` admits, without those that are `private`. It has those of
    /// the `bundled` that the registry does not know.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn list(
        &self,
        filter: &Filter,
        private: &[String],
        bundled: &[Summary],
    ) -> Result<Rc<Page>, Unavailable> {
        // The same conditions as in Filter::admits.
        const LIST: &str = "
            SELECT m.id, v.name, v.type, v.quantization, v.license, v.size, v.version, v.embeddings,
                   v.timestamp AS signed, v.key_id AS owner
            FROM models m JOIN versions v ON v.model = m.id AND v.version = m.newest
            WHERE (?1 IS NULL OR v.type = ?1)
              AND (?2 IS NULL OR lower(v.quantization) = lower(?2))
              AND (?3 IS NULL OR lower(v.license) = lower(?3))
              AND (?4 IS NULL OR instr(m.id, lower(?4)) > 0 OR instr(lower(v.name), lower(?4)) > 0)
              AND (?5 IS NULL OR m.id > ?5)
              AND m.id NOT IN (SELECT value FROM json_each(?6))
            ORDER BY m.id LIMIT ?7";
        let key = format!("{filter:?}");
        if let Some(page) = PAGES.with_borrow(|pages| pages.get(&key, host::now())) {
            return Ok(page);
        }
        let text = |value: &Option<String>| value.as_ref().map_or(JsValue::NULL, JsValue::from);
        let statement = self.bind(
            LIST,
            &[
                text(&filter.kind),
                text(&filter.quantization),
                text(&filter.license),
                text(&filter.text),
                text(&filter.after),
                json(private).into(),
                (filter.limit.get() + 1).into(),
            ],
        )?;
        let ids: Vec<String> = bundled.iter().map(|model| model.id.clone()).collect();
        let known = self.bind(
            "SELECT id FROM models WHERE id IN (SELECT value FROM json_each(?1))",
            &[json(&ids).into()],
        )?;
        let found = bounded(self.database()?.batch(vec![statement, known])).await;
        match found.and_then(|found| listed(&found, bundled)) {
            Ok(models) => {
                let page = Rc::new(filter.page(models));
                PAGES.with_borrow_mut(|pages| pages.keep(key, Rc::clone(&page), host::now()));
                Ok(page)
            }
            // An old page is better than none.
            Err(error) => PAGES.with_borrow(|pages| pages.last(&key)).ok_or(error),
        }
    }

    /// The versions of a model, the last signed first; empty if the model is not known.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn releases(&self, id: &str) -> Result<Vec<Release>, Unavailable> {
        #[derive(Deserialize)]
        struct Row {
            version: String,
            timestamp: u64,
            key_id: String,
            size: u64,
            yanked: u8,
        }
        let all = "
            SELECT version, timestamp, key_id, size, yanked FROM versions
            WHERE model = ?1 ORDER BY timestamp DESC";
        let rows: Vec<Row> = rows(&bounded(self.bind(all, &[id.into()])?.all()).await?)?;
        let release = |Row { version, timestamp, key_id, size, yanked }: Row| Release {
            version,
            timestamp: UnixTime::from_millis(timestamp).to_string(),
            key_id,
            size,
            yanked: yanked != 0,
        };
        Ok(rows.into_iter().map(release).collect())
    }

    /// Publishes a manifest that was received at `now`, if it is allowed.
    ///
    /// # Errors
    /// [`NotPublished`].
    pub async fn publish(
        &self,
        config: &Config,
        text: &str,
        now: UnixTime,
    ) -> Result<Publication, NotPublished> {
        for _ in 0..ATTEMPTS {
            let offer = Offer::read(text.to_owned(), &config.keys, now)?;
            let (known, revision) = self.known(&offer).await?;
            let publication = offer.decide(known.as_ref(), &config.keys)?;
            if self.write(&publication, revision).await? {
                MODELS.with_borrow_mut(Memory::forget);
                PAGES.with_borrow_mut(Memory::forget);
                catalog::forget_absent();
                return Ok(publication);
            }
        }
        Err(NotPublished::Busy)
    }

    /// The known state of an offered model, and the number of its publications.
    async fn known(&self, offer: &Offer) -> Result<(Option<Known>, f64), Unavailable> {
        #[derive(Deserialize)]
        struct Model {
            owner: String,
            replaced: String,
            signed: u64,
            revision: f64,
        }
        #[derive(Deserialize)]
        struct Row {
            version: String,
            yanked: u8,
        }
        #[derive(Deserialize)]
        struct Current {
            manifest: String,
        }
        let (id, version) = (offer.manifest().id.as_str(), offer.manifest().version.to_string());
        let found = bounded(self.database()?.batch(vec![
            self.bind(
                "SELECT owner, replaced, signed, revision FROM models WHERE id = ?1",
                &[id.into()],
            )?,
            self.bind("SELECT version, yanked FROM versions WHERE model = ?1", &[id.into()])?,
            self.bind(ONE_VERSION, &[id.into(), version.into()])?,
        ]))
        .await?;
        let [models, versions, current] = found.as_slice() else {
            return Err(Unavailable::Failed("it returned a wrong number of results".into()));
        };
        let Some(Model { owner, replaced, signed, revision }) = rows::<Model>(models)?.pop() else {
            return Ok((None, 0.0));
        };
        let unreadable =
            |what: &str| Unavailable::Failed(format!("its {what} of {id} cannot be read"));
        let replaced = serde_json::from_str(&replaced).map_err(|_| unreadable("keys"))?;
        let version = |row: Row| Some((Version::parse(&row.version).ok()?, row.yanked != 0));
        let versions = rows::<Row>(versions)?.into_iter().map(version).collect::<Option<_>>();
        let current = rows::<Current>(current)?.pop().map(|row| row.manifest);
        let versions = versions.ok_or_else(|| unreadable("versions"))?;
        let signed = UnixTime::from_millis(signed);
        Ok((Some(Known { owner, replaced, signed, versions, current }), revision))
    }

    /// Writes a publication, unless the model was published again after `revision`. Returns whether
    /// it was written.
    async fn write(&self, publication: &Publication, revision: f64) -> Result<bool, Unavailable> {
        const MODEL: &str = "
            INSERT INTO models (id, owner, replaced, signed, newest, revision, written)
            VALUES (?1, ?2, ?3, ?4, ?5, 1, ?7)
            ON CONFLICT (id) DO UPDATE
            SET owner = ?2, replaced = ?3, signed = ?4, newest = ?5, revision = revision + 1,
                written = ?7
            WHERE revision = ?6";
        // All or none: if the model was not written above, it has another digest.
        const VERSION: &str = "
            INSERT INTO versions (model, version, timestamp, key_id, yanked, name, type,
                                  quantization, license, size, manifest, embeddings)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?13 FROM models
            WHERE id = ?1 AND written = ?12
            ON CONFLICT (model, version) DO UPDATE
            SET timestamp = ?3, key_id = ?4, yanked = ?5, manifest = ?11";
        const ARTIFACTS: &str = "
            INSERT OR IGNORE INTO artifacts (cid, model, version)
            SELECT json_extract(value, '$.cid'), ?1, ?2 FROM json_each(?3, '$.artifacts')
            WHERE EXISTS (SELECT 1 FROM models WHERE id = ?1 AND written = ?4)";
        let Publication {
            summary, text, owner, replaced, timestamp, signed, yanked, newest, ..
        } = publication;
        #[allow(clippy::cast_precision_loss)] // Sizes and times are below 2^53.
        let number = |number: u64| JsValue::from(number as f64);
        let some = |value: Option<&String>| value.map_or(JsValue::NULL, JsValue::from);
        let digest = Digest::of(text.as_bytes()).to_hex();
        let written = bounded(self.database()?.batch(vec![
            self.bind(
                MODEL,
                &[
                    (&summary.id).into(),
                    owner.into(),
                    json(replaced).into(),
                    number(signed.as_millis()),
                    some(newest.as_ref().map(ToString::to_string).as_ref()),
                    revision.into(),
                    (&digest).into(),
                ],
            )?,
            self.bind(
                VERSION,
                &[
                    (&summary.id).into(),
                    (&summary.version).into(),
                    number(timestamp.as_millis()),
                    owner.into(),
                    u8::from(*yanked).into(),
                    (&summary.name).into(),
                    (&summary.kind).into(),
                    some(summary.quantization.as_ref()),
                    some(summary.license.as_ref()),
                    number(summary.size),
                    text.into(),
                    (&digest).into(),
                    u8::from(summary.embeddings).into(),
                ],
            )?,
            self.bind(
                ARTIFACTS,
                &[(&summary.id).into(), (&summary.version).into(), text.into(), (&digest).into()],
            )?,
        ]))
        .await?;
        let changes = written
            .first()
            .map(D1Result::meta)
            .transpose()?
            .flatten()
            .and_then(|meta| meta.changes);
        Ok(changes.is_some_and(|changes| changes > 0))
    }

    fn bind(&self, query: &str, values: &[JsValue]) -> Result<D1PreparedStatement, Unavailable> {
        Ok(self.database()?.prepare(query).bind(values)?)
    }
}

/// The listed models, and those of the `bundled` that the registry does not know, in the order of
/// their ids. The first result has the models, the second the bundled ones that it knows.
fn listed(found: &[D1Result], bundled: &[Summary]) -> Result<Vec<Summary>, Unavailable> {
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let [models, known] = found else {
        return Err(Unavailable::Failed("it returned a wrong number of results".into()));
    };
    let (mut models, known) = (rows::<Summary>(models)?, rows::<Id>(known)?);
    let is_known = |model: &&Summary| known.iter().any(|known| known.id == model.id);
    models.extend(bundled.iter().filter(|model| !is_known(model)).cloned());
    models.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(models)
}

/// A list for SQLite's `json_each`.
fn json(list: &[String]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

/// The answer of the database, within the time limit.
async fn bounded<T>(answer: impl Future<Output = worker::Result<T>>) -> Result<T, Unavailable> {
    let (answer, patience) = (std::pin::pin!(answer), std::pin::pin!(host::sleep(TIMEOUT.into())));
    match select(answer, patience).await {
        Either::Left((answer, _)) => Ok(answer?),
        Either::Right(_) => Err(Unavailable::Late),
    }
}

fn rows<T: for<'a> Deserialize<'a>>(result: &D1Result) -> Result<Vec<T>, Unavailable> {
    match result.error() {
        Some(error) => Err(Unavailable::Failed(error)),
        None => Ok(result.results()?),
    }
}
