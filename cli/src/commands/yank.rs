//! `yank`: withdraws a version from a registry.

use std::time::SystemTime;

use clap::Args;
use edge_net_core::trust::signature::{PinnedKeys, VerifiedManifest, sign};
use semver::Version;

use crate::context::Context;
use crate::document::text_of;
use crate::error::Error;
use crate::key::{Signer, public};
use crate::registry::Registry;

/// `yank`
#[derive(Args)]
pub struct Yank {
    /// Identifier of the model
    #[arg(long)]
    id: String,
    /// Version to withdraw
    #[arg(long)]
    version: Version,
    #[command(flatten)]
    signer: Signer,
    /// URL of the edge worker; default: edge.url
    #[arg(long)]
    registry: Option<String>,
    /// Offer the version again
    #[arg(long)]
    undo: bool,
}

impl Yank {
    /// Runs the command: sets or removes `yanked` in the manifest, signs it again and publishes it.
    ///
    /// # Errors
    /// [`Error::NotPublished`], [`Error::NoRegistry`], [`Error::Refused`] when another key signed
    /// the manifest, [`Error::Http`], [`Error::Key`], [`Error::Keys`], [`Error::Manifest`] and
    /// [`Error::Config`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let (signing, key_id) = self.signer.key(context)?;
        let edge = match self.registry {
            Some(url) => url,
            None => context.settings()?.edge_url.ok_or(Error::NoRegistry)?.0,
        };
        let registry = Registry::new(&edge);
        let url = registry.version(&self.id, &self.version);
        let text = registry.read(&url)?.ok_or_else(|| Error::NotPublished { url: url.clone() })?;
        // Only a manifest that our own key signed is signed again.
        let keys = PinnedKeys::default().pin(key_id.clone(), &public(&signing))?;
        let manifest = VerifiedManifest::verify(&text, &keys)
            .and_then(|manifest| manifest.about(&self.id, Some(&self.version)))
            .map_err(|refusal| Error::Refused { path: url, refusal })?;
        let mut document = manifest.document().clone();
        if self.undo {
            document.remove("yanked");
        } else {
            document.insert("yanked".into(), true.into());
        }
        document.insert(
            "timestamp".into(),
            humantime::format_rfc3339_millis(SystemTime::now()).to_string().into(),
        );
        let text = text_of(&sign(document, &key_id, &signing)?);
        registry.publish(&text)?;
        out!("{text}");
        Ok(())
    }
}
