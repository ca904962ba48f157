//! Joining a room: the newcomer's end, the member's end, and the limits on strangers.

pub(crate) mod codec;
pub(crate) mod join;
pub(crate) mod limits;
pub(crate) mod link;
pub(crate) mod sealed;
pub(crate) mod server;
pub(crate) mod target;
