//! What is kept of artifacts: leaf tables in memory, segments in the browser's storage. Lists,
//! pins, verifies and deletes them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use edge_net_core::dag::cid::cid_text;
use edge_net_core::dag::verify::LeafTable;
use edge_net_core::trust::manifest::{self, Manifest};
use edge_net_driver::lookup;
use futures::lock::Mutex;
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::artifact::Artifact;
use crate::config::{Config, fetch_options};
use crate::reports::object;
use crate::segments::Segments;
use crate::store::{self, Budget, LEAF_TABLES, number};
use crate::turns::Turns;

/// Leaf tables in memory at most; those of artifacts in use are never dropped.
const REMEMBERED: usize = 32;

/// The artifacts whose leaf tables are in memory, and the budget that all artifacts share.
pub struct Artifacts {
    config: Rc<Config>,
    known: Rc<RefCell<Vec<Rc<Artifact>>>>,
    budget: Rc<Budget>,
    turns: Turns,
}

impl Artifacts {
    /// No artifact is in memory at first.
    pub fn new(config: Rc<Config>) -> Self {
        let budget = Rc::new(Budget { limit: config.budget, turn: Mutex::default() });
        Self { config, known: Rc::default(), budget, turns: Turns::default() }
    }

    /// A file of a manifest, with its leaf table, which is looked up once for all who ask.
    ///
    /// # Errors
    /// A text that says why no source gave the leaf table.
    pub async fn find(
        &self,
        manifest: &Manifest,
        file: &manifest::Artifact,
    ) -> Result<Rc<Artifact>, String> {
        let cid = cid_text(&file.cid);
        let turn = self.turns.of(&cid);
        let _turn = turn.lock().await;
        let known = self.known.borrow().iter().find(|artifact| artifact.cid == cid).cloned();
        if let Some(artifact) = known {
            return Ok(artifact);
        }
        let stored = store::get(LEAF_TABLES, &cid).await.dyn_into::<Uint8Array>().ok();
        let stored =
            stored.and_then(|table| LeafTable::verify(&table.to_vec(), file.size, &file.cid).ok());
        let table = if let Some(table) = stored {
            table
        } else {
            let options = fetch_options();
            let found = lookup::leaf_table(&self.config.places(&options), manifest, file).await;
            let table = found.map_err(|error| error.to_string())?;
            store::put(LEAF_TABLES, &cid, &Uint8Array::from(&*table.to_bytes()).into()).await;
            table
        };
        let artifact = Rc::new(Artifact::new(cid, table.into()));
        self.remember(&artifact);
        Ok(artifact)
    }

    fn remember(&self, artifact: &Rc<Artifact>) {
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED
            && let Some(idle) = known.iter().position(|artifact| !artifact.is_in_use())
        {
            known.remove(idle);
        }
        known.push(Rc::clone(artifact));
    }

    /// Where the download of an artifact stores its segments, within the budget.
    pub fn segments(&self, artifact: &Artifact) -> Segments {
        let known = Rc::clone(&self.known);
        let in_use = move |cid: &str| {
            known.borrow().iter().any(|artifact| artifact.cid == cid && artifact.is_in_use())
        };
        Segments {
            cid: artifact.cid.clone(),
            table: Arc::clone(&artifact.table),
            budget: Rc::clone(&self.budget),
            in_use: Rc::new(in_use),
        }
    }

    /// The stored files of these manifests, one row each: `{model, version, file, cid, size,
    /// cachedBytes, lastUsed, pinned}`.
    pub async fn list(&self, manifests: &[Manifest]) -> Array {
        let (rows, index) = (Array::new(), store::index().await);
        for manifest in manifests {
            for file in &manifest.artifacts {
                let cid = cid_text(&file.cid);
                if let Some(kept) =
                    index.iter().find(|row| row.cid == cid && (row.bytes > 0 || row.pinned))
                {
                    rows.push(&object(&[
                        ("model", manifest.id.as_str().into()),
                        ("version", manifest.version.to_string().into()),
                        ("file", file.filename.as_str().into()),
                        ("cid", cid.into()),
                        ("size", number(file.size).into()),
                        ("cachedBytes", number(kept.bytes).into()),
                        ("lastUsed", number(kept.used).into()),
                        ("pinned", kept.pinned.into()),
                    ]));
                }
            }
        }
        rows
    }

    /// Deletes the stored bytes of a model's file, pinned or not.
    pub async fn remove(&self, file: &manifest::Artifact) {
        let cid = cid_text(&file.cid);
        let known = self.known.borrow().iter().find(|artifact| artifact.cid == cid).cloned();
        if let Some(artifact) = known {
            artifact.forget_verified();
        }
        store::delete(&cid, number(file.size)).await;
    }

    /// Deletes the stored bytes of all artifacts.
    pub async fn clear(&self) {
        self.known.borrow().iter().for_each(|artifact| artifact.forget_verified());
        store::clear().await;
    }

    /// Pins or unpins the files of a manifest: pinned ones are never evicted.
    pub async fn pin(&self, manifest: &Manifest, pinned: bool) {
        for file in &manifest.artifacts {
            store::pin(&cid_text(&file.cid), number(file.size), pinned).await;
        }
    }

    /// Verifies the stored segments of a manifest's files and deletes the bad ones: one row each,
    /// `{file, segments, good, bad}`.
    ///
    /// # Errors
    /// A text that says why there is no leaf table.
    pub async fn verify(&self, manifest: &Manifest) -> Result<Array, String> {
        let rows = Array::new();
        for file in &manifest.artifacts {
            let (good, bad) = self.find(manifest, file).await?.verify_now().await;
            let bad: Array =
                bad.into_iter().map(|segment| JsValue::from(number(segment))).collect();
            let segments = number(file.layout().segments());
            rows.push(&object(&[
                ("file", file.filename.as_str().into()),
                ("segments", segments.into()),
                ("good", number(good).into()),
                ("bad", bad.into()),
            ]));
        }
        Ok(rows)
    }

    /// `{bytes, budget, quota, usage}`: bytes stored, bytes allowed, and the browser's estimate.
    pub async fn usage(&self) -> JsValue {
        let (estimate, bytes) =
            (store::estimate().await, store::index().await.iter().map(|row| row.bytes).sum());
        let member = |name: &str| Reflect::get(&estimate, &name.into()).unwrap_or_default();
        let budget = self.config.budget.map_or(JsValue::UNDEFINED, |budget| number(budget).into());
        object(&[
            ("bytes", number(bytes).into()),
            ("budget", budget),
            ("quota", member("quota")),
            ("usage", member("usage")),
        ])
    }

    /// The CIDs of the artifacts that are being downloaded or stored.
    pub fn in_use(&self) -> Array {
        let known = self.known.borrow();
        let in_use = known.iter().filter(|artifact| artifact.is_in_use());
        in_use.map(|artifact| JsValue::from(artifact.cid.as_str())).collect()
    }
}
