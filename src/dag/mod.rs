//! The Merkle DAG of an artifact: layout, digests, CID, verification of leaves, blocks and
//! archives.

pub mod blocks;
pub mod car;
pub mod cid;
pub mod digest;
pub mod hasher;
pub mod layout;
pub mod unixfs;
pub mod verify;
pub mod walk;
