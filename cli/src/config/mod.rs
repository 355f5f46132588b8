//! Settings: what they are, and where each value comes from. The order of precedence is: command
//! line, environment, configuration file, defaults.
//!
//! Order of the modules, lowest first: `origin`, `error`, `folders` and `values`, `layers`,
//! `schema`, `file`, `flags`.

mod error;
mod file;
mod flags;
mod folders;
mod layers;
mod origin;
mod schema;
mod values;

pub use error::ConfigError;
pub use flags::Flags;
pub use folders::state_directory;
pub use schema::Settings;
