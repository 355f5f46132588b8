//! The command line: its options, its commands, and the exit status.

mod bucket;
mod cache;
mod cid;
mod config;
mod doctor;
mod embed;
mod info;
mod keys;
mod list;
mod publish;
mod pull;
mod shell;
mod sign;
mod verify;
mod yank;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use serde_json::json;

use crate::context::Context;
use crate::error::Error;
use crate::terminal::printable;

/// Publishes, pulls and verifies AI model files.
#[derive(Parser)]
#[command(name = "edge-net-models", version)]
struct Arguments {
    #[command(flatten)]
    context: Context,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the models of the registry, by preference
    List(list::List),
    /// Show the manifest of a model: type, size, requirements, quality
    Info(info::Info),
    /// Download and verify the files of a model
    Pull(pull::Pull),
    /// Compare files with their signed manifest
    Verify(verify::Verify),
    /// Compute the vectors of texts, with the code of the edge worker
    Embed(embed::Embed),
    /// Show or remove the models in the cache
    Cache(cache::Cache),
    /// Show or change the settings
    Config(config::Config),
    /// Sign files as a version of a model, and upload them
    Publish(Box<publish::Publish>),
    /// Configure a bucket for browsers and caches
    Bucket(bucket::Bucket),
    /// Ask edge, bucket, gateways and registry what a browser would ask, and say what is wrong
    Doctor(doctor::Doctor),
    /// Sign a manifest again, or a single file
    Sign(sign::Sign),
    /// Withdraw a version: the registry no longer offers it as the newest, but still serves it
    Yank(yank::Yank),
    /// Make a signing key, and print its public key for clients to pin
    Keygen(keys::Keygen),
    /// Print the public key of a signing key for clients to pin
    PublicKey(keys::PublicKey),
    /// Print the endorsement of a new key by an old one, for publish --endorsement
    Endorse(keys::Endorse),
    /// Print size, SHA-256 and CID of a file
    Cid(cid::Cid),
    /// Print the completion script of a shell
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
    let handler = ctrlc::set_handler(|| {
        eprintln!("\nerror: interrupted; run the same command again to resume");
        // By convention of the shell: 128 and the number of the signal.
        std::process::exit(130);
    });
    if let Err(error) = handler {
        context.note(&format!("warning: Ctrl-C will end this process without a message: {error}"));
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
        Command::Bucket(command) => command.run(&context),
        Command::Doctor(command) => command.run(&context),
        Command::Sign(command) => command.run(&context),
        Command::Yank(command) => command.run(&context),
        Command::Keygen(command) => command.run(),
        Command::PublicKey(command) => command.run(),
        Command::Endorse(command) => command.run(),
        Command::Cid(command) => command.run(&context),
        Command::Completions(command) => command.run(Arguments::command()),
        Command::Man(command) => command.run(Arguments::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, context.json);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &Error, json: bool) {
    if json {
        eprintln!("{}", json!({ "error": error.to_string() }));
    } else {
        eprintln!("error: {}", printable(&error.to_string()));
    }
}
