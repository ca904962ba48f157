//! Handing the role over: before the holder leaves, or to a better connected peer.
//!
//! Make before break: the holder signs an [`Offer`] for one heir and goes on as holder until it sees the heir's claim,
//! which is the acknowledgment. An heir that does not claim within some round trips (0.1 to 0.4 s) is followed by the
//! next candidate: the list in order, then other neighbours. A holder that leaves gives up after 0.9 s and goes without an
//! heir, which the others notice as they notice any silence; a planned handover is given up after 2 s, and the holder
//! stays.
//!
//! An offer to a peer without a connection to the holder is flooded, and each follower forwards it once. It is valid only
//! for the term it names and from that term's holder; an heir that was stalled when it arrived ignores it, since the next
//! candidate has long been asked.

use std::collections::VecDeque;
use std::time::Duration;

use chat_proto::id::PeerId;

use crate::rendezvous::context::Context;
use crate::rendezvous::context::decision::Decision;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::offer::{Offer, Purpose};

/// Minimum time a candidate has before the next is asked as well.
const STEP_MIN: Duration = Duration::from_millis(100);

/// Maximum such time.
const STEP_MAX: Duration = Duration::from_millis(400);

/// After this a holder that leaves goes without an heir; the others notice within a second.
const LEAVE_MAX: Duration = Duration::from_millis(900);

/// After this a planned handover is given up; the holder stays.
const PLANNED_MAX: Duration = Duration::from_secs(2);

/// A handover under way.
#[derive(Debug)]
pub(crate) struct PendingHandover {
    pub(crate) purpose: Purpose,
    /// Peers that are asked next, in order.
    candidates: VecDeque<PeerId>,
    /// When the next is asked.
    next_at: Duration,
    /// When it is given up.
    deadline: Duration,
}

impl PendingHandover {
    /// When there is something to do.
    pub(crate) fn due(&self) -> Duration {
        self.next_at.min(self.deadline)
    }
}

impl Holding {
    /// Whether this holder leaves.
    pub(crate) fn is_leaving(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.purpose == Purpose::Leaving)
    }

    /// This holder is about to go: it offers the role to the list and then to the other members it is connected to, or goes at
    /// once where there is none.
    pub(crate) fn leave(&mut self, cx: &Context) -> Option<Decision> {
        let list = &self.ranking.list;
        let listed = list.iter().filter(|peer| cx.peers.is_linked(peer));
        let others = cx.peers.linked().filter(|peer| cx.members.contains(peer));
        let unlisted = others.filter(|peer| !list.contains(*peer));
        let heirs: Vec<PeerId> = listed.chain(unlisted).copied().collect();
        if heirs.is_empty() {
            return Some(Decision::Leave);
        }
        self.begin_handover(Purpose::Leaving, heirs, cx.now.mono);
        None
    }

    /// Offers the role to the candidates, one after the other.
    pub(crate) fn begin_handover(&mut self, purpose: Purpose, candidates: Vec<PeerId>, now: Duration) {
        let limit = match purpose {
            Purpose::Leaving => LEAVE_MAX,
            Purpose::Better => PLANNED_MAX,
        };
        // A holder that leaves has no time for doubts: its heir settles them.
        self.doubt.take_if(|_| purpose == Purpose::Leaving);
        self.handover =
            Some(PendingHandover { purpose, candidates: candidates.into(), next_at: now, deadline: now + limit });
    }

    /// Goes on with a handover: the next candidate when the last did not answer, an end when there is none.
    pub(super) fn continue_handover(&mut self, cx: &mut Context) -> Option<Decision> {
        let now = cx.now.mono;
        let handover = self.handover.as_mut()?;
        let purpose = handover.purpose;
        if now >= handover.deadline || (now >= handover.next_at && handover.candidates.is_empty()) {
            return match purpose {
                Purpose::Leaving => Some(Decision::Leave),
                Purpose::Better => {
                    self.handover = None;
                    None
                }
            };
        }
        if now < handover.next_at {
            return None;
        }
        let heir = handover.candidates.pop_front()?;
        handover.next_at = now + (cx.patience(&heir) * 2).clamp(STEP_MIN, STEP_MAX);
        let offer = Offer { room: cx.room, term: cx.known.term(), holder: cx.me, heir, purpose };
        let frame = RoleFrame::Offer(cx.sign(offer).raw().clone());
        cx.send_towards(heir, &frame, None);
        None
    }
}
