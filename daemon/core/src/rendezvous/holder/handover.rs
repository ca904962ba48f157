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

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use serde::{Deserialize, Serialize};

use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::RoleFault;
use crate::rendezvous::holder::Holding;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::{Opened, SignedBytes, Statement};
use crate::rendezvous::state::context::Context;
use crate::rendezvous::state::{Bid, Decision, RoleState, with_me};

/// Minimum time a candidate has before the next is asked as well.
const STEP_MIN: Duration = Duration::from_millis(100);

/// Maximum such time.
const STEP_MAX: Duration = Duration::from_millis(400);

/// After this a holder that leaves goes without an heir; the others notice within a second.
const LEAVE_MAX: Duration = Duration::from_millis(900);

/// After this a planned handover is given up; the holder stays.
const PLANNED_MAX: Duration = Duration::from_secs(2);

/// The holder offers the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) room: RoomId,
    /// The holder's term.
    pub(crate) term: Term,
    pub(crate) holder: PeerId,
    /// The peer that may take the role.
    pub(crate) heir: PeerId,
    pub(crate) purpose: Purpose,
}

/// Why the role is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// The holder leaves.
    Leaving,
    /// The heir is better connected.
    Better,
}

impl Statement for Offer {
    const CONTEXT: &'static [u8] = b"chatd role offer v1\0";

    fn room(&self) -> &RoomId {
        &self.room
    }

    fn author(&self) -> &PeerId {
        &self.holder
    }

    fn fits(&self) -> bool {
        self.heir != self.holder
    }
}

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

impl Rendezvous {
    /// This peer is about to go: a holder hands the role over first.
    pub(crate) fn leave(&mut self) {
        if let RoleState::Holding(holding) = &mut self.state {
            let cx = &self.cx;
            let list = &holding.ranking.list;
            let listed = list.iter().filter(|peer| cx.neighbours.contains(peer));
            let others = cx.neighbours.peers().filter(|peer| cx.members.contains(peer));
            let unlisted = others.filter(|peer| !list.contains(*peer));
            let heirs: Vec<PeerId> = listed.chain(unlisted).copied().collect();
            if !heirs.is_empty() {
                return holding.begin_handover(Purpose::Leaving, heirs, cx.now.mono);
            }
        }
        self.carry_out(Decision::Leave);
    }

    /// The holder offers the role, to this peer or another.
    pub(crate) fn receive_offer(&mut self, source: PeerId, raw: SignedBytes) -> Result<(), RoleFault> {
        let cx = &mut self.cx;
        let opened: Opened<Offer> = raw.clone().open(&cx.room)?;
        let (heir, purpose) = (opened.value().heir, opened.value().purpose);
        let current = opened.value().term == cx.known.term() && Some(opened.value().holder) == cx.known.holder();
        let RoleState::Following(following) = &mut self.state else { return Ok(()) };
        if !current || following.offer == Some(heir) || !cx.may_claim() {
            return Ok(());
        }
        opened.verify()?;
        if heir != cx.me {
            following.offer = Some(heir);
            cx.send_towards(heir, &RoleFrame::Offer(raw), Some(source));
        } else if !cx.stalls.just_woke(cx.now.mono) {
            let bid = accepted_offer(purpose, cx);
            self.claim(bid);
        }
        Ok(())
    }
}

/// The claim with which an heir takes the role over.
fn accepted_offer(purpose: Purpose, cx: &Context) -> Bid {
    let (reason, others) = match purpose {
        Purpose::Leaving => (ChangeReason::HandedOver, cx.others_online().saturating_sub(1)),
        Purpose::Better => (ChangeReason::BetterConnected, cx.others_online()),
    };
    Bid { reason, from: cx.known.holder(), gap: Duration::ZERO, component: with_me(others) }
}
