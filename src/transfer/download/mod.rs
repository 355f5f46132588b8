//! The download of one artifact, as a state machine without I/O.

mod machine;

pub use machine::*;
