//! What the poster of a message learns, and when.

use std::time::Duration;

use chat_proto::api::messages::Wait;
use chat_proto::id::PeerId;

use crate::config::ENTRY_REPLIES_MAX;
use crate::input::Command;
use crate::log::entry::{Entry, Head, MessageBody, SealedBox, Seq};
use crate::node::tests::forger::Forger;
use crate::node::tests::kit::{Disk, Kit, key, post, text};
use crate::output::{CommandError, Reply};
use crate::peers::connections::ReceiptsWanted;
use crate::wire::Frame;
use crate::wire::extension::{Extension, SignedReceipt};

fn is_complete(reply: Option<&Result<Reply, CommandError>>) -> Option<bool> {
    match reply {
        Some(Ok(Reply::Posted { complete, .. })) => Some(*complete),
        Some(_) | None => None,
    }
}

#[test]
fn replicated_means_on_the_disks_of_others() {
    let mut kit = Kit::room(3);
    kit.peers[1].disk = Disk::Waits;
    let id = kit.begin(0, post("hello", Wait::Replicated, 2));
    assert_eq!(kit.peers[0].replies.get(&id), None, "one of two holds it");
    kit.let_write(1);
    let Some(Ok(Reply::Posted { held_by, complete, .. })) = kit.peers[0].replies.get(&id) else { panic!("no answer") };
    assert!(*complete);
    assert_eq!(held_by.len(), 2);
}

#[test]
fn a_wait_runs_out_and_the_message_travels_on() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Waits;
    let id = kit.begin(0, post("hello", Wait::Delivered, 1));
    kit.pass(Duration::from_secs(4));
    assert_eq!(kit.peers[0].replies.get(&id), None);
    kit.pass(Duration::from_secs(2));
    assert_eq!(is_complete(kit.peers[0].replies.get(&id)), Some(false));
    kit.let_write(1);
    kit.assert_alike();
}

#[test]
fn alone_nothing_is_replicated() {
    let mut kit = Kit::new();
    let id = kit.begin(0, post("hello", Wait::Replicated, 1));
    kit.pass(Duration::from_secs(6));
    assert_eq!(is_complete(kit.peers[0].replies.get(&id)), Some(false));
}

#[test]
fn a_direct_message_waits_for_its_recipients_and_not_for_its_author() {
    let mut kit = Kit::room(3);
    let sealed = |to: PeerId| SealedBox { to, kind: 1, ciphertext: vec![7] };
    let body = MessageBody::Sealed(vec![sealed(kit.peers[0].id), sealed(kit.peers[1].id)]);
    kit.peers[2].disk = Disk::Waits;
    let command =
        Command::Post { body, reply_to: None, wait: Wait::Delivered, copies: 1, timeout: Duration::from_secs(5) };
    let reply = kit.command(0, command);
    assert_eq!(is_complete(reply.as_ref()), Some(true));
}

#[test]
fn liar_makes_no_copy_count_for_a_peer_that_is_switched_off() {
    let mut kit = Kit::room(3);
    kit.disconnect_all(2);
    let id = kit.begin(0, post("hello", Wait::Replicated, 2));
    let (log, off) = (kit.peers[0].node.local.log, kit.peers[2].id);
    let head = *kit.peers[0].node.logs.heads.head(&log).expect("written");
    kit.frame(0, 1, &Frame::Held { holder: off, log, seq: head.seq, hash: head.hash });
    let by_liar = SignedReceipt::sign(Head { log, seq: head.seq, hash: head.hash }, &key(1));
    let forged = SignedReceipt { holder: off, ..by_liar };
    kit.frame(0, 1, &Extension::Receipt(forged).to_frame());
    assert_eq!(kit.peers[0].replies.get(&id), None, "one copy, whatever the liar says");
    assert_eq!(kit.peers[0].node.delivery.receipts.holders(&log, head.seq), [kit.peers[1].id]);
    let sealed = MessageBody::Sealed(vec![SealedBox { to: off, kind: 1, ciphertext: vec![7] }]);
    let command = Command::Post {
        body: sealed,
        wait: Wait::Delivered,
        copies: 1,
        reply_to: None,
        timeout: Duration::from_secs(5),
    };
    let id = kit.begin(0, command);
    let head = *kit.peers[0].node.logs.heads.head(&log).expect("written");
    kit.frame(0, 1, &Frame::Held { holder: off, log, seq: head.seq, hash: head.hash });
    assert_eq!(kit.peers[0].replies.get(&id), None, "nor is it delivered");
}

#[test]
fn receipt_that_is_passed_on_carries_its_holders_signature() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 2);
    kit.pass(Duration::from_millis(200));
    let reply = kit.command(0, post("hello", Wait::Replicated, 2));
    assert_eq!(is_complete(reply.as_ref()), Some(true), "the copy behind the other member counts");
}

#[test]
fn receipts_of_version_0_1_count_over_the_holders_own_connection() {
    let mut kit = Kit::room(3);
    kit.disconnect(0, 2);
    kit.pass(Duration::from_millis(200));
    let ids: Vec<PeerId> = kit.peers.iter().map(|peer| peer.id).collect();
    // The member in between announced nothing to the holder, the author nothing to it.
    for (n, neighbour) in [(2, ids[1]), (1, ids[0])] {
        kit.peers[n].node.peers.connections.get_mut(&neighbour).expect("connected").extended = false;
    }
    let id = kit.begin(0, post("hello", Wait::Replicated, 2));
    assert_eq!(kit.peers[0].replies.get(&id), None, "an older member's word about another does not count");
    let passed_on = |(to, frame): &(PeerId, Frame)| {
        *to == ids[0] && matches!(frame, Frame::Held { holder, .. } if *holder == ids[2])
    };
    assert!(kit.peers[1].take_sent().iter().any(passed_on), "an older author is told as before");
    kit.connect(0, 2);
    assert_eq!(is_complete(kit.peers[0].replies.get(&id)), Some(true), "its own word does");
}

/// The sequence numbers of the receipts that a peer has sent to the first one since it was last looked at.
fn receipts(kit: &mut Kit, peer: usize) -> Vec<Seq> {
    let author = kit.peers[0].id;
    let held = |(to, frame)| if let Frame::Held { seq, .. } = frame { (to == author).then_some(seq) } else { None };
    kit.peers[peer].take_sent().into_iter().filter_map(held).collect()
}

#[test]
fn receipts_come_in_groups_unless_their_author_waits() {
    let mut kit = Kit::room(3);
    kit.pass(Duration::from_millis(200));
    receipts(&mut kit, 1);
    for n in 0..10 {
        kit.command(0, post(&format!("m{n}"), Wait::Stored, 1));
    }
    let log = kit.peers[0].node.local.log;
    let newest = kit.peers[0].node.logs.heads.seq(&log);
    assert_eq!(receipts(&mut kit, 1), [], "none waits for them");
    kit.pass(Duration::from_millis(50));
    assert_eq!(receipts(&mut kit, 1), [newest], "one for all");
    assert_eq!(kit.peers[0].node.delivery.receipts.holders(&log, newest).len(), 2);
    kit.pass(Duration::from_millis(200));
    assert_eq!(receipts(&mut kit, 1), [], "once");

    let reply = kit.command(0, post("waits", Wait::Replicated, 2));
    assert_eq!(is_complete(reply.as_ref()), Some(true), "at once");
    assert_eq!(receipts(&mut kit, 1), [newest.next()]);
    kit.command(0, post("does not", Wait::Stored, 1));
    assert_eq!(receipts(&mut kit, 1), [], "the wait is over");
}

#[test]
fn author_that_does_not_say_when_it_waits_receives_receipts_at_once() {
    let mut kit = Kit::room(2);
    kit.pass(Duration::from_millis(200));
    let author = kit.peers[0].id;
    kit.peers[1].node.peers.connections.get_mut(&author).expect("connected").receipts = ReceiptsWanted::AtOnce;
    receipts(&mut kit, 1);
    for n in 0..3 {
        kit.command(0, post(&format!("m{n}"), Wait::Stored, 1));
        assert_eq!(receipts(&mut kit, 1).len(), 1);
    }
}

#[test]
fn only_members_count_as_holders() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Waits;
    let id = kit.begin(0, post("hello", Wait::Replicated, 1));
    let (log, me) = (kit.peers[0].node.local.log, kit.peers[0].id);
    for holder in [me, PeerId::from_bytes([77; 32])] {
        let head = *kit.peers[0].node.logs.heads.head(&log).expect("written");
        kit.frame(0, 1, &Frame::Held { holder, log, seq: Seq(100), hash: head.hash });
        kit.frame(0, 1, &Frame::Held { holder, log, seq: head.seq, hash: head.hash });
    }
    assert_eq!(kit.peers[0].replies.get(&id), None);
    assert!(kit.peers[0].node.delivery.receipts.holders(&log, Seq(1)).iter().all(|peer| *peer == kit.peers[1].id));
}

/// Others may hold another entry at the place of one that was written after an older copy of the disk came back.
#[test]
fn who_holds_another_entry_at_its_place_does_not_count_as_a_holder() {
    let mut kit = Kit::room(2);
    kit.say(0, "one");
    let log = kit.peers[0].node.local.log;
    kit.say(0, "lost with the disk");
    kit.peers[0].logs.get_mut(&log).expect("written").pop();
    kit.restart(0);
    let id = kit.begin(0, post("in its place", Wait::Replicated, 1));
    kit.pass(Duration::from_secs(1));
    kit.say(0, "and on");
    let head = *kit.peers[1].node.logs.heads.head(&log).expect("held");
    kit.frame(0, 1, &Frame::Held { holder: kit.peers[1].id, log, seq: head.seq, hash: head.hash });
    assert_eq!(kit.peers[0].replies.get(&id), None);
    kit.connect(0, 1);
    kit.pass(Duration::from_secs(10));
    assert_eq!(is_complete(kit.peers[0].replies.get(&id)), Some(false));
    assert_ne!(kit.peers[0].node.local.log, log, "the fork is found");
    kit.assert_alike();
}

#[test]
fn messages_that_come_while_the_disk_is_busy_share_an_entry() {
    let mut kit = Kit::new();
    kit.peers[0].disk = Disk::Waits;
    for n in 0..5 {
        kit.begin(0, post(&format!("m{n}"), Wait::Stored, 1));
    }
    kit.let_write(0);
    let log = kit.peers[0].node.local.log;
    let sizes: Vec<usize> = kit.peers[0].logs[&log].iter().map(|entry| entry.messages().len()).collect();
    assert_eq!(sizes, [0, 1, 4]);
    assert_eq!(kit.peers[0].shown.len(), 5);
    assert_eq!(kit.peers[0].replies.len(), 5);
}

#[test]
fn a_stop_answers_everybody() {
    let mut kit = Kit::room(2);
    kit.disconnect(0, 1);
    let waits = kit.begin(0, post("waits for copies", Wait::Replicated, 1));
    kit.peers[0].disk = Disk::Waits;
    let written = kit.begin(0, post("is being written", Wait::Delivered, 1));
    let draft = kit.begin(0, post("is a draft", Wait::Stored, 1));
    let stop = kit.begin(0, Command::Stop);
    assert_eq!(is_complete(kit.peers[0].replies.get(&waits)), Some(false));
    assert_eq!(kit.peers[0].replies.get(&draft), Some(&Err(CommandError::Stopping)));
    assert_eq!(kit.peers[0].replies.get(&written), None);
    assert_eq!(kit.peers[0].replies.get(&stop), None, "a message is still being written");
    kit.let_write(0);
    assert!(is_complete(kit.peers[0].replies.get(&written)).is_some());
    kit.pass(Duration::from_secs(2));
    assert_eq!(kit.peers[0].replies.get(&stop), Some(&Ok(Reply::Done)));
    assert_eq!(kit.command(0, post("too late", Wait::Stored, 1)), Some(Err(CommandError::Stopping)));
    assert_eq!(kit.command(0, Command::Stop), Some(Ok(Reply::Done)));
}

#[test]
fn a_stop_does_not_wait_for_a_disk_for_ever() {
    let mut kit = Kit::new();
    kit.peers[0].disk = Disk::Waits;
    kit.begin(0, post("is being written", Wait::Stored, 1));
    let stop = kit.begin(0, Command::Stop);
    kit.pass(Duration::from_secs(2));
    assert_eq!(kit.peers[0].replies.get(&stop), Some(&Ok(Reply::Done)));
}

#[test]
fn whoever_is_removed_gets_an_answer() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Waits;
    let written = kit.begin(1, post("is being written", Wait::Stored, 1));
    let draft = kit.begin(1, post("is a draft", Wait::Stored, 1));
    let removed = kit.peers[1].id;
    assert_eq!(kit.command(0, Command::Remove(removed)), Some(Ok(Reply::Done)));
    assert_eq!(kit.peers[1].replies.get(&draft), Some(&Err(CommandError::NotMember)));
    kit.let_write(1);
    assert!(is_complete(kit.peers[1].replies.get(&written)).is_some());
    assert_eq!(kit.command(1, post("out", Wait::Stored, 1)), Some(Err(CommandError::NotMember)));
    assert!(!kit.is_linked(0, 1));
    assert!(kit.peers[0].history().is_empty());
}

#[test]
fn a_wait_ends_when_the_log_it_waits_for_does() {
    let mut kit = Kit::room(2);
    kit.peers[1].disk = Disk::Waits;
    let id = kit.begin(0, post("hello", Wait::Replicated, 1));
    let before = kit.peers[0].node.local.log;
    let elsewhere = Forger::behind(&kit, 0).say("from a copy of the disk");
    kit.frame(0, 1, &Frame::Entries(vec![elsewhere]));
    assert_eq!(is_complete(kit.peers[0].replies.get(&id)), Some(false));
    assert_ne!(kit.peers[0].node.local.log, before, "a new log begins");
    kit.let_write(1);
    kit.say(0, "and here");
    kit.assert_alike();
    assert_eq!(kit.peers[1].history(), ["hello", "from a copy of the disk", "and here"]);
}

#[test]
fn texts_have_bounds() {
    let mut kit = Kit::new();
    let long = "x".repeat(chat_proto::TEXT_BYTES_MAX + 1);
    for body in [text(&long), text(" "), MessageBody::Sealed(Vec::new())] {
        let command = Command::Post { body, reply_to: None, wait: Wait::Stored, copies: 1, timeout: Duration::ZERO };
        assert!(matches!(kit.command(0, command), Some(Err(CommandError::Text(_) | CommandError::TooLong))));
    }
}

#[test]
fn answers_are_read_with_what_they_answer_by_all_members() {
    let mut kit = Kit::room(2);
    let Some(Ok(Reply::Posted { id: asked, .. })) = kit.command(0, post("how many?", Wait::Stored, 1)) else {
        panic!("posted")
    };
    // More than one entry may carry, while the disk is slow.
    kit.peers[1].disk = Disk::Waits;
    let count = ENTRY_REPLIES_MAX * 2 + 10;
    for number in 0..count {
        let body = text(&number.to_string());
        let (wait, timeout) = (Wait::Stored, Duration::from_secs(5));
        kit.begin(1, Command::Post { body, reply_to: Some(asked), wait, copies: 1, timeout });
    }
    kit.peers[1].disk = Disk::Writes;
    kit.let_write(1);
    kit.assert_alike();
    let log = kit.peers[1].node.local.log;
    let entries = kit.peers[0].in_order().into_iter().map(|(_, entry)| entry).filter(|entry| entry.log() == log);
    let count_in = |entry: &Entry| (0..entry.messages().len()).filter(|n| entry.reply_to(*n) == Some(asked)).count();
    let replies: Vec<usize> = entries.map(|entry| count_in(entry)).collect();
    assert_eq!(replies.iter().sum::<usize>(), count);
    assert!(replies.iter().all(|replies| *replies <= ENTRY_REPLIES_MAX), "{replies:?}");
    assert!(replies.contains(&ENTRY_REPLIES_MAX), "{replies:?}");
}
