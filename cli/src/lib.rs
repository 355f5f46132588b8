//! The command line tool `edge-net-models`: publishes, pulls and verifies model files.
//!
//! The binary only calls [`run`]. The YAML reader is public so that other crates can fuzz it.

#[macro_use]
mod terminal;

mod bucket;
mod cache;
mod commands;
mod config;
mod credentials;
mod delivery;
mod digest;
mod error;
mod files;
mod http;
mod ipfs;
mod key;
mod lock;
mod model;
mod onnx;
mod places;
mod registry;
pub mod yaml;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{embed, list, publish, pull, shell, sign, verify};
use error::Error;
use serde_json::json;
use terminal::printable;

/// Publishes, pulls and verifies AI model files.
#[derive(Parser)]
#[command(name = "edge-net-models", version)]
struct Arguments {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

/// What all commands are told.
#[derive(clap::Args)]
struct Context {
    #[command(flatten)]
    flags: config::Flags,
    /// Print JSON, of errors too
    #[arg(long, global = true)]
    json: bool,
    /// Tell what happens under way
    #[arg(short, long, global = true)]
    verbose: bool,
}

impl Context {
    /// The settings, as they are for this run.
    fn settings(&self) -> Result<config::Settings, Error> {
        self.flags.settings()
    }

    /// Says something that is no result.
    fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{}", printable(text));
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// List the models that there are, the preferred ones first
    List(list::List),
    /// Tell of a model: what it is, what it needs, how good it is
    Info(list::Info),
    /// Fetch a model's files, verified, from all sources at once
    Pull(pull::Pull),
    /// Check files against their signed manifest
    Verify(verify::Verify),
    /// Make vectors of texts, as the edge does
    Embed(embed::Embed),
    /// Show or remove what is kept on this machine
    Cache(cache::CacheArgs),
    /// Show or change the settings
    Config(config::Config),
    /// Sign files as a version of a model, and upload them
    Publish(Box<publish::Publish>),
    /// Sign a manifest again, or a single file
    Sign(sign::Sign),
    /// Withdraw a version from a registry: it is no more offered as the newest, and still served to who names it
    Yank(registry::Yank),
    /// Make a signing key, and print it as a client pins it
    Keygen(key::Keygen),
    /// Print the public half of a key as a client pins it
    PublicKey(key::PublicKey),
    /// Say that a new key replaces an old one: for publish --endorsement
    Endorse(key::Endorse),
    /// Print size, SHA-256 and CID of a file
    Cid(digest::Cid),
    /// Print what makes a shell complete these commands
    Completions(shell::Completions),
    /// Print the manual page, or write one for each command
    Man(shell::Man),
}

/// Runs the command that the process arguments name. Returns the exit status: 0, or 1 after an
/// error, whose message is on standard error. Wrong arguments end the process with status 2, Ctrl-C
/// with 130.
#[must_use]
pub fn run() -> ExitCode {
    let Arguments { context, command } = Arguments::parse();
    let interrupted = ctrlc::set_handler(|| {
        eprintln!(
            "\nerror: interrupted; what is done stays done: the same command goes on from there"
        );
        // As the shell counts it: 128 and the number of the signal.
        std::process::exit(130);
    });
    if let Err(error) = interrupted {
        context.note(&format!("Ctrl-C ends this without a word: {error}"));
    }
    let done = match command {
        Command::List(command) => command.run(&context),
        Command::Info(command) => command.run(&context),
        Command::Pull(command) => command.run(&context),
        Command::Verify(command) => command.run(&context),
        Command::Embed(command) => command.run(&context),
        Command::Cache(command) => command.run(&context),
        Command::Config(command) => command.run(&context),
        Command::Publish(command) => command.run(&context),
        Command::Sign(command) => command.run(&context),
        Command::Yank(command) => command.run(&context),
        Command::Keygen(command) => command.run(),
        Command::PublicKey(command) => command.run(),
        Command::Endorse(command) => command.run(),
        Command::Cid(command) => command.run(&context),
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if context.json => {
            eprintln!("{}", json!({ "error": error.to_string() }));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}
