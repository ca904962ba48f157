//! When a peer that knows of no holder takes the role, and which neighbours it counts.

use std::collections::BTreeSet;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;

use super::*;
use crate::input::Now;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{RoleInput, RoleOutput};
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::{Gossip, RoleFrame};
use crate::rendezvous::protocol::signed::Signed;
use crate::rendezvous::settings::RoleSettings;
use crate::types::PathInfo;

fn id(n: u8) -> PeerId {
    PeerId::from_bytes(SigningKey::from_bytes(&[n + 1; 32]).verifying_key().to_bytes())
}

fn now(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), wall: Timestamp::from_ms(1_790_000_000_000 + ms) }
}

/// Peer 0 of a room of 4, connected to all, a moment after it was let in.
fn newcomer() -> Rendezvous {
    let key = SigningKey::from_bytes(&[1; 32]);
    let mut role = Rendezvous::new(RoomId::from_bytes([5; 32]), key, RoleSettings::default(), 1, now(0));
    let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
    role.handle(RoleInput::Members { active: (0..4).map(id).collect(), former: BTreeSet::new() }, now(0));
    for n in 1..4 {
        role.handle(RoleInput::Up(id(n), path), now(0));
    }
    role
}

/// When it took the role, looking every 50 ms.
fn claimed(
    role: &mut Rendezvous,
    from: u64,
    until: u64,
    mut meanwhile: impl FnMut(&mut Rendezvous, u64),
) -> Option<u64> {
    for ms in (from..until).step_by(50) {
        meanwhile(role, ms);
        role.handle(RoleInput::Tick, now(ms));
        if role.cx.known.holder() == Some(id(0)) {
            return Some(ms);
        }
    }
    None
}

fn component(role: &Rendezvous) -> Option<u32> {
    role.cx.known.claim().map(|claim| claim.value().component)
}

#[test]
fn component_of_a_first_claim_is_the_neighbours_that_answered() {
    let mut role = newcomer();
    let pong = |role: &mut Rendezvous, ms| {
        let gossip = Gossip { term: Term(0), serial: 0, age_ms: 0, claim: 0, digest: 0 };
        role.handle(RoleInput::Frame(id(1), RoleFrame::Pong { nonce: 1, gossip }.encode()), now(ms));
    };
    let at = claimed(&mut role, 50, 20_000, pong).expect("the role has no holder");
    assert!((2_000..3_000).contains(&at), "{at}");
    assert_eq!(component(&role), Some(1));
}

#[test]
fn peer_whose_paths_all_died_waits_until_they_recover_or_end() {
    let mut role = newcomer();
    assert_eq!(claimed(&mut role, 50, 4_400, |_, _| {}), None, "no neighbour is gone, and none answers");
    for n in 1..4 {
        role.handle(RoleInput::Down(id(n)), now(4_400));
    }
    let at = claimed(&mut role, 4_450, 20_000, |_, _| {}).expect("now it is alone");
    assert!(at < 6_000, "{at}");
    assert_eq!(component(&role), Some(0), "its claim gives way to that of any holder");
}

#[test]
fn connection_that_just_opened_is_not_an_answer() {
    let mut role = newcomer();
    let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
    let again = |role: &mut Rendezvous, ms| {
        if ms % 1_000 == 0 {
            role.handle(RoleInput::Up(id(1), path), now(ms));
        }
    };
    assert_eq!(claimed(&mut role, 50, 9_000, again), None, "no neighbour answers");
}

#[test]
fn silent_connection_is_not_waited_for_without_end() {
    let at = claimed(&mut newcomer(), 50, 60_000, |_, _| {}).expect("some day");
    assert!((10_000..12_000).contains(&at), "{at}");
}

#[test]
fn only_member_does_not_wait_for_strangers() {
    let mut role = newcomer();
    role.handle(RoleInput::Members { active: BTreeSet::from([id(0)]), former: (1..4).map(id).collect() }, now(4_000));
    role.handle(RoleInput::Tick, now(4_000));
    assert_eq!(role.cx.known.holder(), Some(id(0)));
}

#[test]
fn newcomer_follows_an_early_claim_once_its_claimant_is_a_member() {
    let peer = |n: u8| {
        let key = SigningKey::from_bytes(&[n + 1; 32]);
        Rendezvous::new(RoomId::from_bytes([5; 32]), key, RoleSettings::default(), 1, now(0))
    };
    let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
    let mut holder = peer(1);
    holder.handle(RoleInput::Members { active: BTreeSet::from([id(1)]), former: BTreeSet::new() }, now(0));
    holder.handle(RoleInput::Up(id(0), path), now(10));
    let told = std::iter::from_fn(|| holder.poll_output()).find_map(|output| {
        if let RoleOutput::Send { to, frame, .. } = output { (to == [id(0)]).then(|| frame.to_vec()) } else { None }
    });
    let told = told.expect("a new neighbour is sent the state");

    let mut newcomer = peer(0);
    newcomer.handle(RoleInput::Up(id(1), path), now(10));
    newcomer.handle(RoleInput::Frame(id(1), told), now(11));
    assert_eq!(newcomer.cx.known.holder(), None, "the claimant is unknown");
    newcomer.handle(RoleInput::Members { active: (2..4).map(id).collect(), former: BTreeSet::new() }, now(12));
    assert_eq!(newcomer.cx.known.holder(), None, "the claimant is still unknown");
    newcomer.handle(RoleInput::Members { active: (0..4).map(id).collect(), former: BTreeSet::new() }, now(13));
    assert_eq!(newcomer.cx.known.holder(), Some(id(1)));
}

/// The log reaches a newcomer in portions: it follows the holder before its own admission has arrived, and goes on doing so.
#[test]
fn newcomer_that_follows_does_not_seek_again_when_its_admission_arrives() {
    let path = PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };
    let key = |n: u8| SigningKey::from_bytes(&[n + 1; 32]);
    let members = |all: std::ops::Range<u8>, former: std::ops::Range<u8>| RoleInput::Members {
        active: all.map(id).collect(),
        former: former.map(id).collect(),
    };
    let claim = Claim {
        room: RoomId::from_bytes([5; 32]),
        term: Term(1),
        claimant: id(1),
        from: None,
        reason: ChangeReason::Founded,
        component: 1,
        rank: 1,
        gap_ms: 0,
        at: Timestamp::from_ms(0),
    };
    let claim = RoleFrame::Claim(Signed::sign(claim, &key(1)).raw().clone()).encode();
    let mut role = Rendezvous::new(RoomId::from_bytes([5; 32]), key(0), RoleSettings::default(), 1, now(0));
    role.handle(members(1..3, 0..0), now(0));
    role.handle(RoleInput::Up(id(1), path), now(0));
    role.handle(RoleInput::Frame(id(1), claim.clone()), now(10));
    assert_eq!(role.query().holder(), Some((id(1), Term(1))));
    role.handle(members(1..4, 0..0), now(20));
    assert_eq!(role.query().holder(), Some((id(1), Term(1))), "its own admission has not arrived");
    role.handle(members(0..4, 0..0), now(30));
    assert_eq!(role.query().holder(), Some((id(1), Term(1))));
    assert_eq!(
        claimed(&mut role, 50, 9_000, |role, ms| role.handle(RoleInput::Frame(id(1), claim.clone()), now(ms))),
        None
    );

    // One that was removed begins anew, and follows again once it is a member again.
    role.handle(members(1..4, 0..1), now(9_000));
    assert_eq!(role.query().holder(), None);
    role.handle(members(0..4, 0..0), now(9_100));
    role.handle(RoleInput::Frame(id(1), claim), now(9_110));
    assert_eq!(role.query().holder(), Some((id(1), Term(1))));
}
