//! What shells and `man` are told of the commands.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::Arguments;
use crate::error::{Error, of_file};

/// `completions`
#[derive(Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub fn run(self) -> Result<(), Error> {
        let mut command = Arguments::command();
        let name = command.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, name, &mut script);
        io::stdout().write_all(&script).map_err(of_file("standard output"))
    }
}

/// `man`
#[derive(Args)]
pub struct Man {
    /// A folder to write a page into for each command
    #[arg(long)]
    out: Option<PathBuf>,
}

impl Man {
    /// Prints or writes them.
    pub fn run(self) -> Result<(), Error> {
        let command = Arguments::command();
        match &self.out {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(of_file(folder))?;
                clap_mangen::generate_to(command, folder).map_err(of_file(folder))
            }
            None => clap_mangen::Man::new(command)
                .render(&mut io::stdout())
                .map_err(of_file(Path::new("standard output"))),
        }
    }
}
