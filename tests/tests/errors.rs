//! Promise P7: errors people can act on: one line with the cause and what to do, the documented exit code, nothing lost.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use chat_proto::api::messages::SendRequest;
use chat_proto::error::ErrorCode;
use chat_proto::{PEER_PORT, TEXT_BYTES_MAX};
use chat_tests::cluster::{TestRoom, all_online, same_history};
use chat_tests::daemon::{Daemon, StartDaemon};
use chat_tests::eventually::{SOON, eventually_true};
use chat_tests::home::TestHome;

/// Starts in this home and is refused; gives what it says.
#[track_caller]
fn start_refused(home: &TestHome, args: &[&str]) -> String {
    let mut words = vec!["start", "--name", "alice"];
    words.extend(args);
    home.chatd(&words).run().refuses(1)
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_one() {
    let home = TestHome::new();
    for args in [
        &["send", "hello"][..],
        &["tail"],
        &["log"],
        &["peers"],
        &["status"],
        &["why"],
        &["invite"],
        &["invites"],
        &["knocks"],
        &["admit", "1"],
        &["name", "al"],
        &["leave"],
    ] {
        let said = home.chat(args).run().refuses(3);
        assert!(said.contains("chatd start"), "{args:?}: {said}");
    }
    for args in [&["status"][..], &["env"]] {
        let said = home.chatd(args).run().refuses(3);
        assert!(said.contains("chatd start"), "{args:?}: {said}");
    }
    let elsewhere = home.path().join("a b");
    let said = home.chatd(&["status", "--home", elsewhere.to_str().expect("text")]).run().refuses(3);
    assert!(said.contains(&format!("chatd start --home '{}'", elsewhere.display())), "{said}");
    assert!(home.chatd(&["logs"]).run().refuses(1).contains("no log"));
    // Nothing runs, which is what was wanted.
    home.chatd(&["stop"]).run().ok();
    assert!(!home.path().join("identity.key").exists(), "asking makes no peer");
}

#[test]
fn commands_after_a_kill_say_that_no_daemon_runs() {
    let mut alice = StartDaemon::found("alice").start();
    alice.kill();
    let said = alice.chat(&["send", "hello"]).refuses(3);
    assert!(said.contains("chatd start"), "{said}");
    alice.chatd(&["env"]).refuses(3);
    alice.start_again();
    alice.chat(&["send", "hello"]).ok();
}

#[test]
fn message_to_an_unknown_name_is_refused() {
    let room = TestRoom::of(&["alice", "bob"]);
    let said = room["alice"].chat(&["send", "@bbo", "for bob alone"]).refuses(1);
    assert!(said.contains("bbo") && said.contains("chat peers"), "{said}");
    let said = room["alice"].chat(&["send", "@bob", "@bbo", "for both"]).refuses(1);
    assert!(said.contains("bbo"), "{said}");
    room["alice"].chat(&["log", "--from", "bbo"]).refuses(1);
    room["alice"].chat(&["send", "to all"]).ok();
    assert_eq!(room["alice"].api().texts(), ["to all"]);
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let alice = StartDaemon::found("alice").start();
    for args in [&["frobnicate"][..], &["send", "--wait", "forever", "x"], &["tail", "-n", "many"]] {
        alice.chat(args).fails(2);
    }
    alice.chatd(&["start", "--listen", "nowhere"]).fails(2);
    for ticket in ["chat1nonsense", "not a ticket or host"] {
        alice.chat(&["join", ticket]).refuses(1);
    }
}

/// A cause that repeats its error ("the name is empty: the name is empty") is said once.
#[test]
fn no_error_says_the_same_twice() {
    let alice = StartDaemon::found("alice").start();
    let long = "x".repeat(200);
    let refused: [&[&str]; 14] = [
        &["name", ""],
        &["name", "two words"],
        &["name", &long],
        &["send", " "],
        &["send", "@nobody", "hello"],
        &["admit", "99"],
        &["deny", "99"],
        &["revoke", "0000000000"],
        &["role", "nobody", "admin"],
        &["remove", "nobody", "--yes"],
        &["join", ""],
        &["join", "chat1nonsense"],
        &["log", "--from", "nobody"],
        &["join", "nowhere.invalid:1"],
    ];
    let wrong: [&[&str]; 5] = [
        &["start", "--join", ""],
        &["start", "--listen", "nowhere"],
        &["start", "--name", ""],
        &["verify", "/nowhere"],
        &["token", "create", ""],
    ];
    let said = refused.map(|args| alice.chat(args)).into_iter().chain(wrong.map(|args| alice.chatd(args)));
    for finished in said {
        assert_ne!(finished.code(), 0, "{finished:?}");
        for line in finished.stderr.lines() {
            let parts: Vec<&str> = line.split(": ").map(str::trim).collect();
            let twice = parts.iter().enumerate().find(|(n, part)| parts[..*n].contains(part));
            assert!(twice.is_none(), "it is said twice: {line}");
        }
    }
}

#[test]
fn message_that_is_too_long_is_refused_as_a_whole() {
    let room = TestRoom::of(&["alice", "bob"]);
    let alice = &room["alice"];
    let said = alice.home().chat(&["send"]).input(vec![b'x'; TEXT_BYTES_MAX + 1]).run().refuses(1);
    assert!(said.contains("16384"), "{said}");
    let text = "x".repeat(TEXT_BYTES_MAX + 1);
    let problem = alice.api().post("/v1/messages", &SendRequest { text, ..SendRequest::default() }).problem(413);
    assert_eq!(problem.code, ErrorCode::TooLong);
    let longest = "\u{fc}".repeat(TEXT_BYTES_MAX / 2);
    alice.home().chat(&["send"]).input(longest.clone()).run().ok();
    alice.home().chat(&["send", "@bob"]).input(longest.clone()).run().ok();
    assert_eq!(room.same_history(1)[0].text, longest);
    eventually_true(SOON, "bob reads both", || room["bob"].api().texts() == [longest.as_str(), &longest]);
    alice.chat(&["send", " "]).refuses(1);
}

#[test]
fn requested_port_that_is_taken_is_an_error() {
    let home = TestHome::new();
    let _taken = UdpSocket::bind(home.address()).expect("an address of our own");
    let said = start_refused(&home, &[]);
    assert!(said.contains(&home.port().to_string()) && said.contains("taken") && said.contains("--listen"), "{said}");
    let api = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = api.local_addr().expect("bound").port().to_string();
    let other = TestHome::new();
    let said = start_refused(&other, &["--api", &port]);
    assert!(said.contains(&port) && said.contains("--api"), "{said}");
    assert!(
        other.holder().is_none() && !other.socket().exists() && other.api_file().is_none(),
        "nothing points nowhere"
    );
}

#[test]
fn usual_port_that_is_taken_is_replaced_with_a_note() {
    let home = TestHome::new();
    // By this test or, when that fails, by a daemon of this machine.
    let _taken = UdpSocket::bind((home.ip(), PEER_PORT));
    // An address alone means its usual port, if that is free.
    let ip = home.ip().to_string();
    let started = home.chatd(&["start", "--name", "alice"]).env("CHATD_LISTEN", &ip).run().ok();
    assert!(started.contains("24283 was taken"), "{started}");
    let alice = Daemon::adopt("alice", home);
    let bob = StartDaemon::join("bob", &alice.ticket()).start();
    all_online(&[&alice, &bob]);
}

#[test]
fn key_readable_by_others_is_refused() {
    let mut alice = StartDaemon::found("alice").start();
    alice.api().send("kept");
    alice.stop();
    let key = alice.home().path().join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("our own file");
    let said = start_refused(alice.home(), &[]);
    assert!(said.contains("chmod 600") && said.contains("identity.key"), "{said}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("our own file");
    alice.start_again();
    assert_eq!(alice.api().texts(), ["kept"]);
}

#[test]
fn invalid_key_is_refused_and_kept() {
    let mut alice = StartDaemon::found("alice").start();
    alice.stop();
    let key = alice.home().path().join("identity.key");
    let before = fs::read(&key).expect("our own file");
    fs::write(&key, "nonsense").expect("our own file");
    let said = start_refused(alice.home(), &[]);
    assert!(said.contains("identity.key") && said.contains("backup"), "{said}");
    assert_eq!(fs::read(&key).expect("our own file"), b"nonsense");
    fs::write(&key, before).expect("our own file");
    alice.start_again();
}

#[test]
fn missing_key_of_a_home_with_a_room_is_refused_and_not_replaced() {
    let mut alice = StartDaemon::found("alice").start();
    alice.stop();
    let key = alice.home().path().join("identity.key");
    let before = fs::read(&key).expect("our own file");
    fs::remove_file(&key).expect("our own file");
    let said = start_refused(alice.home(), &[]);
    assert!(said.contains("identity.key") && said.contains("backup"), "{said}");
    assert!(!key.exists(), "no other key is written");
    private(&key, &before);
    alice.start_again();
}

/// Writes a file of a home.
fn private(path: &std::path::Path, content: &[u8]) {
    fs::write(path, content).expect("our own file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("our own file");
}

#[test]
fn lost_room_is_never_replaced_by_another_and_the_way_back_is_named() {
    let alice = StartDaemon::found("alice").args(&["--room", "lab"]).start();
    alice.api().send("kept");
    // A home of an earlier version has no mark that it was in a room.
    for marked in [true, false] {
        let home = TestHome::new();
        home.start(&["--name", "bob", "--join", &alice.ticket()]);
        home.chatd(&["stop"]).run().ok();
        let path = |name: &str| home.path().join(name);
        let mut bytes = fs::read(path("room.db")).expect("our own file");
        bytes.iter_mut().skip(1024).step_by(7).for_each(|byte| *byte = 0xA5);
        fs::write(path("room.db"), bytes).expect("our own file");
        fs::remove_file(path("room.json")).expect("our own file");
        if !marked {
            fs::remove_file(path("home.json")).expect("the mark of a room");
        }
        let said = home.chatd(&["start"]).run().refuses(1);
        assert!(said.contains("room.db.corrupt-") && said.contains("--join TICKET"), "{said}");
        assert_eq!(said.contains("'lab'"), marked, "{said}");
        let said = home.chatd(&["start"]).run().refuses(1);
        assert!(said.contains("backup of room.db") && said.contains("--room NAME"), "{said}");
        home.start(&["--join", &alice.ticket()]);
        let bob = Daemon::adopt("bob", home);
        assert_eq!(bob.api().status().room.id, alice.api().status().room.id);
        same_history(&[&alice, &bob], 1, SOON);
    }
}

#[test]
fn corrupt_config_is_refused_with_file_line_and_key() {
    let mut alice = StartDaemon::found("alice").start();
    alice.stop();
    let config = alice.home().path().join("config.toml");
    for (text, expected) in [
        ("mdns = false\nlissten = 5\n", "lissten"),
        ("mdns = false\nlisten = [\n", "config.toml:2"),
        ("mdns = \"maybe\"\n", "mdns"),
        ("name = \"has spaces\"\n", "name"),
        ("\0\u{1}", "config.toml"),
    ] {
        fs::write(&config, text).expect("our own file");
        let said = alice.home().chatd(&["start"]).run().refuses(1);
        assert!(said.contains(expected) && said.contains("config.toml"), "{text:?}: {said}");
    }
    fs::write(&config, "log = \"debug\"\n").expect("our own file");
    alice.start_again();
}

#[test]
fn corrupt_database_is_set_aside_and_the_room_fetched_again() {
    let mut room = TestRoom::of(&["alice", "bob", "carol"]);
    for number in 0..20 {
        room["alice"].api().send(&format!("alice {number}"));
        room["bob"].api().send(&format!("bob {number}"));
    }
    let before = room.same_history(40);
    room["bob"].stop();
    let path = room["bob"].home().path().join("room.db");
    let mut bytes = fs::read(&path).expect("our own file");
    for byte in bytes.iter_mut().skip(1024).step_by(7) {
        *byte = 0xA5;
    }
    fs::write(&path, &bytes).expect("our own file");
    room["bob"].start_again();
    assert_eq!(room.same_history(40), before, "what bob had said is back, too");
    let kept = fs::read_dir(room["bob"].home().path()).expect("our own directory");
    let names: Vec<String> =
        kept.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.iter().any(|name| name.contains("corrupt")), "set aside, not thrown away: {names:?}");
    room["bob"].api().send("and on we go");
    room.same_history(41);
    room.all_online();
}

#[test]
fn full_disk_refuses_messages_and_loses_none() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test mounts a file system, which takes root");
        return;
    }
    let alice = StartDaemon::found("alice").start();
    let mut bob = StartDaemon::join("bob", &alice.ticket()).home(TestHome::small(3 << 20)).start();
    all_online(&[&alice, &bob]);
    bob.api().send("there is room");
    let mut kept = vec!["there is room".to_owned()];
    let text = |number: usize| format!("{number} {}", "x".repeat(12_000));
    let problem = (0..1000).find_map(|number| {
        let reply = bob.api().post("/v1/messages", &SendRequest { text: text(number), ..SendRequest::default() });
        if reply.status == 201 {
            kept.push(text(number));
            return None;
        }
        Some(reply.problem(507))
    });
    let problem = problem.expect("three megabytes are full at some time");
    assert_eq!(problem.code, ErrorCode::DiskFull);
    let said = bob.home().chat(&["send"]).input("y".repeat(12_000)).run().refuses(1);
    assert!(said.contains("full") && said.contains("free"), "{said}");

    // It still reads, and others still write: bob fetches that when there is room again.
    assert_eq!(bob.api().texts(), kept);
    // Also after a crash: it starts on the full disk, and says why it takes no message.
    bob.kill();
    bob.start_again();
    assert_eq!(bob.api().texts(), kept);
    let mut events = bob.api().events_at("/v1/events?since=all", None);
    assert_eq!(events.message(SOON).text, kept[0], "streams are served");
    let message = SendRequest { text: text(0), ..SendRequest::default() };
    assert_eq!(bob.api().post("/v1/messages", &message).problem(507).code, ErrorCode::DiskFull);
    for number in 0..10 {
        alice.api().send(&format!("meanwhile {number}"));
    }
    bob.home().enlarge(64 << 20);
    same_history(&[&alice, &bob], kept.len() + 10, SOON);
    bob.api().send("room again");
    let before = same_history(&[&alice, &bob], kept.len() + 11, SOON);
    bob.kill();
    bob.start_again();
    assert_eq!(same_history(&[&alice, &bob], kept.len() + 11, SOON), before);
}
