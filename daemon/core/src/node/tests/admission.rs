//! The front door, with several members behind it.

use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::event::{Event, KnockState};
use chat_proto::id::{KnockId, PeerId, RoomId};
use chat_proto::ticket::Ticket;

use crate::admission::codec::{AdmissionAnswer, AdmissionRequest, DenyReason, ticket_request};
use crate::input::{AdmissionCall, Command, Input, Verdict};
use crate::log::entry::{Body, Control};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Disk, Kit, key, post};
use crate::output::{CloseReason, CommandError, Reply};
use crate::wire::{Frame, KnockNews};

fn id(n: usize) -> PeerId {
    PeerId::from_bytes(key(n).verifying_key().to_bytes())
}

fn knock(n: usize) -> AdmissionRequest {
    AdmissionRequest::Knock { name: format!("p{n}"), commitment: [0; 32] }
}

fn reason(answer: Option<AdmissionAnswer>) -> DenyReason {
    match answer {
        Some(AdmissionAnswer::Denied(reason)) => reason,
        other => panic!("not denied: {other:?}"),
    }
}

fn knocks(kit: &mut Kit, n: usize) -> Vec<KnockId> {
    match kit.command(n, Command::Knocks) {
        Some(Ok(Reply::Knocks(knocks))) => knocks.into_iter().map(|knock| knock.id).collect(),
        other => panic!("no list: {other:?}"),
    }
}

fn last_knock(kit: &Kit, n: usize) -> Option<KnockState> {
    let state = |event: &Event| if let Event::Knock { state, .. } = event { Some(*state) } else { None };
    kit.peers[n].events.iter().rev().find_map(state)
}

#[test]
fn a_ticket_lets_in_at_every_door_and_only_as_often_as_it_says() {
    let mut kit = Kit::room(2);
    let ticket = kit.invite(0);
    assert!(kit.show_ticket(2, 1, &ticket), "the inviter need not be asked");
    assert!(kit.show_ticket(2, 0, &ticket), "who is a member already is told so again");
    assert_eq!(reason(kit.ask(3, 0, ticket_request(&ticket, &id(3), "p3"))), DenyReason::UsedUp);
}

#[test]
fn post_of_a_newcomer_whose_admission_has_not_arrived_is_refused_as_too_early() {
    let mut kit = Kit::room(1);
    let ticket = kit.invite(0);
    assert!(kit.show_ticket(1, 0, &ticket));
    kit.enter(1);
    assert_eq!(kit.command(1, post("early", Wait::Stored, 1)), Some(Err(CommandError::Arriving)));
    kit.connect(0, 1);
    kit.say(1, "in time");
    assert_eq!(kit.peers[0].history(), ["in time"]);
}

/// Who admitted a newcomer may be gone before it has given everything: the others may connect then.
#[test]
fn newcomer_trusts_those_of_which_its_door_sends_addresses() {
    let mut kit = Kit::room(2);
    let ticket = kit.invite(0);
    assert!(kit.show_ticket(2, 0, &ticket));
    kit.enter(2);
    assert!(kit.peers[2].node.roster().unsure.contains(&id(1)));
    kit.connect(1, 2);
    assert!(kit.peers[2].node.roster().is_member(&id(2)), "its own membership has arrived");
    assert!(kit.peers[2].node.roster().unsure.is_empty());
}

#[test]
fn a_ticket_is_checked() {
    let mut kit = Kit::room(2);
    let ticket = kit.invite(0);
    let other = Ticket { room: RoomId::from_bytes([7; 32]), ..ticket.clone() };
    assert_eq!(reason(kit.ask(2, 0, ticket_request(&other, &id(2), "p2"))), DenyReason::OtherRoom);
    let forged = Ticket { seed: [7; 32], ..ticket.clone() };
    assert_eq!(reason(kit.ask(2, 0, ticket_request(&forged, &id(2), "p2"))), DenyReason::UnknownInvite);
    assert_eq!(reason(kit.ask(3, 0, ticket_request(&ticket, &id(2), "p2"))), DenyReason::UnknownInvite, "stolen");
    assert_eq!(reason(kit.ask(2, 0, ticket_request(&ticket, &id(2), "p 2"))), DenyReason::BadName);
    let invite = kit.peers[0].node.inspect().invites().last().map(|(invite, _)| *invite).expect("an invite");
    assert_eq!(kit.command(1, Command::Revoke(invite)), Some(Err(CommandError::NotAdmin)));
    assert_eq!(kit.command(0, Command::Revoke(invite)), Some(Ok(Reply::Done)));
    let revoked: Vec<bool> =
        kit.peers[1].node.inspect().invites().iter().map(|(_, invite)| invite.is_revoked()).collect();
    assert!(revoked.contains(&true), "everybody knows that it is revoked");
}

#[test]
fn a_ticket_expires() {
    let mut kit = Kit::room(1);
    let ticket = kit.invite(0);
    kit.pass(Duration::from_secs(601));
    assert_eq!(reason(kit.ask(1, 0, ticket_request(&ticket, &id(1), "p1"))), DenyReason::Expired);
}

#[test]
fn a_removed_peer_is_admitted_by_an_admin_alone_and_begins_a_new_log() {
    let mut kit = Kit::room(3);
    let old = kit.invite(0);
    kit.say(1, "before");
    let log = kit.peers[1].node.local.log;
    assert_eq!(kit.command(0, Command::Remove(id(1))), Some(Ok(Reply::Done)));
    assert_eq!(reason(kit.ask(1, 0, ticket_request(&old, &id(1), "p1"))), DenyReason::Removed);
    let fresh = kit.invite(2);
    assert_eq!(reason(kit.ask(1, 2, ticket_request(&fresh, &id(1), "p1"))), DenyReason::Removed, "no ticket helps");
    assert_eq!(kit.ask(1, 0, knock(1)), Some(AdmissionAnswer::Waiting));
    let waiting = |kit: &mut Kit, n: usize| match kit.command(n, Command::Knocks) {
        Some(Ok(Reply::Knocks(knocks))) => knocks[0].id,
        other => panic!("no knock: {other:?}"),
    };
    let seen = waiting(&mut kit, 2);
    assert_eq!(kit.command(2, Command::AnswerKnock(seen, Verdict::Yes)), Some(Err(CommandError::Removed)));
    let seen = waiting(&mut kit, 0);
    assert_eq!(kit.command(0, Command::AnswerKnock(seen, Verdict::Yes)), Some(Ok(Reply::Done)));
    kit.connect(0, 1);
    kit.say(1, "after");
    assert_ne!(kit.peers[1].node.local.log, log);
    kit.assert_alike();
    assert_eq!(kit.peers[0].history(), ["before", "after"]);
}

#[test]
fn a_weak_key_is_not_let_in() {
    let mut kit = Kit::room(1);
    let ticket = kit.invite(0);
    let mut weak = [0; 32];
    weak[0] = 1;
    let peer = PeerId::from_bytes(weak);
    let request = ticket_request(&ticket, &peer, "weak");
    let admission = crate::input::AdmissionId(4242);
    kit.input(
        0,
        Input::Admission(AdmissionCall { id: admission, peer, observed: None, request, words: String::new() }),
    );
    assert_eq!(reason(kit.answer_to(0, admission)), DenyReason::Refused);
}

#[test]
fn a_knock_at_one_door_is_answered_at_another() {
    let mut kit = Kit::room(3);
    assert_eq!(kit.ask(7, 1, knock(7)), Some(AdmissionAnswer::Waiting));
    let at_1 = kit.last_request();
    assert_eq!(kit.ask(8, 1, knock(8)), Some(AdmissionAnswer::Waiting));
    let at_2 = kit.last_request();
    let (waiting, _) = (knocks(&mut kit, 2), knocks(&mut kit, 0));
    assert_eq!(waiting.len(), 2);
    assert_eq!(kit.command(2, Command::AnswerKnock(waiting[0], Verdict::Yes)), Some(Ok(Reply::Done)));
    assert!(matches!(kit.answer_to(1, at_1), Some(AdmissionAnswer::Admitted(_))));
    let deny = |knock| Command::AnswerKnock(knock, Verdict::No);
    assert_eq!(kit.command(2, deny(waiting[1])), Some(Err(CommandError::NotThisDoor)), "neither its door nor an admin");
    assert_eq!(kit.answer_to(1, at_2), Some(AdmissionAnswer::Waiting));
    let of_admin = knocks(&mut kit, 0);
    assert_eq!(kit.command(0, deny(of_admin[0])), Some(Ok(Reply::Done)));
    assert_eq!(reason(kit.answer_to(1, at_2)), DenyReason::Refused);
    for n in 0..3 {
        assert!(knocks(&mut kit, n).is_empty(), "nobody waits any more at {n}");
    }
    assert_eq!(kit.command(0, Command::AnswerKnock(waiting[0], Verdict::Yes)), Some(Err(CommandError::UnknownKnock)));
}

#[test]
fn whoever_gives_up_waits_nowhere() {
    let mut kit = Kit::room(2);
    kit.ask(7, 0, knock(7));
    let request = kit.last_request();
    assert_eq!(knocks(&mut kit, 1).len(), 1);
    kit.input(0, Input::AdmissionGone(request));
    assert!(knocks(&mut kit, 0).is_empty());
    assert!(knocks(&mut kit, 1).is_empty());
    assert_eq!(last_knock(&kit, 1), Some(KnockState::Gone));
}

#[test]
fn knocks_at_the_door_of_somebody_who_is_gone_are_forgotten() {
    let mut kit = Kit::room(2);
    kit.ask(7, 1, knock(7));
    assert_eq!(knocks(&mut kit, 0).len(), 1);
    kit.disconnect(0, 1);
    assert!(knocks(&mut kit, 0).is_empty());
    assert_eq!(last_knock(&kit, 0), Some(KnockState::Gone));
    kit.connect(0, 1);
    assert_eq!(knocks(&mut kit, 0).len(), 1, "it is told again with the connection");
}

#[test]
fn a_door_that_closes_says_so() {
    let mut kit = Kit::room(2);
    kit.ask(7, 0, knock(7));
    let request = kit.last_request();
    kit.begin(0, Command::Stop);
    kit.pass(Duration::from_secs(2));
    assert_eq!(reason(kit.answer_to(0, request)), DenyReason::NotReady);
    assert!(knocks(&mut kit, 1).is_empty());
    assert_eq!(reason(kit.ask(8, 0, knock(8))), DenyReason::NotReady);
}

#[test]
fn nobody_is_told_to_come_in_before_that_is_on_disk() {
    let mut kit = Kit::room(2);
    kit.ask(7, 1, knock(7));
    let request = kit.last_request();
    kit.peers[1].disk = Disk::Waits;
    kit.say(0, "keeps the disk of the door busy");
    let waiting = knocks(&mut kit, 0);
    assert_eq!(kit.command(0, Command::AnswerKnock(waiting[0], Verdict::Yes)), Some(Ok(Reply::Done)));
    // The batch before the one with the admission is written, and nothing else.
    let first = kit.peers[1].waiting.pop_front().expect("a batch is being written");
    for item in &first.entries {
        kit.peers[1].logs.entry(item.entry.log()).or_default().push(item.entry.clone());
    }
    kit.input(1, Input::Persisted(first.id));
    assert_eq!(kit.answer_to(1, request), Some(AdmissionAnswer::Waiting));
    kit.let_write(1);
    assert!(matches!(kit.answer_to(1, request), Some(AdmissionAnswer::Admitted(_))));
}

fn network(n: u8) -> Option<SocketAddr> {
    Some(SocketAddr::from(([198, 51, 100, n], 4000)))
}

#[test]
fn stranger_with_many_keys_closes_no_door() {
    let mut kit = Kit::room(2);
    for n in 10..80 {
        assert_eq!(kit.ask_from(network(1), n, 0, knock(n)), Some(AdmissionAnswer::Waiting));
    }
    assert_eq!(knocks(&mut kit, 0).len(), 32);
    assert_eq!(knocks(&mut kit, 1).len(), 32, "the other door lists the same");
    assert_eq!(kit.ask_from(network(2), 7, 0, knock(7)), Some(AdmissionAnswer::Waiting));
    let honest = kit.last_request();
    for n in 80..120 {
        kit.ask_from(network(1), n, 0, knock(n));
    }
    assert_eq!(kit.answer_to(0, honest), Some(AdmissionAnswer::Waiting), "it keeps its place");
    assert_eq!(kit.ask(8, 1, knock(8)), Some(AdmissionAnswer::Waiting), "the other door is open");
    assert_eq!(knocks(&mut kit, 1).len(), 33);
}

#[test]
fn knocks_are_bounded() {
    let mut kit = Kit::room(1);
    for n in 10..42u8 {
        let answer = kit.ask_from(network(n), usize::from(n), 0, knock(usize::from(n)));
        assert_eq!(answer, Some(AdmissionAnswer::Waiting));
    }
    assert_eq!(reason(kit.ask_from(network(50), 50, 0, knock(50))), DenyReason::Busy, "each network has one");
    assert_eq!(kit.ask_from(network(10), 60, 0, knock(60)), Some(AdmissionAnswer::Waiting));
    assert_eq!(knocks(&mut kit, 0).len(), 32, "it replaces the one of its network");
}

#[test]
fn knocks_that_a_member_invents_are_bounded_and_displace_no_other() {
    let mut kit = Kit::room(3);
    assert_eq!(kit.ask(7, 1, knock(7)), Some(AdmissionAnswer::Waiting));
    for n in 0..300u16 {
        let mut stranger = [9; 32];
        stranger[..2].copy_from_slice(&n.to_be_bytes());
        let (peer, words) = (PeerId::from_bytes(stranger), "babad".to_owned());
        let state = KnockNews::Waiting;
        kit.frame(0, 2, &Frame::Knock { peer, name: "eve".into(), words, state });
    }
    let Some(Ok(Reply::Knocks(listed))) = kit.command(0, Command::Knocks) else { panic!("no list") };
    assert_eq!(listed.len(), 256);
    assert!(listed.iter().any(|knock| knock.peer == id(7)), "the honest one is still listed");
}

#[test]
fn word_of_a_member_refuses_no_knock_at_the_door_of_another() {
    let mut kit = Kit::room(3);
    assert_eq!(kit.ask(7, 0, knock(7)), Some(AdmissionAnswer::Waiting));
    let at_0 = kit.last_request();
    let denied = |peer| Frame::Knock { peer, name: "p7".into(), words: "babad".into(), state: KnockNews::Denied };
    kit.frame(0, 2, &denied(id(7)));
    assert_eq!(kit.answer_to(0, at_0), Some(AdmissionAnswer::Waiting));
    assert_eq!(kit.ask(8, 1, knock(8)), Some(AdmissionAnswer::Waiting));
    let at_1 = kit.last_request();
    kit.frame(1, 0, &denied(id(8)));
    assert_eq!(reason(kit.answer_to(1, at_1)), DenyReason::Refused, "an admin's word does");
}

#[test]
fn of_two_who_use_a_ticket_up_at_once_the_first_stays_everywhere() {
    let mut kit = Kit::room(2);
    let ticket = kit.invite(0);
    kit.disconnect(0, 1);
    assert!(kit.show_ticket(2, 0, &ticket));
    kit.enter(2);
    kit.connect(0, 2);
    kit.pass(Duration::from_secs(1));
    assert!(kit.show_ticket(3, 1, &ticket), "the other door cannot know");
    kit.enter(3);
    kit.connect(1, 3);
    kit.say(3, "from the second");
    kit.connect(0, 1);
    for n in [0, 1, 2] {
        let roster = kit.peers[n].node.roster();
        assert!(roster.is_member(&id(2)) && !roster.is_member(&id(3)), "at {n}");
        assert!(kit.peers[n].history().is_empty(), "who was not let in has not written: {:?}", kit.peers[n].history());
    }
    assert!(kit.peers[1].closed.contains(&(id(3), CloseReason::NotMember)));
    assert!(!kit.peers[3].node.roster().is_member(&id(3)), "and it knows");
}

#[test]
fn an_open_room_lets_in_whoever_knocks_but_not_whoever_was_removed() {
    let mut kit = Kit::open_room();
    assert!(matches!(kit.ask(1, 0, knock(1)), Some(AdmissionAnswer::Admitted(_))));
    assert_eq!(kit.command(0, Command::Remove(id(1))), Some(Ok(Reply::Done)));
    assert_eq!(reason(kit.ask(1, 0, knock(1))), DenyReason::Removed);
}

#[test]
fn name_that_is_no_longer_given_stays_valid_where_it_is_borne() {
    let mut kit = Kit::room(2);
    for name in ["you", "\u{3164}"] {
        assert!(matches!(kit.command(1, Command::Rename(name.into())), Some(Err(CommandError::Text(_)))), "{name}");
        let request = AdmissionRequest::Knock { name: name.into(), commitment: [0; 32] };
        assert_eq!(reason(kit.ask(7, 0, request)), DenyReason::BadName);
    }
    let renamed = Forger::behind(&kit, 1).sign(Body::Control(Control::Rename { name: "you".into() }));
    kit.frame(0, 1, &Frame::Entries(vec![renamed]));
    assert_eq!(kit.peers[0].node.roster().people[&id(1)].peer.name, "you");
}
