//! The rendezvous role moves to those who are left, whoever goes, and one holder remains when those who parted meet again.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use chat_proto::api::peers::RoleView;
use chat_proto::api::rendezvous::Rendezvous;
use chat_proto::id::Term;
use chat_tests::cluster::{Room, all_miss, all_online, same_history};
use chat_tests::daemon::{Daemon, Start};
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::netns::{Network, Space};

fn view(peer: &Daemon) -> Rendezvous {
    peer.api().get("/v1/rendezvous").json(200)
}

fn names(peers: &[&Daemon]) -> BTreeSet<String> {
    peers.iter().map(|peer| peer.name().to_owned()).collect()
}

/// Waits until all of these know the same holder, one of them, and gives its name and term.
#[track_caller]
fn one_of_them_holds(peers: &[&Daemon]) -> (String, Term) {
    eventually(SOON, "one of them holds the role, and all know", || {
        let held: BTreeSet<(Option<String>, Term)> = peers
            .iter()
            .map(|peer| view(peer))
            .map(|view| (view.holder.map(|holder| holder.name), view.term))
            .collect();
        match held.first() {
            Some((Some(holder), term)) if held.len() == 1 && names(peers).contains(holder) => {
                Ok((holder.clone(), *term))
            }
            Some(_) | None => Err(format!("{held:?}")),
        }
    })
}

/// Waits until so many follow the holder, as everybody knows, and gives their names in order.
#[track_caller]
fn succession(room: &Room, length: usize) -> Vec<String> {
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
fn kill(room: &mut Room, names: &[String]) {
    for name in names {
        room[name.as_str()].kill();
    }
}

fn living(room: &Room) -> Vec<&Daemon> {
    room.peers.iter().filter(|peer| peer.runs()).collect()
}

#[test]
fn the_last_of_two_holds_the_role_and_lets_others_in() {
    let mut room = Room::of(&["alice", "bob"]);
    let (holder, term) = one_of_them_holds(&living(&room));
    kill(&mut room, std::slice::from_ref(&holder));
    let (next, after) = one_of_them_holds(&living(&room));
    assert!(next != holder && after > term);
    let ticket = room[next.as_str()].ticket();
    room.peers.push(Start::join("carol", &ticket).start());
    room.all_online();
    assert_eq!(one_of_them_holds(&living(&room)), (next, after), "a newcomer takes it from nobody");
}

#[test]
fn a_ticket_from_before_lets_in_afterwards() {
    let mut room = Room::of(&["alice", "bob", "carol"]);
    let (holder, _) = one_of_them_holds(&living(&room));
    let ticket = room[holder.as_str()].ticket();
    kill(&mut room, std::slice::from_ref(&holder));
    one_of_them_holds(&living(&room));
    room.peers.push(Start::join("dave", &ticket).start());
    room.all_online();
}

#[test]
fn several_successors_may_die_with_the_holder() {
    let mut room = Room::of(&["alice", "bob", "carol", "dave", "erin"]);
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
fn the_whole_list_may_die_with_the_holder() {
    let mut room = Room::of(&["alice", "bob", "carol", "dave", "erin", "frank", "grace"]);
    let list = succession(&room, 5);
    let (holder, term) = one_of_them_holds(&living(&room));
    kill(&mut room, &[list, vec![holder]].concat());
    let (last, after) = one_of_them_holds(&living(&room));
    assert!(after > term);
    let ticket = room[last.as_str()].ticket();
    room.peers.push(Start::join("heidi", &ticket).start());
    room.all_online();
}

#[test]
fn a_holder_that_wakes_steps_down() {
    let room = Room::of(&["alice", "bob", "carol"]);
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

/// Drops every packet between a machine and these others.
fn part(space: &Space, others: &[Ipv4Addr]) {
    let others: Vec<String> = others.iter().map(Ipv4Addr::to_string).collect();
    let others = others.join(", ");
    space.nft(&format!(
        "table ip split {{
            chain arriving {{ type filter hook input priority -10; ip saddr {{ {others} }} drop; }}
            chain leaving {{ type filter hook output priority -10; ip daddr {{ {others} }} drop; }}
        }}"
    ));
}

#[test]
fn halves_that_parted_agree_on_one_holder_and_one_history() {
    let Some(mut network) = Network::new() else { return };
    let spaces: Vec<Arc<Space>> = (0..5).map(|_| network.machine()).collect();
    let alice = Start::found("alice").inside(&spaces[0]).start();
    let ticket = alice.ticket();
    let join = |(name, space): (&&str, &Arc<Space>)| Start::join(name, &ticket).inside(space).start();
    let others: Vec<Daemon> = ["bob", "carol", "dave", "erin"].iter().zip(&spaces[1..]).map(join).collect();
    let all: Vec<&Daemon> = [&alice].into_iter().chain(&others).collect();
    all_online(&all);
    one_of_them_holds(&all);
    alice.api().send("together");
    same_history(&all, 1, SOON);

    let (two, three) = all.split_at(2);
    let addrs: Vec<Ipv4Addr> = spaces.iter().map(|space| space.addr()).collect();
    for (number, space) in spaces.iter().enumerate() {
        part(space, if number < 2 { &addrs[2..] } else { &addrs[..2] });
    }
    for (half, gone) in [(two, three), (three, two)] {
        one_of_them_holds(half);
        for peer in gone {
            all_miss(half, peer.name());
        }
    }
    for number in 0..20 {
        for peer in &all {
            peer.api().send(&format!("{} {number}", peer.name()));
        }
    }
    same_history(two, 41, SOON);
    same_history(three, 61, SOON);

    let healed = Instant::now();
    for space in &spaces {
        space.nft("delete table ip split");
    }
    same_history(&all, 101, SOON);
    let history = healed.elapsed();
    one_of_them_holds(&all);
    let holder = healed.elapsed();
    all_online(&all);
    // For people: where nobody listens, nothing is lost.
    let _ = writeln!(io::stderr(), "healed: one history after {history:.2?}, one holder after {holder:.2?}");
}
