//! The border to the daemon and to other peers: inputs, outputs, frames, and what a node begins with.

pub mod config;
pub mod input;
pub mod output;
pub mod restore;
pub mod types;
pub mod wire;
