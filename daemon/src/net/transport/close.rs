//! Why a connection ends: the reason here, the code for the other end, and the request to close.

use std::sync::Arc;

use chat_core::output::CloseReason;
use iroh::endpoint::{ConnectionError, VarInt};
use tokio::sync::watch;

/// QUIC application codes of this daemon's protocols; a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// Nothing is left to send.
    Done = 0,
    /// The other end is not a member here.
    NotMember = 1,
    /// The other end broke the protocol.
    Protocol = 2,
    /// The connection is not needed.
    Surplus = 3,
    /// This end stops.
    Stopping = 4,
    /// Another connection between the same two takes its place.
    Duplicate = 5,
    /// Too many strangers, or too many connections of one peer.
    Busy = 6,
    /// The other end reads too slowly.
    TooSlow = 7,
    /// The other end is silent.
    Silent = 8,
}

impl CloseCode {
    pub(crate) fn var_int(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// Whether the other end closed with this code.
    pub(crate) fn was_given(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == self.var_int())
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DownReason {
    /// This node closed it.
    Closed(CloseReason),
    /// The peer closed it in an orderly way.
    ClosedByPeer,
    /// The peer does not accept this one as a member.
    RefusedByPeer,
    /// No packet arrived for the idle timeout.
    TimedOut,
    /// Nothing that was sent on the direct path was answered.
    PathSilent,
    /// The peer read too slowly and its queue was full.
    QueueFull,
    /// A newer connection replaces it.
    Replaced,
    /// The peer sent a frame that is too long, or broke the framing.
    Protocol,
    /// The connection broke.
    Lost,
}

impl DownReason {
    /// The code sent to the other end.
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Closed(CloseReason::NotMember) => CloseCode::NotMember,
            Self::Closed(CloseReason::Protocol) | Self::Protocol => CloseCode::Protocol,
            Self::Closed(CloseReason::Surplus) => CloseCode::Surplus,
            Self::Closed(CloseReason::Stopping) => CloseCode::Stopping,
            Self::Closed(CloseReason::Silent) | Self::PathSilent => CloseCode::Silent,
            Self::QueueFull => CloseCode::TooSlow,
            Self::Replaced => CloseCode::Duplicate,
            Self::ClosedByPeer | Self::RefusedByPeer | Self::TimedOut | Self::Lost => CloseCode::Done,
        }
    }

    /// Whether queued frames are sent before the connection closes: when this end closes it and the peer can read.
    pub(crate) fn flushes(self) -> bool {
        match self {
            Self::Closed(CloseReason::NotMember | CloseReason::Surplus | CloseReason::Stopping) => true,
            Self::Closed(CloseReason::Protocol | CloseReason::Silent)
            | Self::ClosedByPeer
            | Self::RefusedByPeer
            | Self::TimedOut
            | Self::PathSilent
            | Self::QueueFull
            | Self::Replaced
            | Self::Protocol
            | Self::Lost => false,
        }
    }

    /// The reason of an end that the other side or the network caused.
    pub(crate) fn from_connection(error: &ConnectionError) -> Self {
        match error {
            _ if CloseCode::NotMember.was_given(error) => Self::RefusedByPeer,
            _ if CloseCode::Duplicate.was_given(error) => Self::Replaced,
            ConnectionError::ApplicationClosed(_) => Self::ClosedByPeer,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::Reset
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => Self::Lost,
        }
    }
}

/// A request to close one connection. The first reason given is kept. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CloseRequest(Arc<watch::Sender<Option<DownReason>>>);

impl Default for CloseRequest {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl CloseRequest {
    /// Requests the end, unless that was done before.
    pub(crate) fn request(&self, reason: DownReason) {
        self.0.send_if_modified(|requested| {
            let first = requested.is_none();
            if first {
                *requested = Some(reason);
            }
            first
        });
    }

    /// The reason, if the end was requested.
    pub(crate) fn requested(&self) -> Option<DownReason> {
        *self.0.borrow()
    }

    /// Waits until the end is requested. Cancel safe.
    pub(crate) async fn wait(&self) -> DownReason {
        let mut requests = self.0.subscribe();
        match requests.wait_for(Option::is_some).await {
            Ok(reason) => reason.unwrap_or(DownReason::Lost),
            // The sender lives in `self`, so the channel cannot close during the wait.
            Err(_) => DownReason::Lost,
        }
    }
}
