//! Handing the role over: before leaving, or to somebody better connected. Make before break: the holder goes on until
//! it sees the other's claim, which is the acknowledgment.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use serde::{Deserialize, Serialize};

use super::Rendezvous;
use super::frames::RoleFrame;
use super::io::{Delivery, RoleFault, RoleOutput};
use super::part::{Handover, Part};
use super::signed::{Opened, Signed, SignedBytes, Statement};
use crate::input::Now;

/// Shortest time a candidate has before the next is asked as well.
const STEP_MIN: Duration = Duration::from_millis(100);

/// Longest such time.
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
    /// To whom.
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

impl Rendezvous {
    /// This peer is about to go.
    pub(super) fn leave(&mut self, now: Now) {
        let heirs: Vec<PeerId> = match &self.part {
            Part::Holding(holding) => {
                let listed = holding.list.iter().filter(|peer| self.links.contains(peer));
                let others = self.links.peers().filter(|peer| self.members.contains(*peer));
                let unlisted = others.filter(|peer| !holding.list.contains(*peer));
                listed.chain(unlisted).copied().collect()
            }
            Part::Seeking { .. } | Part::Following(_) | Part::Gone => Vec::new(),
        };
        if heirs.is_empty() {
            self.released();
        } else {
            self.begin_handover(Purpose::Leaving, heirs, now.mono);
        }
    }

    fn released(&mut self) {
        self.close_watch();
        self.part = Part::Gone;
        self.out.push_back(RoleOutput::Released);
    }

    pub(super) fn begin_handover(&mut self, purpose: Purpose, candidates: Vec<PeerId>, now: Duration) {
        let limit = match purpose {
            Purpose::Leaving => LEAVE_MAX,
            Purpose::Better => PLANNED_MAX,
        };
        if let Part::Holding(holding) = &mut self.part {
            // Who leaves has no time for doubts: whoever takes over settles them.
            holding.doubt.take_if(|_| purpose == Purpose::Leaving);
            holding.handover =
                Some(Handover { purpose, candidates: candidates.into(), next_at: now, deadline: now + limit });
        }
    }

    /// Goes on with a handover: the next candidate when the last did not answer, an end when there is none.
    pub(super) fn hand_over(&mut self, now: Now) {
        let Part::Holding(holding) = &mut self.part else { return };
        let Some(handover) = &mut holding.handover else { return };
        let purpose = handover.purpose;
        if now.mono >= handover.deadline || (now.mono >= handover.next_at && handover.candidates.is_empty()) {
            match purpose {
                Purpose::Leaving => self.released(),
                Purpose::Better => holding.handover = None,
            }
            return;
        }
        if now.mono < handover.next_at {
            return;
        }
        let Some(heir) = handover.candidates.pop_front() else { return };
        let patience = self.measures.get(&heir).and_then(|measure| measure.rtt).map(|rtt| rtt.patience());
        handover.next_at = now.mono + (patience.unwrap_or_default() * 2).clamp(STEP_MIN, STEP_MAX);
        let offer = Offer { room: self.room, term: self.ledger.term(), holder: self.me, heir, purpose };
        let frame = RoleFrame::Offer(Signed::sign(offer, &self.key).raw().clone());
        self.send_towards(heir, &frame, None);
    }

    /// To a neighbour, or to all so that one of them passes it on.
    fn send_towards(&mut self, to: PeerId, frame: &RoleFrame, source: Option<PeerId>) {
        if self.links.contains(&to) {
            self.send(vec![to], frame, Delivery::Stream);
        } else {
            self.flood(frame, source);
        }
    }

    /// The holder offers the role, to this peer or another.
    pub(super) fn offered(&mut self, source: PeerId, raw: SignedBytes, now: Now) -> Result<(), RoleFault> {
        let opened: Opened<Offer> = raw.clone().open(&self.room)?;
        let (heir, purpose) = (opened.value().heir, opened.value().purpose);
        let current = opened.value().term == self.ledger.term() && Some(opened.value().holder) == self.ledger.holder();
        let Part::Following(following) = &self.part else { return Ok(()) };
        if !current || following.offer == Some(heir) || !self.may_claim() {
            return Ok(());
        }
        opened.verify()?;
        if heir == self.me {
            // An offer that waited while this peer slept has long been made to the next.
            if !self.slip.just_woke(now.mono) {
                self.take_over(purpose, now);
            }
            return Ok(());
        }
        if let Part::Following(following) = &mut self.part {
            following.offer = Some(heir);
        }
        self.send_towards(heir, &RoleFrame::Offer(raw), Some(source));
        Ok(())
    }

    fn take_over(&mut self, purpose: Purpose, now: Now) {
        let reason = match purpose {
            Purpose::Leaving => ChangeReason::HandedOver,
            Purpose::Better => ChangeReason::BetterConnected,
        };
        let others = self.others_online();
        let others = match purpose {
            Purpose::Leaving => others.saturating_sub(1),
            Purpose::Better => others,
        };
        let component = u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1);
        self.claim(reason, self.ledger.holder(), Duration::ZERO, component, now);
    }
}
