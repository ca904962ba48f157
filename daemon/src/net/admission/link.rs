//! A connection between a newcomer and a member: over QUIC, or sealed over TCP where no UDP passes.

use std::net::SocketAddr;

use chat_core::admission::codec::ADMISSION_BYTES_MAX;
use chat_proto::id::PeerId;
use iroh::endpoint::{Connection, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, split};

use crate::net::admission::sealed::SealedLink;
use crate::net::context::peer_id;
use crate::net::transport::close::CloseCode;
use crate::net::transport::path::seen_at;

/// Sends messages of the conversation.
pub(crate) type AnswerSender = Box<dyn AsyncWrite + Send + Unpin>;

/// Receives them.
pub(crate) type AnswerReceiver = Box<dyn AsyncRead + Send + Unpin>;

/// A connection of the admission protocol.
#[derive(Debug)]
pub(crate) enum AdmissionLink {
    /// Over QUIC.
    Quic(Connection),
    /// Over TCP.
    Tcp(SealedLink),
}

impl AdmissionLink {
    /// The other end, which has proved its key.
    pub(crate) fn peer(&self) -> PeerId {
        match self {
            Self::Quic(connection) => peer_id(connection.remote_id()),
            Self::Tcp(link) => link.peer,
        }
    }

    /// Where the newcomer's packets of UDP come from; `None` over TCP and through a relay.
    pub(crate) fn observed(&self) -> Option<SocketAddr> {
        match self {
            Self::Quic(connection) => seen_at(connection),
            Self::Tcp(_) => None,
        }
    }

    /// Address at which the newcomer reached the member; `None` through a relay.
    pub(crate) fn member_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Quic(connection) => seen_at(connection),
            Self::Tcp(link) => Some(link.addr),
        }
    }

    /// A stranger needs no larger window than for one request and one reveal.
    pub(crate) fn bound(&self) {
        match self {
            Self::Quic(connection) => connection.set_receive_window(VarInt::from_u32(2 * ADMISSION_BYTES_MAX as u32)),
            // Its buffers have fixed sizes.
            Self::Tcp(_) => {}
        }
    }

    /// The newcomer's stream; `None` when the connection is gone.
    pub(crate) async fn open(&self) -> Option<(AnswerSender, AnswerReceiver)> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.open_bi().await.ok()?;
                Some((Box::new(send), Box::new(recv)))
            }
            Self::Tcp(link) => tcp(link),
        }
    }

    /// The same at the member's end.
    pub(crate) async fn accept(&self) -> Option<(AnswerSender, AnswerReceiver)> {
        match self {
            Self::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await.ok()?;
                Some((Box::new(send), Box::new(recv)))
            }
            Self::Tcp(link) => tcp(link),
        }
    }

    /// Waits for the end of the connection.
    pub(crate) async fn closed(&self) {
        match self {
            Self::Quic(connection) => {
                connection.closed().await;
            }
            Self::Tcp(link) => link.ended.cancelled().await,
        }
    }

    /// Ends the connection.
    pub(crate) fn close(&self, code: CloseCode) {
        match self {
            Self::Quic(connection) => connection.close(code.var_int(), b""),
            Self::Tcp(link) => link.ended.cancel(),
        }
    }

    /// Whether the other end closed with this code.
    pub(crate) fn was_closed_with(&self, code: CloseCode) -> bool {
        match self {
            Self::Quic(connection) => connection.close_reason().is_some_and(|error| code.was_given(&error)),
            Self::Tcp(_) => false,
        }
    }
}

fn tcp(link: &SealedLink) -> Option<(AnswerSender, AnswerReceiver)> {
    let (recv, send) = split(link.take()?);
    Some((Box::new(send), Box::new(recv)))
}
