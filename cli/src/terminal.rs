//! What a person sees of what goes on.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;
use std::{fmt, process};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Context;

/// Prints a line of a result; ends the program where nobody can have it, which `println!` would call a panic.
macro_rules! out {
    ($($argument:tt)*) => {
        $crate::terminal::print(format_args!($($argument)*))
    };
}

/// See [`out!`].
pub fn print(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => {}
        // Who reads has seen enough: as if the signal had ended us (128 and 13), which Rust's programs ignore.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(141),
        Err(error) => {
            eprintln!("error: standard output: {error}");
            process::exit(1);
        }
    }
}

/// A text from elsewhere, without what could command the terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars()
            .map(|character| if character.is_control() { '\u{fffd}' } else { character })
            .collect::<String>()
            .into()
    } else {
        text.into()
    }
}

/// A bar on standard error, if that is a terminal: how far `what` is with a file, how quick, how long it takes yet, and a message.
pub fn bar(context: &Context, what: &'static str, file: &str, length: u64) -> ProgressBar {
    let target = if context.json || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let template = "{prefix} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";
    let bar = ProgressBar::with_draw_target(Some(length), target)
        .with_prefix(format!("{what} {}", printable(file)));
    match ProgressStyle::with_template(template) {
        Ok(style) => {
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.with_style(style)
        }
        Err(_) => bar,
    }
}
