//! The lifecycle of a daemon: repeated and concurrent starts, an orderly stop, what a kill leaves, leaving and removal.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat_proto::api::members::Knock;
use chat_tests::cluster::{TestRoom, all_miss};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually};
use chat_tests::home::TestHome;
use rustix::process::Signal;

#[test]
fn background_daemon_starts_answers_and_stops() {
    let home = TestHome::new();
    let said = home.chatd(&["start", "--name", "alice", "--room", "lab"]).run().ok();
    let first = said.lines().next().unwrap_or_default();
    assert!(first.starts_with("alice (~") && first.ends_with(") is in lab"), "{said}");
    for next in ["chat invite", "chat send hello", "chat tail"] {
        assert!(said.contains(next), "{said}");
    }
    let alice = Daemon::adopt("alice", home);
    alice.chat(&["send", "hello"]).ok();
    let again = alice.chatd(&["start"]).ok();
    assert!(again.contains("already") && again.contains(&alice.pid().to_string()), "{again}");
    let again = alice.home().start(&["--foreground"]);
    assert_eq!((&again["pid"], &again["already_running"]), (&alice.pid().into(), &true.into()));
    assert!(alice.chatd(&["logs"]).ok().lines().count() > 0);
    let mut alice = alice;
    alice.stop();
    for file in ["chatd.sock", "api.json"] {
        assert!(!alice.home().run().join(file).exists(), "{file} is left");
    }
    alice.chatd(&["stop"]).ok();
}

#[test]
fn concurrent_starts_give_one_daemon_per_home() {
    let alice = StartDaemon::found("alice").start();
    let second = alice.home().chatd(&["start", "--foreground"]).env("CHATD_LISTEN", TestHome::new().address()).run();
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains(&alice.pid().to_string()), "{said}");
    assert!(alice.runs());
    alice.chat(&["send", "undisturbed"]).ok();

    // Nor when many start at once.
    let home = TestHome::new();
    let started: Vec<serde_json::Value> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..6).map(|_| scope.spawn(|| home.start(&[]))).collect();
        starting.into_iter().map(|thread| thread.join().expect("started")).collect()
    });
    assert!(started.iter().all(|other| other["pid"] == started[0]["pid"]), "{started:?}");
    let fresh = started.iter().filter(|started| started["already_running"] == false).count();
    assert_eq!(fresh, 1, "{started:?}");
    drop(Daemon::adopt("many", home));
}

#[test]
fn signal_stops_the_daemon_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut room = TestRoom::of(&["alice", "bob"]);
        room["bob"].api().send("bye");
        room["bob"].end(signal);
        assert!(!room["bob"].home().socket().exists() && room["bob"].home().api_file().is_none());
        // The others receive a notice, and do not have to find out.
        all_miss(&[&room["alice"]], "bob");
        room["bob"].start_again();
        room.all_online();
        room.same_history(1);
    }
}

#[test]
fn files_of_a_killed_daemon_do_not_prevent_a_start() {
    let mut alice = StartDaemon::found("alice").start();
    let id = alice.api().send("kept").message.id;
    alice.kill();
    assert!(alice.home().socket().exists(), "a kill leaves the socket");
    alice.start_again();
    assert_eq!(alice.api().history()[0].id, id);
}

#[test]
fn home_with_a_path_too_long_for_a_socket_works() {
    let home = TestHome::deep();
    home.chatd(&["start", "--name", "alice"]).run().ok();
    let socket = home.api_file().expect("it runs").socket;
    let mode = fs::metadata(Path::new(&socket).parent().expect("a directory")).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "{socket}");
    let alice = Daemon::adopt("alice", home);
    alice.chat(&["send", "hello"]).ok();
    alice.chatd(&["stop"]).ok();
    assert!(!Path::new(&socket).exists());
    // The directory that was made for the socket is not left behind either.
    let directory = Path::new(&socket).parent().expect("a directory");
    assert!(!directory.exists() || directory.starts_with(alice.home().path()), "{} is left", directory.display());
}

#[test]
fn changed_name_is_kept() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    room["bob"].chat(&["name", "robert"]).ok();
    let named = |room: &TestRoom| {
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
fn member_that_left_or_was_removed_is_out() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
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

#[test]
fn removed_member_is_told_and_can_leave_or_be_admitted_by_an_admin() {
    let room = TestRoom::of(&["alice", "bob", "carol"]);
    for name in ["bob", "carol"] {
        room["alice"].chat(&["remove", name]).ok();
        eventually(SOON, "the removed member is told", || {
            let status = room[name].chat(&["status"]).ok();
            if status.contains("you were removed from this room") { Ok(()) } else { Err(status) }
        });
    }
    room["bob"].chat(&["leave"]).ok();
    room["bob"].home().wait_until_free();
    let said = room["carol"].chat(&["join", &room["alice"].ticket()]).refuses(4);
    assert!(said.contains("was removed") && said.contains("admin"), "{said}");
    let address = room["alice"].home().address();
    let mut waiting = room["carol"].home().chat(&["join", &address]).spawn();
    let knock = eventually(SOON, "carol knocks", || {
        let mut knocks: Vec<Knock> = room["alice"].chat(&["knocks", "--json"]).json();
        knocks.pop().ok_or_else(|| "no knock".to_owned())
    });
    assert!(knock.removed);
    assert!(room["alice"].chat(&["knocks"]).ok().contains("was removed"));
    room["alice"].chat(&["admit", &knock.id.to_string()]).ok();
    assert!(waiting.wait(SOON).success());
    eventually(SOON, "carol is a member again", || match room["carol"].api().status() {
        status if !status.removed && status.members == 2 => Ok(()),
        status => Err(format!("{status:?}")),
    });
}

#[test]
fn only_admin_neither_steps_down_nor_leaves_by_accident() {
    let room = TestRoom::of(&["alice", "bob"]);
    let said = room["alice"].chat(&["remove", "alice"]).refuses(1);
    assert!(said.contains("cannot remove itself") && said.contains("'chat leave'"), "{said}");
    for arguments in [&["role", "alice", "member"][..], &["leave"]] {
        let said = room["alice"].chat(arguments).refuses(1);
        assert!(said.contains("you are the only admin") && said.contains("'chat role NAME admin'"), "{said}");
    }
    room["alice"].chat(&["role", "bob", "admin"]).ok();
    room["alice"].chat(&["role", "alice", "member"]).ok();
    room["alice"].chat(&["leave"]).ok();
    eventually(SOON, "alice has left", || match room["bob"].api().status().members {
        1 => Ok(()),
        members => Err(format!("{members} members")),
    });
    room["bob"].chat(&["leave"]).ok();
}
