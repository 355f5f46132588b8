//! The settings.

mod settings;

pub use settings::*;
