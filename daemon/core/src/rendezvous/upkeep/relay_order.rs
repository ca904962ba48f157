//! Whose relay is tried, in which order.
//!
//! Two peers that need a relay must meet at the same one, so all use the same order: the holder, its list, the ranking, as
//! published; last the peers that are known to refuse connections from outside. A peer that is in touch with no other
//! asks the others' relays before its own, where no peer would come.

use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::PeerId;

use crate::rendezvous::context::Context;
use crate::rendezvous::state::RoleState;

/// Members that run the relay: the one in use, and the one that is ready when it goes away.
const RUNNING: usize = 2;

/// The peers whose relay this peer tries, in order; each of them may turn out not to run one.
pub(crate) fn relays(state: &RoleState, cx: &Context, now: Duration) -> Vec<PeerId> {
    if !holds_alone(state, cx, now) {
        return published_relays(cx);
    }
    // The former holder comes first: this peer may be the one that is cut off from all but the relay.
    let former = cx.known.claim().and_then(|claim| claim.value().from);
    let ranked = cx.known.rows().iter().map(|row| row.peer).filter(|peer| *peer != cx.me);
    let others = former.filter(|peer| *peer != cx.me).into_iter().chain(ranked);
    let mut order = distinct_members(others, cx);
    order.push(cx.me);
    order
}

/// Whether this peer holds the role for itself alone, though it was not always alone.
fn holds_alone(state: &RoleState, cx: &Context, now: Duration) -> bool {
    let RoleState::Holding(holding) = state else { return false };
    let alone = cx.known.claim().is_some_and(|claim| {
        let claim = claim.value();
        claim.component <= 1 && claim.reason != ChangeReason::HandedOver
    });
    cx.members.len() > 1 && (alone || cx.peers.links_len() == 0) && holding.component(cx, now) <= 1
}

/// The holder and the next of the order run a relay, the latter so that it is there when needed.
pub(crate) fn wants_relay(state: &RoleState, cx: &Context) -> bool {
    match state {
        RoleState::Holding(_) => true,
        RoleState::Following(_) => published_relays(cx).iter().take(RUNNING).any(|peer| *peer == cx.me),
        RoleState::Seeking(_) | RoleState::Gone => false,
    }
}

fn published_relays(cx: &Context) -> Vec<PeerId> {
    let ranked = cx.known.rows().iter().map(|row| row.peer);
    let published = cx.known.holder().into_iter().chain(cx.known.line().list).chain(ranked);
    let mut order = distinct_members(published, cx);
    let refuses =
        |peer: &PeerId| cx.known.rows().iter().any(|row| row.peer == *peer && row.figures.inbound == Some(false));
    order.sort_by_key(refuses);
    order
}

fn distinct_members(peers: impl Iterator<Item = PeerId>, cx: &Context) -> Vec<PeerId> {
    let mut order = Vec::new();
    for peer in peers {
        if cx.members.contains(&peer) && !order.contains(&peer) {
            order.push(peer);
        }
    }
    order
}

#[cfg(test)]
mod tests;
