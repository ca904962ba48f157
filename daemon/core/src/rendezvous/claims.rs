//! Claims: accepting one of another peer, making one, and deciding between two.

pub(crate) mod accept;
pub(crate) mod bootstrap;
pub(crate) mod conflict;
pub(crate) mod make;
