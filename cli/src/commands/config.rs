//! `config`: shows and changes the settings.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::Settings;
use crate::context::Context;
use crate::error::Error;

/// `config`
#[derive(Args)]
pub struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show all settings and the origin of each
    Show,
    /// Change a setting in the configuration file
    Set {
        /// Name of the setting, such as cache.maxSize
        key: String,
        /// Its new value; commas separate the items of a list
        value: String,
    },
}

impl Config {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn run(self, context: &Context) -> Result<(), Error> {
        match self.command {
            Command::Show => show(&context.settings()?, context),
            Command::Set { key, value } => {
                let (name, path) = context.flags.set_in_file(&key, &value)?;
                let file = path.display().to_string();
                if context.json {
                    out!("{}", json!({ "file": file, "key": name, "value": value }));
                } else {
                    out!("{name} = {value}  ({file})");
                }
            }
        }
        Ok(())
    }
}

fn show(settings: &Settings, context: &Context) {
    let rows = settings.rows();
    if context.json {
        let rows = rows.into_iter().map(|(name, value, origin)| {
            (name.to_owned(), json!({ "value": value, "from": origin.to_string() }))
        });
        out!("{}", Value::Object(rows.collect()));
        return;
    }
    for (name, value, origin) in rows {
        let value = match value {
            Value::Null => "-".into(),
            Value::String(text) => text,
            Value::Array(items) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        out!("{name} = {value}  ({origin})");
    }
}
