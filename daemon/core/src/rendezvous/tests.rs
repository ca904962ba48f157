//! Hostile members: no frame makes a peer panic, grow without bound, or take a peer for the holder that made no claim.
//!
//! Promise P7: bad role frames cause no crash and no unbounded memory.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_proto::id::{PeerId, RoomId, Term};
use chat_proto::time::Timestamp;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

use crate::connectivity::rank::{Figures, RankRow};
use crate::connectivity::report::{ConnectivityReport, ReportRow};
use crate::input::Now;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{RoleFault, RoleInput, RoleOutput};
use crate::rendezvous::protocol::claim::Claim;
use crate::rendezvous::protocol::frames::{Cause, Gossip, RoleFrame};
use crate::rendezvous::protocol::offer::{Offer, Purpose};
use crate::rendezvous::protocol::signed::{Signed, SignedBytes};
use crate::rendezvous::protocol::succession::Succession;
use crate::rendezvous::settings::{HISTORY_MAX, RoleSettings};
use crate::sim::role::peer::{ROOM, key_of};
use crate::types::{PathInfo, ProbeOutcome, RoleEvent};

const PATH: PathInfo =
    PathInfo { direct: true, rtt: Duration::from_millis(1), loss: 0.0, remote: None, inbound: false };

fn now(ms: u64) -> Now {
    Now { mono: Duration::from_millis(ms), wall: Timestamp::from_ms(1_790_000_000_000 + ms) }
}

fn id(n: usize) -> PeerId {
    PeerId::from_bytes(key_of(n).verifying_key().to_bytes())
}

/// Peer 0 of a room of 4, connected to all, following peer 1 in term 3.
fn follower() -> Rendezvous {
    let mut role = Rendezvous::new(ROOM, key_of(0), RoleSettings::default(), 1, now(0));
    let active: BTreeSet<PeerId> = (0..4).map(id).collect();
    role.handle(RoleInput::Members { active, former: BTreeSet::new() }, now(0));
    for n in 1..4 {
        role.handle(RoleInput::Up(id(n), PATH), now(0));
    }
    send(&mut role, 1, &RoleFrame::Claim(claim(&key_of(1), 3)), 10);
    drained(&mut role);
    assert_eq!(role.query().holder(), Some((id(1), Term(3))));
    role
}

fn claim_of(claimant: PeerId, term: u64) -> Claim {
    Claim {
        room: ROOM,
        term: Term(term),
        claimant,
        from: None,
        reason: ChangeReason::Died,
        component: 4,
        rank: 1,
        gap_ms: 0,
        at: Timestamp::from_ms(0),
    }
}

fn claim(key: &SigningKey, term: u64) -> SignedBytes {
    Signed::sign(claim_of(PeerId::from_bytes(key.verifying_key().to_bytes()), term), key).raw().clone()
}

fn offer(by: usize, heir: usize, term: u64, purpose: Purpose) -> SignedBytes {
    let offer = Offer { room: ROOM, term: Term(term), holder: id(by), heir: id(heir), purpose };
    Signed::sign(offer, &key_of(by)).raw().clone()
}

fn send(role: &mut Rendezvous, from: usize, frame: &RoleFrame, at_ms: u64) {
    role.handle(RoleInput::Frame(id(from), frame.encode()), now(at_ms));
}

fn drained(role: &mut Rendezvous) -> Vec<RoleOutput> {
    std::iter::from_fn(|| role.poll_output()).collect()
}

#[test]
fn claim_signed_by_another_peer_is_refused() {
    let other_room = RoomId::from_bytes([8; 32]);
    let forged = |claim: Claim| Signed::sign(claim, &key_of(2)).raw().clone();
    for (name, raw, fault) in [
        ("signed by another", forged(claim_of(id(3), 9)), Some(RoleFault::Signature)),
        ("of another room", forged(Claim { room: other_room, ..claim_of(id(2), 9) }), Some(RoleFault::OtherRoom)),
        ("by a stranger", claim(&key_of(77), 9), None),
        ("of an absurd term", claim(&key_of(2), u64::MAX), None),
        ("far too far ahead", claim(&key_of(2), 1 << 40), None),
        ("of an old term", claim(&key_of(2), 2), None),
    ] {
        let mut role = follower();
        send(&mut role, 2, &RoleFrame::Claim(raw), 20);
        assert_eq!(role.query().holder(), Some((id(1), Term(3))), "{name}");
        let faults: Vec<RoleFault> = drained(&mut role)
            .into_iter()
            .filter_map(|output| if let RoleOutput::Fault(_, fault) = output { Some(fault) } else { None })
            .collect();
        assert_eq!(faults, fault.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let mut role = follower();
    send(&mut role, 2, &RoleFrame::Claim(claim(&key_of(2), 4)), 20);
    assert_eq!(role.query().holder(), Some((id(2), Term(4))), "an honest claim is taken");
}

#[test]
fn succession_and_heartbeat_are_valid_from_the_holder_only() {
    let mut role = follower();
    let succession = |by: usize, serial: u64| {
        let succession = Succession {
            room: ROOM,
            term: Term(3),
            holder: id(by),
            serial,
            at: Timestamp::from_ms(0),
            component: 4,
            list: vec![id(0)],
            rows: vec![RankRow { peer: id(0), figures: Figures::default() }],
        };
        Signed::sign(succession, &key_of(by)).raw().clone()
    };
    send(&mut role, 2, &RoleFrame::Succession(succession(2, 5)), 20);
    assert_eq!(role.query().rank_of(&id(0)), None);
    send(&mut role, 2, &RoleFrame::Succession(succession(1, 5)), 30);
    assert_eq!(role.query().rank_of(&id(0)), Some(1), "forwarded by another peer it is valid");
    send(&mut role, 2, &RoleFrame::Succession(succession(1, 4)), 40);
    assert_eq!(role.cx.known.serial(), 5, "an old one changes nothing");

    // Peer 2 beats and answers for a holder that is gone: the others notice all the same.
    let mut at = 50;
    while role.query().holder().is_some_and(|(holder, _)| holder == id(1)) && at < 20_000 {
        send(&mut role, 2, &RoleFrame::Beat { term: Term(3), seq: at, heard_ms: 0 }, at);
        at += 50;
    }
    assert!(at < 2_000, "noticed after {at} ms");
}

#[test]
fn offer_is_valid_from_the_holder_only_and_is_forwarded_to_its_heir() {
    for (name, by, heir, term, taken) in [
        ("by another peer", 2, 0, 3, false),
        ("of an old term", 1, 0, 2, false),
        ("to another", 1, 3, 3, false),
        ("by the holder", 1, 0, 3, true),
    ] {
        let mut role = follower();
        send(&mut role, 2, &RoleFrame::Offer(offer(by, heir, term, Purpose::Better)), 20);
        assert_eq!(role.query().holder() == Some((id(0), Term(4))), taken, "{name}");
        let is_offer = |frame: &[u8]| matches!(RoleFrame::decode(frame), Ok(Some(RoleFrame::Offer(_))));
        let passed_on = drained(&mut role).into_iter().find_map(|output| {
            if let RoleOutput::Send { to, frame, .. } = output { is_offer(&frame).then_some(to) } else { None }
        });
        assert_eq!(passed_on, (name == "to another").then(|| vec![id(3)]), "{name}");
    }
}

/// Whether a peer that is woken whenever it wants soon wants nothing more at this moment.
fn comes_to_rest(role: &mut Rendezvous, at_ms: u64) -> bool {
    (0..10).any(|_| {
        role.handle(RoleInput::Tick, now(at_ms));
        drained(role);
        role.poll_timeout().is_none_or(|due| due > now(at_ms).mono)
    })
}

/// A newcomer that does not know yet that it was admitted, or a removed member whose neighbours do not know yet. Found by a
/// simulated room.
#[test]
fn vacancy_does_not_wake_a_peer_that_may_not_claim() {
    let mut role = Rendezvous::new(ROOM, key_of(0), RoleSettings::default(), 1, now(0));
    let members =
        |peers: std::ops::Range<usize>| RoleInput::Members { active: peers.map(id).collect(), former: BTreeSet::new() };
    role.handle(members(1..4), now(0));
    role.handle(RoleInput::Up(id(1), PATH), now(0));
    send(&mut role, 1, &RoleFrame::Claim(claim(&key_of(1), 3)), 10);
    role.handle(RoleInput::Bye(id(1)), now(20));
    drained(&mut role);
    for at in (40..3_000).step_by(20) {
        assert!(comes_to_rest(&mut role, at), "at {at} ms");
        assert_eq!(role.query().term(), Term(3), "it claims nothing");
    }
    role.handle(members(0..4), now(3_000));
    assert!(comes_to_rest(&mut role, 3_020));
    assert_eq!(role.query().holder(), Some((id(0), Term(4))), "and does when it may");
}

/// Peer 0 follows peer 1 as the first of its list, and heard its heartbeats until one second.
fn listed_follower() -> Rendezvous {
    let mut role = follower();
    let succession = Succession {
        room: ROOM,
        term: Term(3),
        holder: id(1),
        serial: 1,
        at: Timestamp::from_ms(0),
        component: 4,
        list: vec![id(0)],
        rows: Vec::new(),
    };
    send(&mut role, 1, &RoleFrame::Succession(Signed::sign(succession, &key_of(1)).raw().clone()), 20);
    for seq in 1..=5u64 {
        send(&mut role, 1, &RoleFrame::Beat { term: Term(3), seq, heard_ms: 0 }, seq * 200);
    }
    drained(&mut role);
    role
}

/// When the holder is declared gone, with a tick every ten milliseconds until three seconds.
fn vacant_at(role: &mut Rendezvous, from_ms: u64) -> Option<u64> {
    (from_ms..3_000).step_by(10).find(|at| {
        role.handle(RoleInput::Tick, now(*at));
        drained(role).iter().any(|output| matches!(output, RoleOutput::Vacant { .. } | RoleOutput::Changed(_)))
    })
}

#[test]
fn end_of_the_connection_to_a_silent_holder_delays_no_failover() {
    let with_heartbeats_alone = vacant_at(&mut listed_follower(), 1_010).expect("declared gone");
    assert!((1_620..=1_800).contains(&with_heartbeats_alone), "{with_heartbeats_alone}");
    for down in [1_200, 1_400, 1_600] {
        let mut role = listed_follower();
        role.handle(RoleInput::Down(id(1)), now(down));
        drained(&mut role);
        let vacant = vacant_at(&mut role, down + 10).expect("declared gone");
        assert!((1_620..=with_heartbeats_alone + 20).contains(&vacant), "closed at {down}, gone at {vacant}");
    }
}

#[test]
fn suspected_holder_is_asked_over_a_new_connection_at_once() {
    let mut role = listed_follower();
    role.handle(RoleInput::Down(id(1)), now(1_450));
    role.handle(RoleInput::Tick, now(1_630));
    drained(&mut role);
    role.handle(RoleInput::Up(id(1), PATH), now(1_640));
    let mut pings = Vec::new();
    for output in drained(&mut role) {
        if let RoleOutput::Send { to, frame, .. } = output
            && to == [id(1)]
            && let Ok(Some(RoleFrame::Ping { nonce, .. })) = RoleFrame::decode(&frame)
        {
            pings.push(nonce);
        }
    }
    assert!(!pings.is_empty(), "it is suspected");
    let gossip = Gossip { term: Term(3), serial: 1, age_ms: 0, claim: 0, digest: 0 };
    for nonce in pings {
        send(&mut role, 1, &RoleFrame::Pong { nonce, gossip }, 1_650);
    }
    assert!(vacant_at(&mut role, 1_660).is_none_or(|at| at > 2_200), "its answer refutes the suspicion");
}

#[test]
fn flood_of_frames_is_limited_and_leaves_nothing() {
    let mut role = follower();
    let mut sent = 0;
    for n in 0..5_000u64 {
        let frame = match n % 5 {
            0 => RoleFrame::Claim(claim(&key_of(2), 4 + n)),
            1 => RoleFrame::HistoryWant,
            2 => RoleFrame::Ping {
                nonce: n,
                gossip: Gossip { term: Term(n), serial: n, age_ms: 0, claim: 0, digest: 0 },
            },
            3 => RoleFrame::Suspect { term: Term(n), nonce: n, cause: Cause::Died },
            _ => RoleFrame::Offer(offer(1, 0, role.query().term().0, Purpose::Leaving)),
        };
        send(&mut role, 2, &frame, 100 + n / 100);
        sent += drained(&mut role).len();
    }
    assert!(sent < 2_000, "5,000 frames in 50 ms set off {sent} outputs");
    assert!(role.cx.history.changes().count() <= HISTORY_MAX);
}

#[test]
fn flood_of_losing_claims_does_not_delay_a_winning_one() {
    let mut role = follower();
    for n in 0..60 {
        let losing = Claim { component: 0, at: Timestamp::from_ms(n), ..claim_of(id(2), 3) };
        send(&mut role, 2, &RoleFrame::Claim(Signed::sign(losing, &key_of(2)).raw().clone()), 20);
    }
    send(&mut role, 3, &RoleFrame::Claim(claim(&key_of(3), 4)), 21);
    assert_eq!(role.query().holder(), Some((id(3), Term(4))));
}

#[test]
fn repeated_history_requests_are_answered_rarely() {
    let mut role = follower();
    for n in 0..50 {
        send(&mut role, 2, &RoleFrame::HistoryWant, 20 + n);
    }
    let sent = drained(&mut role).iter().filter(|output| matches!(output, RoleOutput::Send { .. })).count();
    assert!(sent <= 2, "{sent} answers");
}

#[test]
fn report_and_history_of_a_stranger_are_not_kept() {
    let mut role = Rendezvous::new(ROOM, key_of(0), RoleSettings::default(), 1, now(0));
    let active = BTreeSet::from([id(0)]);
    role.handle(RoleInput::Members { active, former: BTreeSet::new() }, now(0));
    let active: BTreeSet<PeerId> = (0..3).map(id).collect();
    role.handle(RoleInput::Members { active, former: BTreeSet::from([id(9)]) }, now(0));
    role.handle(RoleInput::Up(id(2), PATH), now(0));
    assert_eq!(role.query().holder(), Some((id(0), Term(1))));
    for by in 1..60 {
        let row = ReportRow { peer: id(0), direct: true, rtt: None, loss: 0, called: None };
        let report = ConnectivityReport {
            room: ROOM,
            reporter: id(by),
            term: Term(1),
            at: Timestamp::from_ms(5),
            rows: vec![row],
        };
        let report = Signed::sign(report, &key_of(by)).raw().clone();
        send(&mut role, 2, &RoleFrame::Report { hops: 0, report }, 10 + by as u64 * 100);
    }
    let crate::rendezvous::state::RoleState::Holding(holding) = &role.state else { panic!("peer 0 holds the role") };
    assert_eq!(holding.reports.len(), 3, "its own and those of the two other members");

    let claims = (0..90).map(|n| claim(&key_of(n), 1)).collect();
    send(&mut role, 2, &RoleFrame::History(claims), 9_000);
    let claimants: BTreeSet<PeerId> = role.cx.history.changes().map(|change| change.to).collect();
    assert!(claimants.is_subset(&BTreeSet::from([id(0), id(1), id(2), id(9)])), "{claimants:?}");
}

#[test]
fn role_survives_an_attacker_that_drives_terms_up() {
    let mut role = follower();
    for step in 1..200u64 {
        send(&mut role, 2, &RoleFrame::Claim(claim(&key_of(2), 3 + (step << 32) - 1)), 1_000 * step);
    }
    let driven = role.query().term();
    // It is removed; the others go on from there.
    let active: BTreeSet<PeerId> = [0, 1, 3].map(id).into();
    role.handle(RoleInput::Members { active, former: BTreeSet::from([id(2)]) }, now(300_000));
    send(&mut role, 3, &RoleFrame::Claim(claim(&key_of(3), driven.0 + 1)), 300_001);
    assert_eq!(role.query().holder(), Some((id(3), driven.next())));
}

fn arb_signed() -> impl Strategy<Value = SignedBytes> {
    let claims = (0usize..5, any::<u64>(), any::<u32>()).prop_map(|(by, term, component)| {
        let claim = Claim { component, ..claim_of(id(by), term % 9) };
        Signed::sign(claim, &key_of(by)).raw().clone()
    });
    let successions = (0usize..5, 0usize..5, 0u64..9, any::<u64>()).prop_map(|(by, listed, term, serial)| {
        let succession = Succession {
            room: ROOM,
            term: Term(term),
            holder: id(by),
            serial,
            at: Timestamp::from_ms(0),
            component: 1,
            list: vec![id(listed)],
            rows: vec![RankRow { peer: id(listed), figures: Figures::default() }],
        };
        Signed::sign(succession, &key_of(by)).raw().clone()
    });
    prop_oneof![claims, successions]
}

fn arb_frame() -> impl Strategy<Value = RoleFrame> {
    let gossip = (0u64..9, any::<u64>(), any::<u32>(), any::<u32>())
        .prop_map(|(term, serial, age_ms, digest)| Gossip { term: Term(term), serial, age_ms, claim: 0, digest });
    prop_oneof![
        (proptest::option::of(arb_signed()), proptest::option::of(arb_signed()))
            .prop_map(|(claim, succession)| RoleFrame::State { claim, succession }),
        arb_signed().prop_map(RoleFrame::Claim),
        arb_signed().prop_map(RoleFrame::Succession),
        (0u64..9, any::<u64>(), any::<u32>()).prop_map(|(term, seq, heard_ms)| RoleFrame::Beat {
            term: Term(term),
            seq,
            heard_ms
        }),
        (any::<u64>(), gossip).prop_map(|(nonce, gossip)| RoleFrame::Pong { nonce, gossip }),
        (0u64..9, any::<u64>()).prop_map(|(term, nonce)| RoleFrame::Suspect {
            term: Term(term),
            nonce,
            cause: Cause::Died
        }),
        (0u64..9, any::<u64>(), any::<Option<u32>>()).prop_map(|(term, nonce, heard_ms)| RoleFrame::Verdict {
            term: Term(term),
            nonce,
            heard_ms
        }),
        (0usize..5, 0usize..5, 0u64..9).prop_map(|(by, to, term)| RoleFrame::Offer(offer(
            by,
            to,
            term,
            Purpose::Better
        ))),
        proptest::collection::vec(arb_signed(), 0..4).prop_map(RoleFrame::History),
    ]
}

fn arb_input() -> impl Strategy<Value = RoleInput> {
    let peer = || (0usize..5).prop_map(id);
    prop_oneof![
        6 => (peer(), arb_frame()).prop_map(|(peer, frame)| RoleInput::Frame(peer, frame.encode())),
        2 => (peer(), any::<Vec<u8>>()).prop_map(|(peer, raw)| RoleInput::Frame(peer, raw)),
        1 => (peer(), any::<f32>(), any::<u32>()).prop_map(|(peer, loss, us)| {
            RoleInput::Path(peer, PathInfo { loss, rtt: Duration::from_micros(us.into()), ..PATH })
        }),
        2 => peer().prop_map(|peer| RoleInput::Up(peer, PATH)),
        1 => peer().prop_map(RoleInput::Down),
        1 => peer().prop_map(RoleInput::Bye),
        1 => peer().prop_map(|peer| RoleInput::Net(RoleEvent::WatchOpened(peer))),
        1 => peer().prop_map(|peer| RoleInput::Net(RoleEvent::WatchClosed(peer))),
        1 => peer().prop_map(|peer| RoleInput::Net(RoleEvent::WatchFailed(peer))),
        1 => peer().prop_map(|peer| RoleInput::Net(RoleEvent::Probed(peer, ProbeOutcome::Unanswered(Vec::new())))),
        1 => proptest::collection::btree_set(peer(), 0..5)
            .prop_map(|active| RoleInput::Members { active, former: BTreeSet::new() }),
        1 => proptest::collection::btree_set(peer(), 0..5).prop_map(RoleInput::Online),
        4 => Just(RoleInput::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn any_input_keeps_the_state_machine_sound(
        inputs in proptest::collection::vec((arb_input(), 0u64..3_000), 1..120),
    ) {
        let mut role = follower();
        let mut at = 1_000;
        let mut term = role.query().term();
        for (input, pause) in inputs {
            at += pause;
            role.handle(input, now(at));
            let outputs = drained(&mut role);
            prop_assert!(outputs.len() < 100, "{} outputs for one input", outputs.len());
            prop_assert!(role.query().term() >= term, "terms never go back");
            term = role.query().term();
            prop_assert!(comes_to_rest(&mut role, at), "it wants to be woken for ever at {at} ms");
        }
    }

    #[test]
    fn frame_with_missing_or_extra_bytes_is_refused(frame in arb_frame(), cut in 1usize..9) {
        let raw = frame.encode();
        prop_assert_eq!(RoleFrame::decode(&raw), Ok(Some(frame)));
        prop_assert_eq!(RoleFrame::decode(&[raw.as_slice(), &[0]].concat()), Err(RoleFault::Malformed));
        let short = &raw[..raw.len().saturating_sub(cut)];
        prop_assert!(RoleFrame::decode(short).is_err());
        let mut newer = raw;
        newer[0] = 2;
        prop_assert_eq!(RoleFrame::decode(&newer), Ok(None), "frames of a later version are passed over");
    }
}
