//! `edge-net-models`: publishes and verifies model files.

mod bucket;
mod digest;
mod error;
mod ipfs;
mod key;
mod publish;
mod registry;
mod upload;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Publishes and verifies AI model files.
#[derive(Parser)]
#[command(name = "edge-net-models", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a signing key, and print it as a client pins it
    Keygen(key::Keygen),
    /// Print the public half of a key as a client pins it
    PublicKey(key::PublicKey),
    /// Say that a new key replaces an old one: for publish --endorsement
    Endorse(key::Endorse),
    /// Print size, SHA-256 and CID of a file
    Cid(digest::Cid),
    /// Sign a folder of files as a version of a model, and upload it
    Publish(Box<publish::Publish>),
    /// Withdraw a version from a registry: it is no more offered as the newest, and still served to who names it
    Yank(registry::Yank),
    /// Check the files of a folder against their signed manifest
    Verify(verify::Verify),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Keygen(command) => command.run(),
        Command::PublicKey(command) => command.run(),
        Command::Endorse(command) => command.run(),
        Command::Cid(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Yank(command) => command.run(),
        Command::Verify(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
