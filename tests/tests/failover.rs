//! Promises P3, P4 and P5: the rendezvous role moves to the remaining peers whichever peers end, no message is lost,
//! repeated or reordered by that, and one holder remains when separated halves meet again.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use chat_proto::api::peers::RoleView;
use chat_tests::cluster::{TestRoom, one_of_them_holds, view};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::scenarios::split;

/// Waits until all peers know the same list of this many successors, and returns their names in order.
#[track_caller]
fn succession(room: &TestRoom, length: usize) -> Vec<String> {
    let peers: Vec<&Daemon> = room.peers.iter().collect();
    let (holder, _) = one_of_them_holds(&peers);
    eventually(SOON, "the succession list is full", || {
        let lists: BTreeSet<Vec<String>> = peers
            .iter()
            .map(|peer| view(peer))
            .map(|view| {
                let ranked = view.ranking.into_iter().map(|row| row.peer.name).filter(|name| *name != holder);
                ranked.take(view.succession as usize).collect()
            })
            .collect();
        match lists.first() {
            Some(list) if lists.len() == 1 && list.len() == length => Ok(list.clone()),
            Some(_) | None => Err(format!("{lists:?}")),
        }
    })
}

/// Kills these at once, as far as one process can.
fn kill(room: &mut TestRoom, names: &[String]) {
    for name in names {
        room[name.as_str()].kill();
    }
}

fn living(room: &TestRoom) -> Vec<&Daemon> {
    room.peers.iter().filter(|peer| peer.runs()).collect()
}

#[test]
fn last_of_two_peers_holds_the_role_and_admits_others() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let (holder, term) = one_of_them_holds(&living(&room));
    kill(&mut room, std::slice::from_ref(&holder));
    let (next, after) = one_of_them_holds(&living(&room));
    assert!(next != holder && after > term);
    let ticket = room[next.as_str()].ticket();
    room.peers.push(StartDaemon::join("carol", &ticket).start());
    room.all_online();
    assert_eq!(one_of_them_holds(&living(&room)), (next, after), "a newcomer takes it from nobody");
}

#[test]
fn ticket_from_before_a_failover_admits_afterwards() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    let (holder, _) = one_of_them_holds(&living(&room));
    let ticket = room[holder.as_str()].ticket();
    kill(&mut room, std::slice::from_ref(&holder));
    one_of_them_holds(&living(&room));
    room.peers.push(StartDaemon::join("dave", &ticket).start());
    room.all_online();
}

#[test]
fn role_is_held_again_when_successors_die_with_the_holder() {
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave", "erin"]);
    room["erin"].api().send("before");
    room.same_history(1);
    let list = succession(&room, 4);
    let (holder, term) = one_of_them_holds(&living(&room));
    kill(&mut room, &[list[1].clone(), list[0].clone(), holder]);
    let (next, after) = one_of_them_holds(&living(&room));
    assert!(list[2..].contains(&next) && after > term);
    for peer in living(&room) {
        peer.api().send("after");
    }
    room.same_history(3);
}

#[test]
fn role_is_held_again_when_the_whole_list_dies_with_the_holder() {
    let mut room = TestRoom::of(&["alice", "bob", "carol", "dave", "erin", "frank", "grace"]);
    let list = succession(&room, 5);
    let (holder, term) = one_of_them_holds(&living(&room));
    kill(&mut room, &[list, vec![holder]].concat());
    let (last, after) = one_of_them_holds(&living(&room));
    assert!(after > term);
    let ticket = room[last.as_str()].ticket();
    room.peers.push(StartDaemon::join("heidi", &ticket).start());
    room.all_online();
}

#[test]
fn holder_that_wakes_steps_down() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    let everybody = living(&room);
    let (holder, _) = one_of_them_holds(&everybody);
    room[holder.as_str()].suspend();
    let others: Vec<&Daemon> = room.peers.iter().filter(|peer| peer.name() != holder).collect();
    let next = one_of_them_holds(&others);
    others[0].api().send("meanwhile");
    room[holder.as_str()].resume();
    assert_eq!(one_of_them_holds(&everybody), next, "the role does not go back by itself");
    eventually_true(SOON, "it has stepped down", || view(&room[holder.as_str()]).role != RoleView::Holder);
    room.same_history(1);
    room.all_online();
}

#[test]
fn separated_halves_agree_on_one_holder_and_one_history() {
    let Some(report) = split::run(20, Duration::ZERO) else { return };
    assert_eq!(report.messages, [1, 40, 60]);
    // For people: a closed output does not matter.
    let _ = write!(io::stderr(), "{report}");
}
