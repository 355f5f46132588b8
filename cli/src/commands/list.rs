//! `list`: lists the models of the registry or the cache.

use std::collections::BTreeMap;

use clap::Args;
use edge_net_core::http::registry::{Filter, Summary};
use indicatif::DecimalBytes;
use semver::Version;
use serde_json::Value;

use crate::cache::Cache;
use crate::catalog::{cached, preference};
use crate::context::Context;
use crate::error::Error;
use crate::registry::Registry;
use crate::terminal::printable;

/// `list`
#[derive(Args)]
pub struct List {
    /// Only models of this type: text-generation, embedding, vision
    #[arg(long = "type")]
    kind: Option<String>,
    /// Only models of this quantization, such as INT4
    #[arg(long)]
    quantization: Option<String>,
    /// Only models under this licence
    #[arg(long)]
    license: Option<String>,
    /// Only models with this text in their identifier or name
    #[arg(long)]
    search: Option<String>,
    /// Only models in the cache, without a request to the registry
    #[arg(long)]
    cached: bool,
}

impl List {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::File`] and [`Error::Http`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let settings = context.settings()?;
        let cached = cached(&Cache::new(&settings))?;
        let mut models = match &settings.edge_url {
            Some(edge) if !self.cached => Registry::new(&edge.0).list(&self.query())?,
            None if !self.cached => {
                context.note("edge.url is not set: only cached models are listed");
                self.filtered(&cached)
            }
            _ => self.filtered(&cached),
        };
        models.sort_by(|a, b| {
            preference(&settings, a).cmp(&preference(&settings, b)).then_with(|| a.id.cmp(&b.id))
        });
        let cached_version =
            |model: &Summary| cached.get(&model.id).map(|(version, _)| version.to_string());
        if context.json {
            let rows: Vec<Value> = models
                .iter()
                .map(|model| {
                    let mut row = serde_json::to_value(model).unwrap_or_default();
                    row["cached"] = cached_version(model).into();
                    row
                })
                .collect();
            out!("{}", Value::Array(rows));
            return Ok(());
        }
        let row = |model: &Summary| {
            let or_dash =
                |text: &Option<String>| printable(text.as_deref().unwrap_or("-")).into_owned();
            let cached = cached_version(model)
                .map_or_else(String::new, |version| format!("{version} cached"));
            let size = DecimalBytes(model.size).to_string();
            let texts =
                [&model.id, &model.version, &model.kind].map(|text| printable(text).into_owned());
            let [id, version, kind] = texts;
            [id, version, kind, or_dash(&model.quantization), size, or_dash(&model.license), cached]
        };
        table(models.iter().map(row).collect());
        Ok(())
    }

    fn query(&self) -> Vec<(&'static str, &str)> {
        let parameters = [
            ("type", &self.kind),
            ("quantization", &self.quantization),
            ("license", &self.license),
            ("q", &self.search),
        ];
        parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }

    /// Returns the cached models that match the options, by the rules of the registry.
    fn filtered(&self, cached: &BTreeMap<String, (Version, Summary)>) -> Vec<Summary> {
        let filter = Filter {
            kind: self.kind.clone(),
            quantization: self.quantization.clone(),
            license: self.license.clone(),
            text: self.search.clone(),
            ..Default::default()
        };
        cached
            .values()
            .map(|(_, model)| model)
            .filter(|model| filter.admits(model))
            .cloned()
            .collect()
    }
}

/// Prints rows as a table with aligned columns.
fn table<const N: usize>(rows: Vec<[String; N]>) {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        out!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
