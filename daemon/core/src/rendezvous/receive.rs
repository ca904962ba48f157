//! Frames from neighbours: what each one sets off.

use chat_proto::id::PeerId;

use super::Rendezvous;
use super::frames::RoleFrame;
use super::io::{RoleFault, RoleOutput};
use crate::input::Now;

impl Rendezvous {
    /// A frame arrived. What breaks the protocol is reported and changes nothing; what comes too fast is dropped.
    pub(super) fn frame(&mut self, peer: PeerId, raw: &[u8], now: Now) {
        if !self.links.contains(&peer) {
            return;
        }
        let frame = match RoleFrame::decode(raw) {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(fault) => return self.fault(peer, fault),
        };
        let Some(link) = self.links.get_mut(&peer) else { return };
        if !link.admits(frame.is_signed(), now.mono) {
            tracing::debug!(peer = %peer.short(), "role frames come too fast, one is dropped");
            return;
        }
        link.heard = now.mono;
        link.speaks = true;
        if let Err(fault) = self.act(peer, frame, now) {
            self.fault(peer, fault);
        }
    }

    fn act(&mut self, peer: PeerId, frame: RoleFrame, now: Now) -> Result<(), RoleFault> {
        match frame {
            RoleFrame::State { claim: Some(claim), succession } => {
                self.receive_claim(peer, claim, succession, now)?;
            }
            RoleFrame::State { claim: None, .. } => self.tell(peer, now.mono),
            RoleFrame::Claim(claim) => self.receive_claim(peer, claim, None, now)?,
            RoleFrame::Succession(succession) => self.receive_succession(peer, succession, now)?,
            RoleFrame::Beat { term, seq, heard_ms } => self.beat(peer, term, seq, heard_ms, now),
            RoleFrame::BeatAck { term } => self.note_follows(&peer, term, now.mono),
            RoleFrame::Ping { nonce, gossip } => self.pinged(peer, nonce, gossip, now),
            RoleFrame::Pong { nonce, gossip } => self.ponged(peer, nonce, gossip, now),
            RoleFrame::Suspect { term, nonce, cause } => self.asked(peer, term, nonce, cause, now),
            RoleFrame::Verdict { nonce, term, heard_ms } => self.verdict(peer, nonce, term, heard_ms, now.mono),
            RoleFrame::Offer(offer) => self.offered(peer, offer, now)?,
            RoleFrame::Report { hops, report } => self.reported(peer, hops, report, now)?,
            RoleFrame::HistoryWant => self.history_wanted(peer, now.mono),
            RoleFrame::History(claims) => self.history_came(peer, claims, now)?,
        }
        Ok(())
    }

    fn fault(&mut self, peer: PeerId, fault: RoleFault) {
        self.out.push_back(RoleOutput::Fault(peer, fault));
    }
}
