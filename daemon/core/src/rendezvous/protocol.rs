//! What peers send each other about the role: signed statements, frames, and the rules that order them.

pub(crate) mod claim;
pub(crate) mod frames;
pub(crate) mod history;
pub(crate) mod offer;
pub(crate) mod signed;
pub(crate) mod succession;
pub(crate) mod term;
