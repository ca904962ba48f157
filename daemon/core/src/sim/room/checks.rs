//! What must hold at every step, and the lines that a failure prints.

pub(super) mod checker;
pub(super) mod rights;
pub(super) mod trace;
pub(super) mod void;
