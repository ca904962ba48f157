//! Admission: how a stranger becomes a member.

pub mod codec;
pub(crate) mod door;
