//! The options of all commands, and the output that they select.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::config::{ConfigError, Flags, Settings};
use crate::terminal::printable;

/// The options of all commands.
#[derive(clap::Args)]
pub struct Context {
    #[command(flatten)]
    pub flags: Flags,
    /// Print JSON, also for errors
    #[arg(long, global = true)]
    pub json: bool,
    /// Report progress in detail
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl Context {
    /// Reads the settings of this run.
    ///
    /// # Errors
    /// See [`Flags::settings`].
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        self.flags.settings()
    }

    /// Prints a line to standard error, except with `--json`.
    pub fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{}", printable(text));
        }
    }

    /// Returns a progress bar for `length` bytes of a file. `action` is a participle, such as
    /// "hashing". The bar is on standard error, and hidden if that is not a terminal.
    pub fn bar(&self, action: &'static str, file: &str, length: u64) -> ProgressBar {
        let target = if self.json || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let template = "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";
        let bar = ProgressBar::with_draw_target(Some(length), target)
            .with_prefix(format!("{action} {}", printable(file)));
        match ProgressStyle::with_template(template) {
            Ok(style) => {
                bar.enable_steady_tick(Duration::from_millis(200));
                bar.with_style(style)
            }
            Err(_) => bar,
        }
    }
}
