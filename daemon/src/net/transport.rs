//! QUIC: the endpoint, accepted and dialled connections to members, and their queues of frames.

pub(crate) mod accept;
pub(crate) mod close;
pub(crate) mod connection;
pub(crate) mod connections;
pub(crate) mod dial;
pub(crate) mod direct_again;
pub(crate) mod endpoint;
pub(crate) mod framing;
pub(crate) mod outbox;
pub(crate) mod path;
pub(crate) mod silence;
pub(crate) mod tie_break;
