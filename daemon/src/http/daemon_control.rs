//! What the API asks of the process around it: to join another room, to leave, to shut down, and the network's figures.

use std::error::Error;
use std::net::SocketAddr;

use chat_core::output::CommandError;
use chat_proto::api::members::{Joined, NearbyRoom};
use futures_util::future::BoxFuture;

use crate::http::api_state::NoRoom;
use crate::net::{JoinError, JoinTarget};

/// The process around the API.
pub trait DaemonControl: Send + Sync + 'static {
    /// Joins another room, with another name if one is given: finds a member, is admitted, puts the new room into the
    /// [`RoomSlot`](crate::http::api_state::RoomSlot). Must be cancel safe: the future is dropped when the caller hangs
    /// up, and a pending knock then ends.
    fn join(&self, target: JoinTarget, name: Option<String>) -> BoxFuture<'_, Result<Joined, MoveError>>;

    /// Leaves the room for good: waits a moment until another member knows, then starts the orderly shutdown, at whose end
    /// the room's files are set aside. A daemon that waits to be admitted gives up and shuts down.
    fn leave(&self, succession: AdminSuccession) -> BoxFuture<'_, Result<(), LeaveError>>;

    /// Rooms found on the local network.
    fn rooms(&self) -> Vec<NearbyRoom>;

    /// Figures of the network.
    fn network(&self) -> NetworkFigures;

    /// Starts the orderly shutdown and returns at once.
    fn shutdown(&self);
}

/// Figures of the network for status and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkFigures {
    /// UDP and TCP port that the peer listens on.
    pub port: u16,
    /// Addresses that it announces to other peers.
    pub addrs: Vec<SocketAddr>,
    /// Number of connections to members.
    pub connections: u64,
    /// Number of connections closed because their queue was full, since the start.
    pub queue_drops: u64,
}

/// Whether a room may be left without an admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminSuccession {
    /// The last admin leaves only a room without other members.
    Required,
    /// The caller accepts that no member can remove others or appoint admins any more.
    Waived,
}

/// Why a daemon did not leave its room. It is still a member.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// It is the only admin, and the room has other members.
    #[error("you are the only admin: after you no member could remove others or appoint admins")]
    LastAdmin,
    /// The room refuses.
    #[error(transparent)]
    Room(#[from] CommandError),
    /// The room is not loaded.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Why a daemon did not join another room. It is still in its old room.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The daemon is not alone in its room: its messages would be lost from view.
    #[error("this daemon is in a room with other members")]
    AlreadyInRoom,
    /// Another join is in progress.
    #[error("this daemon is joining another room already")]
    Moving,
    /// It was not admitted.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its own room does not answer.
    #[error(transparent)]
    Room(#[from] CommandError),
    /// It has no room of its own yet.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// An internal error.
    #[error("joining the other room failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}
