//! What both ends say when they close a connection.

use chat_core::output::CloseReason;
use iroh::endpoint::{ConnectionError, VarInt};

use super::DownReason;

/// QUIC application codes of this daemon's protocols; a code never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// All was said.
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
    /// The other end says nothing.
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

impl DownReason {
    /// What the other end is told.
    pub(crate) fn code(self) -> CloseCode {
        match self {
            Self::Closed(CloseReason::NotMember) => CloseCode::NotMember,
            Self::Closed(CloseReason::Protocol) | Self::Protocol => CloseCode::Protocol,
            Self::Closed(CloseReason::Surplus) => CloseCode::Surplus,
            Self::Closed(CloseReason::Stopping) => CloseCode::Stopping,
            Self::Closed(CloseReason::Silent) => CloseCode::Silent,
            Self::QueueFull => CloseCode::TooSlow,
            Self::Replaced => CloseCode::Duplicate,
            Self::ClosedByPeer | Self::RefusedByPeer | Self::TimedOut | Self::Lost => CloseCode::Done,
        }
    }

    /// Whether what is queued is sent before the connection closes: when this end decided so, and the peer can read.
    pub(crate) fn flushes(self) -> bool {
        match self {
            Self::Closed(CloseReason::NotMember | CloseReason::Surplus | CloseReason::Stopping) => true,
            Self::Closed(CloseReason::Protocol | CloseReason::Silent)
            | Self::ClosedByPeer
            | Self::RefusedByPeer
            | Self::TimedOut
            | Self::QueueFull
            | Self::Replaced
            | Self::Protocol
            | Self::Lost => false,
        }
    }

    /// Why a connection ended that this end did not close.
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
