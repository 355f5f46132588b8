//! `completions` and `man`: shell completions and manual pages.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::error::Error;
use crate::files::of_file;

/// `completions`
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints the completion script of `command`.
    ///
    /// # Errors
    /// [`Error::File`] when standard output cannot be written.
    pub fn run(self, mut command: Command) -> Result<(), Error> {
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        Ok(io::stdout().write_all(&script).map_err(of_file("standard output"))?)
    }
}

/// `man`
#[derive(Args)]
pub struct Man {
    /// Folder for one page per command
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Man {
    /// Prints the manual page of `command`, or writes one for each subcommand.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn run(self, command: Command) -> Result<(), Error> {
        match &self.out {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(of_file(folder))?;
                clap_mangen::generate_to(command, folder).map_err(of_file(folder))?;
            }
            None => clap_mangen::Man::new(command)
                .render(&mut io::stdout())
                .map_err(of_file(Path::new("standard output")))?,
        }
        Ok(())
    }
}
