//! Promises P4 and P7: a stranger at the door of every peer, which speaks the real protocol on the real port, keeps no member out.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use chat_proto::api::rendezvous::ChangeReason;
use chat_tests::cluster::{TestRoom, one_of_them_holds, view};
use chat_tests::daemon::Daemon;
use chat_tests::eventually::{SOON, eventually_true};

/// Connections for each kind of request: more than a port has places for strangers.
const FLOOD: usize = 300;

/// Time in which a follower opens its watch over the holder.
const WATCHED: Duration = Duration::from_secs(2);

/// Takes every place that a stranger can get at a peer, and holds it.
fn flood(peer: &Daemon) -> Vec<TcpStream> {
    let lines = ["CHATD WATCH 1\n", "CHATD RELAY 1\n", "CHATD WATCH 2\n", "CHATD RELAY 2\n", "", "CHATD"];
    let calls = lines.iter().flat_map(|line| std::iter::repeat_n(line, FLOOD));
    let call = |line: &&str| {
        let mut stream = TcpStream::connect(peer.home().address()).expect("it listens");
        // It may have been closed already.
        let _ = stream.write_all(line.as_bytes());
        stream
    };
    calls.map(call).collect()
}

#[test]
fn stranger_at_every_door_does_not_hide_that_the_holder_died() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    // Several rounds: the holder may die before the watch over it is open.
    let seen = (0..3).any(|_| {
        let (holder, term) = one_of_them_holds(&room.peers.iter().collect::<Vec<_>>());
        let follower = usize::from(room.peers[0].name() == holder);
        let _strangers: Vec<_> = room.peers.iter().map(flood).collect();
        // It comes back to a port that is full of strangers.
        room.peers[follower].kill();
        room.peers[follower].start_again();
        room.all_online();
        eventually_true(SOON, "the follower is on the list", || view(&room.peers[follower]).succession == 1);
        thread::sleep(WATCHED);
        room.peers[1 - follower].kill();
        let died = || view(&room.peers[follower]).history.into_iter().find(|change| change.term > term);
        eventually_true(SOON, "the role moves", || died().is_some());
        let reason = died().expect("it has moved").reason;
        room.peers[1 - follower].start_again();
        room.all_online();
        reason == ChangeReason::Died
    });
    assert!(seen, "the watch over the holder shows at once that it died");
}
