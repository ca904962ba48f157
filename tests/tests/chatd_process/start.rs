//! Starting: what exists afterwards, what a repeated start does, and that no file or argument is for other users' eyes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat_tests::eventually::SOON;
use chat_tests::home::TestHome;
use chat_tests::process::{Signal, TestCommand};

/// Permissions of a file.
#[track_caller]
fn mode(path: &Path) -> u32 {
    let found = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    found.permissions().mode() & 0o777
}

#[test]
fn a_start_carries_out_its_options_and_notes_those_it_cannot() {
    let home = TestHome::new();
    let started = home.start(&["--name", "bob", "--room", "lab", "--open"]);
    assert_eq!(started["peer"]["name"], "bob");
    assert_eq!((&started["room"]["name"], &started["room"]["open"]), (&"lab".into(), &true.into()));
    assert_eq!(started["already_running"], false);
    assert_eq!(started["notes"], serde_json::json!([]));
    assert_eq!(started["home"].as_str(), home.path().to_str());
    let api = home.api_file().expect("announced");
    assert_eq!((started["url"].as_str(), started["socket"].as_str()), (api.url.as_deref(), Some(&*api.socket)));

    let running = home.start(&["--name", "carol", "--room", "other"]);
    assert_eq!((&running["room"], &running["peer"]), (&started["room"], &started["peer"]));
    let notes = running["notes"].to_string();
    assert!(notes.contains("--room") && notes.contains("chat name carol"), "what was not done is noted: {notes}");

    home.chatd(&["stop"]).run().ok();
    let again = home.start(&["--name", "carol", "--room", "other"]);
    assert_eq!((&again["room"], &again["peer"]["id"]), (&started["room"], &started["peer"]["id"]));
    assert!(again["notes"][0].as_str().is_some_and(|note| note.contains("--room")), "{again}");
    assert_eq!(again["peer"]["name"], "carol", "--name renames");
}

#[test]
fn without_options_the_room_is_named_after_the_login_name() {
    let home = TestHome::new();
    let said = home.chatd(&["start"]).run().ok();
    assert!(said.lines().next().is_some_and(|line| line.ends_with(") is in anns-room")), "{said}");
    let status = home.chatd(&["status"]).run().ok();
    assert!(status.contains("anns-room") && status.contains("1 member, 1 online"), "{status}");
}

#[test]
fn files_are_private_whatever_the_umask() {
    for umask in ["000", "022", "277"] {
        let home = TestHome::new();
        let start = home.shell(&format!("umask {umask}; exec chatd start"));
        start.env("CHATD_LISTEN", home.address()).run().ok();
        for name in ["", "run"] {
            assert_eq!(mode(&home.path().join(name)), 0o700, "{name} under {umask}");
        }
        let mut files = ["run/token", "run/api.json", "run/chatd.sock", "run/lock"].map(str::to_owned).to_vec();
        files.extend(home.files().into_iter().filter(|name| name != "run"));
        assert!(files.iter().any(|name| name == "room.db") && files.iter().any(|name| name == "chatd.log"));
        for name in files {
            assert_eq!(mode(&home.path().join(&name)), 0o600, "{name} under {umask}");
        }
    }
}

#[test]
fn a_daemon_in_the_background_is_detached_from_its_parent() {
    let home = TestHome::new();
    let here = tempfile::tempdir().expect("temporary directory");
    let command = home.chatd(&["start", "--json", "--name", "bob"]).directory(here.path());
    let started: serde_json::Value = command.run().json().remove(0);
    let proc = |name: &str| format!("/proc/{}/{name}", started["pid"]);
    assert_eq!(fs::read_link(proc("cwd")).expect("it runs"), Path::new("/"));
    for stream in ["fd/0", "fd/1"] {
        assert_eq!(fs::read_link(proc(stream)).expect("open"), Path::new("/dev/null"));
    }
    assert_eq!(fs::read_link(proc("fd/2")).expect("open"), home.path().join("chatd.log"));
    let stat = fs::read_to_string(proc("stat")).expect("it runs");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).expect("a session");
    assert_eq!(session, started["pid"].to_string(), "it leads its own session");
    let line = fs::read_to_string(proc("cmdline")).expect("it runs");
    assert!(!line.contains("bob"), "arguments, which may hold a ticket, are not visible to other users: {line}");
}

#[test]
fn the_default_home_is_found_from_every_session() {
    let home = TestHome::new();
    let at_default = |args: &[&str], runtime: Option<&str>| {
        let command = home.chatd(args).without("CHATD_HOME").env("XDG_DATA_HOME", home.path());
        match runtime {
            Some(runtime) => command.env("XDG_RUNTIME_DIR", home.path().join(runtime)).run(),
            None => command.run(),
        }
    };
    at_default(&["start"], Some("session")).ok();
    assert!(home.path().join("session/chatd/chatd.sock").exists() && home.path().join("chatd/room.db").exists());
    // As over ssh, or from cron.
    assert!(at_default(&["start"], None).ok().contains("already"));
    at_default(&["status"], None).ok();
    at_default(&["env"], Some("other")).ok();
    assert_eq!(at_default(&["stop"], None).ok(), "chatd has stopped\n");
}

#[test]
fn chat_finds_the_daemon_of_the_default_home_from_every_environment() {
    let home = TestHome::new();
    let (user, session) = (home.path().join("user"), home.path().join("session"));
    fs::create_dir_all(&session).expect("the directory is ours");
    // As `env -i PATH=… HOME=…`, which is what cron, ssh, sudo and git hooks leave.
    let bare = |command: TestCommand| {
        ["CHATD_HOME", "USER"]
            .into_iter()
            .fold(command, TestCommand::without)
            .env("HOME", &user)
            .env("CHATD_NAME", "ann")
    };
    let full = |command: TestCommand| bare(command).env("XDG_RUNTIME_DIR", &session).env("USER", "ann");
    let (start, send, stop) = (|| home.chatd(&["start"]), || home.chat(&["send", "hello"]), || home.chatd(&["stop"]));
    full(start()).run().ok();
    bare(send()).run().ok();
    assert!(bare(start()).run().ok().contains("already"));
    assert_eq!(bare(stop()).run().ok(), "chatd has stopped\n");
    bare(send()).run().refuses(3);
    bare(start()).run().ok();
    full(send()).run().ok();
    assert!(full(start()).run().ok().contains("already"));
    assert!(full(home.chat(&["log"])).run().ok().lines().count() == 2);
    assert_eq!(full(stop()).run().ok(), "chatd has stopped\n");
}

#[test]
fn name_of_a_peer_without_user_is_that_of_the_account() {
    let home = TestHome::new();
    home.chatd(&["start"]).without("USER").run().ok();
    let account = home.shell("id -un").run().ok();
    let status: serde_json::Value = home.chat(&["status", "--json"]).run().json().remove(0);
    assert_eq!(status["peer"]["name"], account.trim());
    assert_eq!(status["room"]["name"], format!("{}s-room", account.trim()));
}

#[test]
fn a_foreground_daemon_logs_to_standard_error_and_ends_with_ctrl_c() {
    let home = TestHome::new();
    let mut daemon = home.chatd(&["start", "--foreground", "--json"]).spawn();
    let ready: serde_json::Value = serde_json::from_str(&daemon.next_line()).expect("JSON");
    assert_eq!(ready["pid"], daemon.pid());
    daemon.signal(Signal::HUP);
    home.chatd(&["status"]).run().ok();
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
    let said = daemon.said().join("\n");
    assert!(said.contains("ready") && said.contains("stopped"), "{said}");
    assert!(!home.files().contains(&"chatd.log".to_owned()));
}
