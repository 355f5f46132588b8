//! The commands.

pub mod embed;
pub mod list;
pub mod publish;
pub mod pull;
pub mod shell;
pub mod sign;
pub mod verify;
