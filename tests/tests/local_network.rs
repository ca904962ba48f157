//! Promise P10 without a router: rooms on every attached network are found by multicast DNS, with or without a default route.

use std::time::Duration;

use chat_proto::api::members::NearbyRoom;
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually, eventually_true};
use chat_tests::home::TestHome;
use chat_tests::netns::{Cable, CableAddrs};

/// An open room on one end of a cable.
#[track_caller]
fn open_room(cable: &Cable) -> Daemon {
    let home = TestHome::new().inside(&cable.one).multicast();
    StartDaemon::found("ann").home(home).args(&["--open", "--room", "lab"]).start()
}

/// A home on the other end.
fn newcomer(cable: &Cable) -> TestHome {
    TestHome::new().inside(&cable.other).multicast()
}

/// What a command lists on the other end, where no daemon runs.
#[track_caller]
fn listed(home: &TestHome) -> Vec<NearbyRoom> {
    home.chatd(&["rooms", "--json"]).run().json()
}

/// The room, once it is listed: the ends of a cable take a moment to come up.
#[track_caller]
fn found(home: &TestHome) -> NearbyRoom {
    eventually(SOON, "the room is found", || match &listed(home)[..] {
        [room] if !room.addrs.is_empty() => Ok(room.clone()),
        rooms => Err(format!("{rooms:?}")),
    })
}

#[track_caller]
fn talk(one: &Daemon, other: &Daemon) {
    one.api().send("hello");
    other.api().send("hello yourself");
    for peer in [one, other] {
        eventually_true(SOON, "both messages have arrived", || peer.api().texts().len() == 2);
    }
}

#[test]
fn room_is_found_and_joined_by_its_name_over_a_cable_without_a_route() {
    let Some(cable) = Cable::new(CableAddrs::Fixed) else { return };
    let ann = open_room(&cable);
    let home = newcomer(&cable);
    let room = found(&home);
    assert_eq!((room.room.name.as_str(), room.room.open), ("lab", true));
    assert!(room.addrs.contains(&(cable.one.addr(), ann.api().status().reachability.port).into()), "{room:?}");
    let bob = StartDaemon::join("bob", "lab").home(home).start();
    talk(&ann, &bob);
    let (of_ann, of_bob) = (ann.chat(&["rooms"]).ok(), bob.chat(&["rooms"]).ok());
    assert!(of_ann.contains("lab") && of_bob.contains("lab"), "{of_ann}{of_bob}");
}

#[test]
fn room_is_joined_where_machines_have_link_local_addresses_only() {
    let Some(cable) = Cable::new(CableAddrs::LinkLocal) else { return };
    let ann = open_room(&cable);
    let home = newcomer(&cable);
    found(&home);
    let bob = StartDaemon::join("bob", "lab").home(home).start();
    talk(&ann, &bob);
}

#[test]
fn cable_that_is_plugged_in_later_is_noticed() {
    let Some(cable) = Cable::unplugged(CableAddrs::Fixed) else { return };
    let ann = open_room(&cable);
    let home = newcomer(&cable);
    assert!(listed(&home).is_empty());
    cable.plug_in();
    found(&home);
    let bob = StartDaemon::join("bob", "lab").home(home).start();
    talk(&ann, &bob);
}

#[test]
fn room_that_ends_is_no_longer_listed() {
    let Some(cable) = Cable::new(CableAddrs::Fixed) else { return };
    let mut ann = open_room(&cable);
    let home = newcomer(&cable);
    found(&home);
    ann.stop();
    eventually_true(Duration::from_secs(5), "it is gone", || listed(&home).is_empty());
    let said = home.chatd(&["start", "--join", "lab"]).run().fails(1);
    assert!(said.contains("'lab' is neither a room on the local network nor a known host"), "{said}");
}
