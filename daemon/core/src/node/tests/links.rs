//! Connections that come, go and are ended.

use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::PeerId;

use crate::input::{Command, Input};
use crate::log::entry::Control;
use crate::node::tests::kit::{Disk, Kit, path, post};
use crate::output::{CloseReason, Output, Reply};
use crate::wire::Frame;

#[test]
fn whoever_is_removed_hears_of_it_before_the_connection_ends() {
    let mut kit = Kit::room(3);
    let removed = kit.peers[2].id;
    assert_eq!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done)));
    assert!(kit.peers[0].closed.contains(&(removed, CloseReason::NotMember)));
    assert!(kit.peers[1].closed.contains(&(removed, CloseReason::NotMember)));
    let heard =
        |entry: &std::sync::Arc<crate::log::entry::Entry>| matches!(entry.control(), Some(Control::Remove { .. }));
    assert!(kit.peers[2].logs.values().flatten().any(heard));
    assert!(!kit.peers[2].node.roster().is_member(&removed));
}

#[test]
fn a_connection_that_is_being_closed_is_out_of_use() {
    let mut kit = Kit::room(2);
    let other = kit.peers[1].id;
    kit.peers[0].node.handle(Input::Frame(other, bytes::Bytes::from_static(b"\xff\xff")), kit.now);
    let mut outputs = Vec::new();
    while let Some(output) = kit.peers[0].node.poll_output() {
        outputs.push(output);
    }
    assert!(matches!(outputs.first(), Some(Output::Disconnect(peer, CloseReason::Protocol)) if *peer == other));
    let now = kit.now;
    let node = &mut kit.peers[0].node;
    node.handle(Input::Frame(other, Frame::Ping(7).encode().expect("fits")), now);
    node.handle(Input::Command(crate::input::CommandId(9999), post("hello", Wait::Stored, 1)), now);
    while let Some(output) = node.poll_output() {
        assert!(!matches!(output, Output::Send(..) | Output::Dial(..)), "{output:?}");
    }
    // The shell would not dial while the old connection stands, so nothing is dialled before it is down.
    node.handle(Input::Tick, crate::input::Now { mono: now.mono + Duration::from_secs(60), ..now });
    while let Some(output) = node.poll_output() {
        assert!(!matches!(output, Output::Dial(..)), "{output:?}");
    }
}

#[test]
fn a_lost_connection_is_dialled_again_and_a_short_one_later() {
    let mut kit = Kit::room(2);
    let other = kit.peers[1].id;
    kit.pass(Duration::from_secs(10));
    kit.disconnect(0, 1);
    kit.peers[0].dials.clear();
    kit.pass(Duration::from_millis(150));
    assert_eq!(kit.peers[0].dials, [other]);
    for _ in 0..6 {
        kit.input(0, Input::Up(other, path()));
        kit.input(0, Input::Down(other));
    }
    kit.peers[0].dials.clear();
    kit.pass(Duration::from_secs(5));
    let dials = kit.peers[0].dials.len();
    assert!((1..=4).contains(&dials), "{dials}: a peer that hangs up at once is dialled every two seconds");
}

/// Nothing comes from a peer any more, and its connection is closed for that: it is lost like one whose connection broke.
#[test]
fn a_peer_that_fell_silent_is_dialled_at_once() {
    let mut kit = Kit::room(2);
    kit.pass(Duration::from_secs(10));
    let (other, begin) = (kit.peers[1].id, kit.now);
    let node = &mut kit.peers[0].node;
    let (mut closed, mut dialled) = (None, None);
    for step in 1..200 {
        let now = crate::input::Now { mono: begin.mono + Duration::from_millis(50 * step), ..begin };
        node.handle(Input::Tick, now);
        let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
        for output in outputs {
            if matches!(output, Output::Disconnect(peer, CloseReason::Silent) if peer == other) {
                closed = Some(step);
                node.handle(Input::Down(other), now);
            }
            if matches!(output, Output::Dial(peer, _) if peer == other) && dialled.is_none() {
                dialled = Some(step);
            }
        }
    }
    let (closed, dialled) = (closed.expect("it is given up"), dialled.expect("it is dialled"));
    assert!(dialled - closed <= 4, "dialled {} ms after it was given up", 50 * (dialled - closed));
}

/// How often the first of the kit dials each of these in a minute in which every dial fails.
fn dials_in_a_minute(kit: &mut Kit, others: &[usize]) -> Vec<usize> {
    let ids: Vec<_> = others.iter().map(|other| kit.peers[*other].id).collect();
    let mut dials = vec![0; ids.len()];
    for _ in 0..120 {
        kit.peers[0].dials.clear();
        kit.pass(Duration::from_millis(500));
        let dialled: Vec<_> =
            kit.peers[0].dials.iter().filter_map(|peer| ids.iter().position(|id| id == peer)).collect();
        for place in dialled {
            dials[place] += 1;
            kit.input(0, Input::DialFailed(ids[place]));
        }
    }
    dials
}

#[test]
fn who_was_lost_lately_is_dialled_often_and_all_of_them_no_more_than_one() {
    let mut kit = Kit::room(6);
    kit.pass(Duration::from_secs(10));
    kit.disconnect_all(1);
    dials_in_a_minute(&mut kit, &[1]);
    let one = dials_in_a_minute(&mut kit, &[1])[0];
    assert!((20..=40).contains(&one), "{one} dials a minute: one every two seconds was to be expected");
    for other in 2..6 {
        kit.disconnect_all(other);
    }
    dials_in_a_minute(&mut kit, &[1, 2, 3, 4, 5]);
    let each = dials_in_a_minute(&mut kit, &[1, 2, 3, 4, 5]);
    assert!(each.iter().all(|dials| (3..=10).contains(dials)), "{each:?}");
    for _ in 0..10 {
        dials_in_a_minute(&mut kit, &[1, 2, 3, 4, 5]);
    }
    let later = dials_in_a_minute(&mut kit, &[1, 2, 3, 4, 5]);
    assert!(later.iter().all(|dials| (1..=4).contains(dials)), "{later:?}");
}

#[test]
fn up_after_up_replaces_the_connection() {
    let mut kit = Kit::room(2);
    let other = kit.peers[1].id;
    kit.peers[0].take_sent();
    kit.input(0, Input::Up(other, path()));
    let sent = kit.peers[0].take_sent();
    assert!(sent.iter().any(|(_, frame)| matches!(frame, Frame::Hello { .. })));
    assert!(sent.iter().any(|(_, frame)| matches!(frame, Frame::Vector { .. })));
}

#[test]
fn a_peer_that_says_goodbye_is_not_dialled_at_once() {
    let mut kit = Kit::room(2);
    kit.pass(Duration::from_secs(10));
    kit.frame(0, 1, &Frame::Bye);
    kit.peers[0].dials.clear();
    kit.disconnect(0, 1);
    kit.pass(Duration::from_millis(200));
    assert!(kit.peers[0].dials.is_empty());
    kit.pass(Duration::from_secs(2));
    assert!(!kit.peers[0].dials.is_empty());
    let other = kit.peers[1].id;
    kit.input(0, Input::DialFailed(other));
    let dials = dials_in_a_minute(&mut kit, &[1])[0];
    assert!((1..=10).contains(&dials), "{dials}: it said that it goes");
}

#[test]
fn messages_travel_through_others() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 2);
    kit.say(0, "from one end");
    kit.say(2, "from the other");
    let id = kit.begin(0, post("and back", Wait::Replicated, 2));
    // The far end may not know yet that the author can be reached through others; then it tells when it does.
    kit.pass(Duration::from_millis(200));
    let reply = kit.peers[0].replies.get(&id);
    assert!(matches!(reply, Some(Ok(Reply::Posted { complete: true, .. }))), "{reply:?}");
    kit.assert_alike();
}

#[test]
fn what_was_missed_comes_with_the_connection() {
    let mut kit = Kit::room(3);
    kit.disconnect_all(2);
    for n in 0..200 {
        kit.say(n % 2, &format!("m{n}"));
    }
    kit.say(2, "alone");
    kit.connect(1, 2);
    kit.assert_alike();
    assert_eq!(kit.peers[0].history().len(), 201);
}

/// A peer whose cable is pulled may have announced entries just before: it is asked for them and never answers.
#[test]
fn what_a_silent_peer_was_asked_for_comes_from_who_has_it_too_before_a_talk_stops() {
    let mut kit = Kit::room(3);
    kit.pass(Duration::from_secs(10));
    kit.cut(0, 1);
    kit.say(1, "question");
    let heads = kit.peers[1].node.logs.heads.vector();
    kit.frame(0, 1, &Frame::Vector { heads, reply: false });
    kit.pass(Duration::from_millis(50));
    kit.say(2, "answer");
    assert!(kit.peers[0].history().is_empty(), "the answer waits for the question");
    kit.pass(Duration::from_millis(150));
    assert_eq!(kit.peers[0].history(), ["question", "answer"]);
}

#[test]
fn what_was_asked_of_a_peer_that_is_lost_is_asked_of_another_at_once() {
    let mut kit = Kit::room(3);
    kit.disconnect_all(0);
    for n in 0..100 {
        kit.say(1, &format!("m{n}"));
    }
    let heads = kit.peers[1].node.logs.heads.vector();
    let ids = [1, 2].map(|n| kit.peers[n].id);
    // Both show that they hold them; only one is asked, and its connection ends.
    for id in ids {
        kit.peers[0].node.handle(Input::Up(id, path()), kit.now);
        let frame = Frame::Vector { heads: heads.clone(), reply: false }.encode().expect("a vector");
        kit.peers[0].node.handle(Input::Frame(id, frame), kit.now);
    }
    let asked = |kit: &mut Kit| -> Vec<PeerId> {
        let outputs: Vec<Output> = std::iter::from_fn(|| kit.peers[0].node.poll_output()).collect();
        let want = |raw: &[u8]| matches!(Frame::decode(raw), Ok(Frame::Want { .. }));
        let target = |output| if let Output::Send(to, raw) = output { want(&raw).then_some(to) } else { None };
        outputs.into_iter().filter_map(target).collect()
    };
    assert_eq!(asked(&mut kit), [ids[0]], "one peer is asked for the range");
    kit.peers[0].node.handle(Input::Down(ids[0]), kit.now);
    assert_eq!(asked(&mut kit), [ids[1]]);
}

#[test]
fn what_got_lost_on_the_way_comes_with_anti_entropy() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Waits;
    kit.pass(Duration::from_secs(6));
    // The entry is handed to the connection and lost with it; the other end is connected again before that shows.
    let now = kit.now;
    kit.peers[0].node.handle(Input::Command(crate::input::CommandId(9999), post("lost", Wait::Stored, 1)), now);
    while let Some(output) = kit.peers[0].node.poll_output() {
        if let Output::Persist(batch) = output {
            kit.peers[0].disk = Disk::Waits;
            kit.peers[0].waiting.push_back(batch);
        }
    }
    kit.peers[0].disk = Disk::Writes;
    let batch = kit.peers[0].waiting.pop_front().expect("an entry is written");
    for item in &batch.entries {
        kit.peers[0].logs.entry(item.entry.log()).or_default().push(item.entry.clone());
    }
    kit.peers[0].node.handle(Input::Persisted(batch.id), now);
    while kit.peers[0].node.poll_output().is_some() {}
    kit.let_write(1);
    assert!(kit.peers[1].history().is_empty());
    kit.pass(Duration::from_secs(40));
    assert_eq!(kit.peers[1].history(), ["lost"]);
}

#[test]
fn a_peer_that_falls_silent_is_offline_soon_and_online_when_it_is_back() {
    let mut kit = Kit::room(3);
    kit.pass(Duration::from_secs(10));
    let silent = kit.peers[2].id;
    let online = |kit: &Kit, n: usize| kit.peers[n].node.peers.presence.is_online(&silent);
    kit.cut(0, 2);
    kit.cut(1, 2);
    kit.pass(Duration::from_secs(1));
    assert!(online(&kit, 0) && online(&kit, 1), "a pause is no absence");
    kit.say(0, "meanwhile");
    assert_eq!(kit.peers[1].history().last().map(String::as_str), Some("meanwhile"));
    kit.pass(Duration::from_secs(4));
    for n in [0, 1] {
        assert!(!online(&kit, n), "{n} still takes it for online");
        assert!(kit.peers[n].closed.contains(&(silent, CloseReason::Silent)));
        assert!(kit.peers[n].closed.iter().all(|(peer, _)| *peer == silent), "the others talk");
        kit.input(n, Input::Down(silent));
    }
    for n in [0, 1] {
        let id = kit.peers[n].id;
        kit.input(2, Input::Down(id));
        kit.connect(n, 2);
        assert!(online(&kit, n));
    }
    kit.pass(Duration::from_secs(60));
    assert!(online(&kit, 0) && online(&kit, 1));
    assert_eq!(kit.peers[0].closed.len(), 1, "whoever answers stays connected: {:?}", kit.peers[0].closed);
    kit.assert_alike();
}

#[test]
fn who_cannot_read_gives_nobody_up() {
    let mut kit = Kit::room(2);
    kit.pass(Duration::from_secs(10));
    kit.cut(0, 1);
    for _ in 0..100 {
        kit.input(0, Input::Deaf);
        kit.pass(Duration::from_millis(200));
    }
    assert!(kit.peers[0].closed.is_empty());
    assert!(kit.peers[1].closed.iter().any(|(_, reason)| *reason == CloseReason::Silent), "it could read");
    kit.pass(Duration::from_secs(5));
    assert!(kit.peers[0].closed.iter().any(|(_, reason)| *reason == CloseReason::Silent));
}

#[test]
fn what_an_author_told_only_some_before_it_died_reaches_all_soon() {
    let mut kit = Kit::room(3);
    kit.pass(Duration::from_secs(20));
    kit.disconnect(1, 2);
    kit.say(2, "last words");
    assert!(kit.peers[1].history().is_empty(), "the author was believed to tell everybody itself");
    kit.disconnect_all(2);
    kit.pass(Duration::from_millis(200));
    assert_eq!(kit.peers[1].history(), ["last words"]);
}

#[test]
fn address_that_one_member_invents_is_not_announced() {
    let mut kit = Kit::room(4);
    let seen_at = |n: u8| {
        let addr = SocketAddr::from(([203, 0, 113, n], 4000));
        (addr, Frame::Hello { time: kit.now.wall, observed: Some(addr) })
    };
    let ((invented, lie), (real, truth), (relayed, by_holder)) = (seen_at(1), seen_at(2), seen_at(3));
    kit.frame(0, 1, &lie);
    kit.frame(0, 1, &lie);
    assert!(kit.peers[0].observed.is_empty(), "one member's word");
    kit.frame(0, 2, &truth);
    kit.frame(0, 3, &truth);
    assert_eq!(kit.peers[0].observed, [real], "two agree, and {invented} is nobody else's word");
    let holder = kit.peers[1].node.inspect().holder();
    assert_eq!(holder, Some(kit.peers[0].id));
    kit.frame(1, 0, &by_holder);
    assert_eq!(kit.peers[1].observed, [relayed], "the holder's relay is how others find this peer");
}

#[test]
fn address_that_the_only_other_member_sees_is_announced() {
    let mut kit = Kit::room(2);
    let addr = SocketAddr::from(([203, 0, 113, 1], 4000));
    kit.frame(0, 1, &Frame::Hello { time: kit.now.wall, observed: Some(addr) });
    assert_eq!(kit.peers[0].observed, [addr]);
}

#[test]
fn connections_between_others_are_listed_once() {
    let mut kit = Kit::room(4);
    kit.pass(Duration::from_secs(5));
    kit.disconnect(1, 3);
    kit.pass(Duration::from_secs(1));
    let Some(Ok(Reply::Peers(list))) = kit.command(0, Command::Peers) else { panic!("members are listed") };
    let number = |id: &PeerId| (0..4).find(|n| kit.peers[*n].id == *id).expect("a member");
    let mut ends: Vec<_> = list.links.iter().map(|link| (number(&link.from), number(&link.to))).collect();
    ends.iter_mut().for_each(|(from, to)| (*from, *to) = (*from.min(to), *from.max(to)));
    ends.sort_unstable();
    assert_eq!(ends, [(1, 2), (2, 3)]);
    assert!(list.links.iter().all(|link| link.direct && link.rtt_ms > 0.0), "{:?}", list.links);
}
