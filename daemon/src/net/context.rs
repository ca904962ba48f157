//! What every task of the network needs.

use std::sync::Arc;

use chat_proto::id::PeerId;
use iroh::EndpointId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use crate::net::event_queue::EventSender;
use crate::net::gate::Gate;

/// This peer, the gate, the event queue and the end of all tasks. Cheap to clone. State belongs to the part that
/// changes it, not here.
#[derive(Clone, Debug)]
pub(crate) struct NetContext {
    pub(crate) me: PeerId,
    pub(crate) gate: Arc<Gate>,
    pub(crate) events: EventSender,
    pub(crate) tracker: TaskTracker,
    /// Ends all tasks.
    pub(crate) token: CancellationToken,
}

impl NetContext {
    /// Starts a task that shutdown waits for. The task itself must end when the token is cancelled.
    pub(crate) fn spawn(&self, span: Span, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task.instrument(span));
    }
}

/// Converts a peer id to iroh's; `None` when its bytes are not a key.
pub(crate) fn endpoint_id(peer: &PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(peer.as_bytes()).ok()
}

/// Converts iroh's id to a peer id.
pub(crate) fn peer_id(id: EndpointId) -> PeerId {
    PeerId::from_bytes(*id.as_bytes())
}
