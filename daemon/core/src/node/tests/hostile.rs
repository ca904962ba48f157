//! Members that send anything at all.

mod budgets;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::{EntryHash, PeerId};
use chat_proto::time::Timestamp;
use proptest::prelude::*;

use crate::config::AUTHOR_LOGS_MAX;
use crate::input::{Command, Input};
use crate::log::entry::{AdmitBy, Body, Control, Dep, Head, Hlc, Incarnation, LogId, MessageBody, Seq, SignedEntry};
use crate::log::signature::SignatureBytes;
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Kit, key, text};
use crate::output::{CloseReason, Reply};
use crate::peers::addrs::AddrRecord;
use crate::wire::{Frame, KnockNews, PeerLink};

fn peer(n: u8) -> PeerId {
    // Members, strangers with a key, and keys that are none.
    match n % 4 {
        0..3 => PeerId::from_bytes(key(usize::from(n % 3)).verifying_key().to_bytes()),
        _ => PeerId::from_bytes([n; 32]),
    }
}

fn log() -> impl Strategy<Value = LogId> {
    (any::<u8>(), prop_oneof![Just(1000), Just(1001), any::<u64>()])
        .prop_map(|(n, incarnation)| LogId { author: peer(n), incarnation: Incarnation(incarnation) })
}

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![0..5u64, any::<u64>(), Just(u64::MAX)].prop_map(Seq)
}

fn signed() -> impl Strategy<Value = SignedEntry> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..80);
    (bytes(), proptest::option::of(bytes())).prop_map(|(header, body)| SignedEntry {
        header,
        signature: SignatureBytes::from_bytes(&[5; 64]),
        body,
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let entries = || proptest::collection::vec(signed(), 0..4);
    let head = (log(), seq(), any::<[u8; 32]>()).prop_map(|(log, seq, hash)| Head {
        log,
        seq,
        hash: EntryHash::from_bytes(hash),
    });
    let held = (any::<u8>(), log(), seq(), any::<[u8; 32]>()).prop_map(|(n, log, seq, hash)| Frame::Held {
        holder: peer(n),
        log,
        seq,
        hash: EntryHash::from_bytes(hash),
    });
    let link = (any::<u8>(), any::<bool>(), any::<u32>()).prop_map(|(n, direct, rtt_us)| PeerLink {
        peer: peer(n),
        direct,
        rtt_us,
    });
    let record = (any::<u8>(), any::<u64>()).prop_map(|(n, ms)| {
        let addrs = vec![SocketAddr::from(([192, 0, 2, n], 1)); 3];
        AddrRecord::sign(addrs, Timestamp::from_ms(ms), &key(usize::from(n % 100)))
    });
    let news = prop_oneof![Just(KnockNews::Waiting), Just(KnockNews::Denied), Just(KnockNews::Over)];
    prop_oneof![
        any::<u64>().prop_map(|ms| Frame::Hello { time: Timestamp::from_ms(ms), observed: None }),
        entries().prop_map(Frame::Entries),
        entries().prop_map(Frame::Chunk),
        (proptest::collection::vec(head, 0..6), any::<bool>())
            .prop_map(|(heads, reply)| Frame::Vector { heads, reply }),
        (log(), seq(), seq()).prop_map(|(log, from, to)| Frame::Want { log, from, to }),
        held,
        proptest::collection::vec(link, 0..6).prop_map(Frame::Links),
        proptest::collection::vec(record, 0..3).prop_map(Frame::Addrs),
        (any::<u8>(), ".{0,40}", ".{0,80}", news).prop_map(|(n, name, words, state)| Frame::Knock {
            peer: peer(n),
            name,
            words,
            state
        }),
        (signed(), signed()).prop_map(|(one, other)| Frame::Fork(Box::new(one), Box::new(other))),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Frame::Tree),
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Frame::Role),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
    ]
}

/// Control entries that are signed properly by a member and mean nothing good.
fn control() -> impl Strategy<Value = Control> {
    let invite = any::<[u8; 32]>().prop_map(chat_proto::id::InviteId::from_bytes);
    let by = prop_oneof![
        Just(AdmitBy::Member),
        invite.clone().prop_map(|key| AdmitBy::Invite { key, signature: SignatureBytes::from_bytes(&[1; 64]) })
    ];
    let cut = (log(), seq()).prop_map(|(log, seq)| Dep { log, seq });
    prop_oneof![
        (invite.clone(), any::<u64>(), any::<u32>()).prop_map(|(key, ms, uses)| Control::Invite {
            key,
            expires: Timestamp::from_ms(ms),
            uses
        }),
        invite.prop_map(|key| Control::Revoke { key }),
        (any::<u8>(), by).prop_map(|(n, by)| Control::Admit { peer: peer(n), name: "eve".into(), by }),
        (any::<u8>(), proptest::collection::vec(cut, 0..5))
            .prop_map(|(n, cuts)| Control::Remove { peer: peer(n), cuts }),
        "[a-z]{1,10}".prop_map(|name| Control::Rename { name }),
        (any::<u8>(), any::<bool>()).prop_map(|(n, admin)| Control::Role { peer: peer(n), admin }),
        any::<[u8; 32]>().prop_map(|identity| Control::Keys { identity, fallback: identity }),
        Just(Control::Leave),
    ]
}

/// Whatever happened, the two honest ones still talk.
fn still_works(kit: &mut Kit) {
    if !kit.is_linked(0, 1) {
        kit.connect(0, 1);
    }
    kit.say(0, "still here");
    assert_eq!(kit.peers[1].history().last().map(String::as_str), Some("still here"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_from_a_member_harm_nobody(raws in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut kit = Kit::room(3);
        let sender = kit.peers[2].id;
        for raw in raws {
            kit.input(0, Input::Frame(sender, Bytes::from(raw)));
            if !kit.is_linked(0, 2) {
                kit.connect(0, 2);
            }
        }
        still_works(&mut kit);
    }

    #[test]
    fn frames_that_make_no_sense_harm_nobody(frames in proptest::collection::vec(frame(), 1..40)) {
        let mut kit = Kit::room(3);
        for (n, frame) in frames.iter().enumerate() {
            kit.frame(0, 2, frame);
            if n % 8 == 0 {
                kit.pass(Duration::from_millis(700));
            }
            if !kit.is_linked(0, 2) {
                kit.connect(0, 2);
            }
        }
        kit.pass(Duration::from_secs(40));
        prop_assert!(kit.peers[0].node.cx.timers.len() < 200);
        still_works(&mut kit);
    }

    /// A plain member signs whatever it likes: those who may do more are not harmed by it, and all agree.
    #[test]
    fn entries_that_make_no_sense_harm_nobody(controls in proptest::collection::vec((control(), seq(), log()), 1..20)) {
        let mut kit = Kit::room(3);
        let mut forger = Forger::behind(&kit, 2);
        for (control, seq, log) in controls {
            forger.header.deps = vec![Dep { log, seq }];
            if let Some(entry) = forger.try_sign(Body::Control(control.clone())) {
                kit.frame(0, 2, &Frame::Entries(vec![entry]));
            }
            forger.header.deps.clear();
            let entry = forger.try_sign(Body::Control(control)).expect("within bounds");
            kit.frame(0, 2, &Frame::Entries(vec![entry]));
        }
        kit.pass(Duration::from_secs(40));
        let roster = kit.peers[0].node.roster();
        prop_assert!(roster.is_member(&kit.peers[0].id) && roster.is_member(&kit.peers[1].id));
        still_works(&mut kit);
        prop_assert_eq!(kit.peers[1].node.roster(), kit.peers[0].node.roster());
    }
}

#[test]
fn peer_that_sends_no_frame_or_many_forged_entries_is_disconnected() {
    let mut kit = Kit::room(2);
    let sender = kit.peers[1].id;
    kit.input(0, Input::Frame(sender, Bytes::from_static(&[0xff, 1, 2, 3])));
    assert_eq!(kit.peers[0].closed, [(sender, CloseReason::Protocol)]);
    kit.connect(0, 1);
    let mut forged = Forger::behind(&kit, 1).say("forged");
    forged.signature = SignatureBytes::from_bytes(&[9; 64]);
    kit.frame(0, 1, &Frame::Entries(vec![forged.clone()]));
    assert_eq!(kit.peers[0].closed.len(), 1, "one may be the fault of its disk");
    kit.frame(0, 1, &Frame::Entries(vec![forged; 100]));
    assert_eq!(kit.peers[0].closed.len(), 2);
}

#[test]
fn entries_that_wait_for_ever_fill_no_memory() {
    let mut kit = Kit::room(3);
    let mut forger = Forger::behind(&kit, 2);
    forger.header.seq = Seq(5);
    forger.header.backlink = Some(EntryHash::from_bytes([7; 32]));
    for n in 0..5_000 {
        let entry = forger.say(&format!("never {n}"));
        kit.frame(0, 2, &Frame::Entries(vec![entry]));
    }
    assert!(kit.peers[0].node.logs.pending.len() <= 4096);
    still_works(&mut kit);
    kit.say(1, "and in the other direction");
    assert_eq!(kit.peers[0].history().last().map(String::as_str), Some("and in the other direction"));
}

#[test]
fn claims_fill_no_memory() {
    let mut kit = Kit::room(2);
    let hash = EntryHash::from_bytes([7; 32]);
    for round in 0..40u64 {
        let head = |n: u64| {
            let author = PeerId::from_bytes([u8::try_from(n % 251).expect("a byte"); 32]);
            Head { log: LogId { author, incarnation: Incarnation(round * 1000 + n) }, seq: Seq(n + 1), hash }
        };
        kit.frame(0, 1, &Frame::Vector { heads: (0..1000).map(head).collect(), reply: false });
    }
    let connected = kit.peers[0].node.peers.connections.get(&kit.peers[1].id).expect("connected");
    assert!(connected.known.len() <= 16 * 1024 && connected.held.len() <= 16 * 1024);
    assert!(kit.peers[0].node.inspect().work_left().iter().all(|(_, count)| *count <= 16 * 1024));
    kit.pass(Duration::from_secs(60));
    still_works(&mut kit);
}

#[test]
fn addresses_of_nobody_leave_room_for_members() {
    let mut kit = Kit::room(2);
    let now = kit.now.wall;
    for n in 0..6_000u32 {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        seed[31] = 1;
        let stranger = ed25519_dalek::SigningKey::from_bytes(&seed);
        let record = AddrRecord::sign(vec![SocketAddr::from(([192, 0, 2, 9], 9))], now, &stranger);
        kit.frame(0, 1, &Frame::Addrs(vec![record]));
    }
    assert!(kit.peers[0].node.peers.addrs.records().count() <= 5_000);
    kit.join(2);
    assert!(kit.peers[0].node.peers.addrs.get(&kit.peers[2].id).is_some());
    assert!(
        kit.peers[0].dials.iter().all(|peer| kit.peers.iter().any(|known| known.id == *peer)),
        "strangers are not dialled"
    );
}

#[test]
fn what_nobody_can_give_is_not_asked_for_without_end() {
    let mut kit = Kit::room(2);
    let log = LogId { author: kit.peers[1].id, incarnation: Incarnation(4711) };
    let head = Head { log, seq: Seq(10), hash: EntryHash::from_bytes([7; 32]) };
    kit.frame(0, 1, &Frame::Vector { heads: vec![head], reply: false });
    kit.peers[0].take_sent();
    kit.pass(Duration::from_secs(600));
    let wants = kit.peers[0].take_sent().iter().filter(|(_, frame)| matches!(frame, Frame::Want { .. })).count();
    assert!(wants < 12, "asked {wants} times in ten minutes");
}

#[test]
fn a_message_can_be_as_long_as_allowed() {
    let mut kit = Kit::room(2);
    kit.say(0, &"x".repeat(chat_proto::TEXT_BYTES_MAX));
    kit.assert_alike();
    let mut forger = Forger::behind(&kit, 0);
    assert!(forger.try_sign(Body::Messages(vec![text(&"x".repeat(chat_proto::TEXT_BYTES_MAX + 1))])).is_none());
    assert!(forger.try_sign(Body::Messages(vec![MessageBody::Sealed(Vec::new())])).is_none());
    forger.header.time = Hlc(u64::MAX);
    let last = forger.say("at the end of time");
    kit.frame(1, 0, &Frame::Entries(vec![last]));
    kit.say(1, "time goes on");
    assert_eq!(kit.peers[1].history().len(), 3);
}

/// Far more logs of one member than are valid, and more than are kept.
#[test]
fn thousands_of_logs_of_a_member_keep_no_newcomer_out() {
    let mut kit = Kit::room(2);
    let logs = 2000;
    let entries: Vec<SignedEntry> = (1..=logs).map(|n| Forger::new(&kit, 1, n).say("x")).collect();
    for chunk in entries.chunks(500) {
        kit.frame(0, 1, &Frame::Entries(chunk.to_vec()));
    }
    assert_eq!(kit.peers[0].node.logs.heads.vector().len(), 1 + AUTHOR_LOGS_MAX, "further ones are void");
    kit.disconnect_all(1);
    kit.say(0, "welcome");
    kit.join(2);
    kit.pass(Duration::from_secs(60));
    assert_eq!(kit.peers[2].history().len(), AUTHOR_LOGS_MAX + 1);
    let removed = kit.peers[1].id;
    assert_eq!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done)));
    kit.pass(Duration::from_secs(1));
    assert!(!kit.peers[2].node.roster().is_member(&removed));
    kit.say(0, "quiet again");
    assert!(kit.peers[2].history().contains(&"quiet again".to_owned()));
}

/// It builds on what no peer has. The other branch, and all that honest members build on it, arrives nevertheless.
#[test]
fn branch_that_waits_in_vain_keeps_no_other_branch_out() {
    for length in 1..4 {
        let mut kit = Kit::room(3);
        let (mut forger, mut other) = (Forger::behind(&kit, 2), Forger::behind(&kit, 2));
        let unknown = LogId { author: kit.peers[1].id, incarnation: Incarnation(4711) };
        forger.header.deps = vec![Dep { log: unknown, seq: Seq(3) }];
        let waiting: Vec<SignedEntry> = (0..2).map(|n| forger.say(&format!("waits {n}"))).collect();
        kit.frame(0, 2, &Frame::Entries(waiting));
        let shown: Vec<SignedEntry> = (0..length).map(|n| other.say(&format!("shown {n}"))).collect();
        kit.frame(1, 2, &Frame::Entries(shown));
        kit.say(1, "builds on it");
        kit.pass(Duration::from_secs(60));
        assert_eq!(kit.peers[0].history(), kit.peers[1].history());
        assert_eq!(kit.peers[0].history().len(), length + 1, "{:?}", kit.peers[0].history());
    }
}

#[test]
fn many_logs_of_a_member_leave_out_no_cause_of_what_others_write() {
    let mut kit = Kit::room(4);
    // The one that asks comes last in the order of keys.
    let mut members = [1, 2, 3];
    members.sort_by_key(|n| kit.peers[*n].id);
    let [one, other, asks] = members;
    kit.say(asks, "question");
    for n in [one, other] {
        let entries: Vec<SignedEntry> = (1..=250).map(|log| Forger::new(&kit, n, log).say("x")).collect();
        kit.frame(0, n, &Frame::Entries(entries));
    }
    kit.say(0, "answer");
    let question = kit.peers[1]
        .logs
        .values()
        .flatten()
        .find(|entry| !entry.messages().is_empty() && entry.author() == kit.peers[asks].id);
    let place = question.map(|entry| Dep { log: entry.log(), seq: entry.seq() }).expect("it wrote one");
    let own = LogId { author: kit.peers[0].id, incarnation: kit.peers[0].incarnation };
    let answer = kit.peers[0].logs[&own].last().expect("it wrote one");
    assert!(answer.header().deps.contains(&place), "an answer builds on its question");
}
