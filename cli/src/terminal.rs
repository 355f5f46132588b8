//! What a person sees of what goes on.

use std::borrow::Cow;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Context;

/// A text from elsewhere, without what could command the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// A bar on standard error, if that is a terminal: how far `what` is with a file, how quick, how long it takes yet, and a message.
pub fn bar(context: &Context, what: &'static str, file: &str, length: u64) -> ProgressBar {
    let target = if context.json || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let template = "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";
    let bar = ProgressBar::with_draw_target(Some(length), target).with_prefix(format!("{what} {}", printable(file)));
    match ProgressStyle::with_template(template) {
        Ok(style) => {
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.with_style(style)
        }
        Err(_) => bar,
    }
}
