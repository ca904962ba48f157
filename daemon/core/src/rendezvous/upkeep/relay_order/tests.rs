//! Orders of relays, as published rankings and lonely claims make them.

use std::collections::BTreeSet;

use chat_proto::id::{RoomId, Term};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

use super::*;
use crate::connectivity::rank::{Figures, RankRow};
use crate::input::Now;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::RoleInput;
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::protocol::succession::Succession;
use crate::rendezvous::settings::RoleSettings;
use crate::types::PathInfo;

const ROOM: RoomId = RoomId::from_bytes([5; 32]);

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n + 1; 32])
}

fn id(n: u8) -> PeerId {
    PeerId::from_bytes(key(n).verifying_key().to_bytes())
}

fn now(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), wall: Timestamp::from_ms(1_790_000_000_000 + ms) }
}

/// Peer 0 of a room of 4, connected to all.
fn member() -> Rendezvous {
    let mut role = Rendezvous::new(ROOM, key(0), RoleSettings::default(), 1, now(0));
    let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
    let active: BTreeSet<PeerId> = (0..4).map(id).collect();
    role.handle(RoleInput::Members { active, former: BTreeSet::new() }, now(0));
    for n in 1..4 {
        role.handle(RoleInput::Up(id(n), path), now(0));
    }
    role
}

/// `holder` holds the role, in touch with `component` members, and has published this list; of the ranked it is known whether they can
/// be called.
fn hold(role: &mut Rendezvous, holder: u8, component: u32, list: &[u8], ranked: &[(u8, bool)]) {
    let before = role.cx.known.holder();
    let claim = Claim {
        room: ROOM,
        term: Term(role.cx.known.term().0 + 1),
        claimant: id(holder),
        from: before,
        reason: ChangeReason::Silent,
        component,
        rank: 1,
        gap_ms: 0,
        at: Timestamp::from_ms(0),
    };
    let figures = |called| Figures { inbound: Some(called), reports: 3, reached: 3, ..Figures::default() };
    let succession = Succession {
        room: ROOM,
        term: claim.term,
        holder: id(holder),
        serial: 1,
        at: Timestamp::from_ms(0),
        component,
        list: list.iter().map(|n| id(*n)).collect(),
        rows: ranked.iter().map(|(n, called)| RankRow { peer: id(*n), figures: figures(*called) }).collect(),
    };
    let frame = RoleFrame::State {
        claim: Some(Signed::sign(claim, &key(holder)).raw().clone()),
        succession: Some(Signed::sign(succession, &key(holder)).raw().clone()),
    };
    role.handle(RoleInput::Frame(id(holder), frame.encode()), now(10));
    assert_eq!(role.cx.known.holder(), Some(id(holder)));
}

fn ids(order: &[u8]) -> Vec<PeerId> {
    order.iter().map(|n| id(*n)).collect()
}

fn relays(role: &Rendezvous) -> Vec<PeerId> {
    role.query().relays(Duration::from_millis(20))
}

#[test]
fn relay_order_is_holder_then_list_then_ranking() {
    let mut role = member();
    assert!(relays(&role).is_empty(), "no peer is known yet");
    hold(&mut role, 2, 4, &[3], &[(1, true), (2, true), (3, true)]);
    assert_eq!(relays(&role), ids(&[2, 3, 1]));
    assert!(!wants_relay(&role.state, &role.cx), "two are enough");
}

#[test]
fn relay_of_an_unreachable_peer_is_last_even_as_holder() {
    let mut role = member();
    hold(&mut role, 2, 4, &[3, 0], &[(2, false), (3, false), (0, true), (1, true)]);
    assert_eq!(relays(&role), ids(&[0, 1, 2, 3]));
    assert!(wants_relay(&role.state, &role.cx), "it is the first that others reach");
}

#[test]
fn relay_of_a_holder_declared_gone_is_doubted() {
    let mut role = member();
    hold(&mut role, 2, 4, &[3], &[(2, true), (3, true)]);
    assert_eq!(role.query().doubted_relay(), None);
    role.handle(RoleInput::Bye(id(2)), now(30));
    assert_eq!(role.query().doubted_relay(), Some(id(2)));
    assert_eq!(relays(&role), ids(&[2, 3]), "its users leave it when it does not answer");
}

#[test]
fn lone_holder_tries_the_relays_of_lost_peers_before_its_own() {
    let mut role = member();
    hold(&mut role, 2, 4, &[0, 3], &[(2, true), (0, true), (3, true)]);
    for n in 1..4 {
        role.handle(RoleInput::Down(id(n)), now(40));
    }
    for ms in (50..20_000).step_by(50) {
        role.handle(RoleInput::Tick, now(ms));
    }
    assert_eq!(role.cx.known.holder(), Some(id(0)), "it believes itself alone");
    let order = role.query().relays(Duration::from_secs(20));
    assert_eq!((order.first(), order.last()), (Some(&id(2)), Some(&id(0))), "{order:?}");
    assert!(wants_relay(&role.state, &role.cx), "its own is there all the same");
}
