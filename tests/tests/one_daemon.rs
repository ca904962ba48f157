//! The life of a daemon: started twice it says so, two never share a home, and nothing is left when it stops.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use chat_tests::cluster::{Room, all_miss};
use chat_tests::daemon::{Daemon, Start};
use chat_tests::eventually::{SOON, eventually};
use chat_tests::home::Home;
use rustix::process::Signal;

#[test]
fn a_daemon_in_the_background_starts_answers_and_stops() {
    let home = Home::new();
    let said = home.chatd(&["start", "--name", "alice", "--room", "lab"]).run().ok();
    for next in ["chat invite", "chat send", "chat tail", "lab", "alice"] {
        assert!(said.contains(next), "{said}");
    }
    let alice = Daemon::adopt("alice", home);
    alice.chat(&["send", "hello"]).ok();
    let again = alice.chatd(&["start"]).ok();
    assert!(again.contains("already") && again.contains(&alice.pid().to_string()), "{again}");
    let json: Vec<serde_json::Value> = alice.chatd(&["start", "--json"]).json();
    assert_eq!(json[0]["pid"], alice.pid());
    assert!(alice.chatd(&["logs"]).ok().lines().count() > 0);
    let mut alice = alice;
    alice.stop();
    for file in ["chatd.sock", "api.json"] {
        assert!(!alice.home().run().join(file).exists(), "{file} is left");
    }
    alice.chatd(&["stop"]).ok();
}

#[test]
fn two_daemons_never_share_a_home() {
    let alice = Start::found("alice").start();
    let second = alice.home().chatd(&["start", "--foreground"]).env("CHATD_LISTEN", Home::new().address()).run();
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains(&alice.pid().to_string()), "{said}");
    assert!(alice.runs());
    alice.chat(&["send", "undisturbed"]).ok();

    // Nor when many start at once.
    let home = Home::new();
    let pids: Vec<u64> = std::thread::scope(|scope| {
        let start = || {
            let started: Vec<serde_json::Value> = home.chatd(&["start", "--json"]).run().json();
            started[0]["pid"].as_u64().expect("a pid")
        };
        let starting: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
        starting.into_iter().map(|thread| thread.join().expect("started")).collect()
    });
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    drop(Daemon::adopt("many", home));
}

#[test]
fn files_are_private() {
    let alice = Start::found("alice").start();
    alice.chat(&["send", "hello"]).ok();
    let mut directories = vec![alice.home().path().to_owned()];
    while let Some(directory) = directories.pop() {
        assert_eq!(mode(&directory) & 0o077, 0, "{}", directory.display());
        for entry in fs::read_dir(&directory).expect("our own") {
            let path = entry.expect("our own").path();
            let kind = fs::symlink_metadata(&path).expect("our own").file_type();
            if kind.is_dir() {
                directories.push(path);
            } else if !kind.is_socket() {
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
            }
        }
    }
    assert_eq!(mode(&alice.home().path().join("identity.key")), 0o600);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

#[test]
fn a_signal_stops_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut room = Room::of(&["alice", "bob"]);
        room["bob"].api().send("bye");
        room["bob"].end(signal);
        assert!(!room["bob"].home().socket().exists() && room["bob"].home().api_file().is_none());
        // The others are told, and do not have to find out.
        all_miss(&[&room["alice"]], "bob");
        room["bob"].start_again();
        room.all_online();
        room.same_history(1);
    }
}

#[test]
fn what_a_killed_daemon_left_is_no_obstacle() {
    let mut alice = Start::found("alice").start();
    let id = alice.api().send("kept").message.id;
    alice.kill();
    assert!(alice.home().socket().exists(), "a kill leaves the socket");
    alice.start_again();
    assert_eq!(alice.api().history()[0].id, id);
}

#[test]
fn a_home_whose_path_is_too_long_for_a_socket_works() {
    let home = Home::deep();
    home.chatd(&["start", "--name", "alice"]).run().ok();
    let socket = home.api_file().expect("it runs").socket;
    let alice = Daemon::adopt("alice", home);
    alice.chat(&["send", "hello"]).ok();
    alice.chatd(&["stop"]).ok();
    assert!(!Path::new(&socket).exists());
    // The directory that was made for the socket is not left behind either.
    let directory = Path::new(&socket).parent().expect("a directory");
    assert!(!directory.exists() || directory.starts_with(alice.home().path()), "{} is left", directory.display());
}

#[test]
fn the_name_can_be_changed_and_stays() {
    let mut room = Room::of(&["alice", "bob"]);
    room["bob"].chat(&["name", "robert"]).ok();
    let named = |room: &Room| {
        eventually(SOON, "alice sees the new name", || {
            let names: Vec<String> = room["alice"].api().peers().into_iter().map(|view| view.peer.name).collect();
            if names.contains(&"robert".to_owned()) { Ok(()) } else { Err(format!("{names:?}")) }
        });
    };
    named(&room);
    room["bob"].kill();
    room["bob"].start_again();
    assert_eq!(room["bob"].api().status().peer.name, "robert");
    room["alice"].chat(&["send", "@robert", "hello"]).ok();
    named(&room);
}

#[test]
fn who_leaves_is_gone_and_who_is_removed_is_out() {
    let room = Room::of(&["alice", "bob", "carol"]);
    room["bob"].chat(&["leave"]).ok();
    eventually(SOON, "bob is no member", || match room["alice"].api().status().members {
        2 => Ok(()),
        members => Err(format!("{members} members")),
    });
    room["alice"].chat(&["remove", "carol"]).ok();
    eventually(SOON, "carol is no member", || match room["alice"].api().status().members {
        1 => Ok(()),
        members => Err(format!("{members} members")),
    });
    room["alice"].api().send("alone at last");
    eventually(SOON, "carol is told", || {
        let refused = room["carol"].chat(&["send", "still here"]);
        if refused.code() == 0 { Err("she still sends".to_owned()) } else { Ok(()) }
    });
    assert!(!room["carol"].api().texts().contains(&"alone at last".to_owned()));
}
