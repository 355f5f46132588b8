//! The Merkle DAG of an artifact: its layout, its CID, the verification of its leaves, its blocks and archives.

pub mod blocks;
pub mod car;
pub mod cid;
pub mod digest;
pub mod hasher;
pub mod layout;
pub mod unixfs;
pub mod verify;
pub mod walk;
