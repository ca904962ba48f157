//! The commands of `chatd`, one file each.

pub(crate) mod completions;
pub(crate) mod env;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod service;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;

use std::io;

use tokio::runtime::Runtime;

use crate::life::failure::Failure;

/// A command cannot be carried out on this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for input and output")]
struct RuntimeError(#[source] io::Error);

/// A runtime for a command that asks the daemon and ends.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(&RuntimeError(error)))
}
