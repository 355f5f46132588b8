//! Text output to a terminal.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::{fmt, process};

/// Prints a line to standard output. Ends the process if that fails, where `println!` panics.
macro_rules! out {
    ($($argument:tt)*) => {
        $crate::terminal::print(format_args!($($argument)*))
    };
}

/// The function behind [`out!`].
pub fn print(line: fmt::Arguments<'_>) {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => {}
        // The reader of a pipe closed it. Rust ignores SIGPIPE: exit as if it had ended us, 128 +
        // 13.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => process::exit(141),
        Err(error) => {
            eprintln!("error: standard output: {error}");
            process::exit(1);
        }
    }
}

/// Replaces control characters, so that text from a manifest or a server cannot send commands to
/// the terminal.
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
