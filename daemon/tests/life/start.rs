//! Starting: what stands afterwards, how often it may be repeated, and that nothing of it is for others' eyes.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::run::{TestHome, mode, run, wait};

#[test]
fn a_start_returns_when_the_daemon_answers_and_a_second_one_says_so() {
    let home = TestHome::new();
    let said = home.chatd(&["start"]).ok();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("ann (~") && lines[0].ends_with(") is in anns-room"), "{said}");
    assert!(said.contains("chat invite") && said.contains("chat send hello") && said.contains("chat tail"), "{said}");
    let status = home.chatd(&["status"]).ok();
    assert!(status.contains("anns-room") && status.contains("1, 1 online"), "{status}");

    let pid = home.holder().expect("it runs");
    let again = home.chatd(&["start"]).ok();
    assert!(again.starts_with(&format!("chatd runs already (pid {pid}): ann")), "{again}");
    let again = home.start(&["--foreground"]);
    assert_eq!(
        (again["already_running"].as_bool(), again["pid"].as_i64()),
        (Some(true), Some(pid.as_raw_pid().into()))
    );
}

#[test]
fn two_starts_at_once_give_one_daemon() {
    let home = TestHome::new();
    let start = || {
        let mut command = home.command(&["start", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chatd was built")
    };
    let starts: Vec<_> = (0..4).map(|_| start()).collect();
    let started: Vec<serde_json::Value> =
        starts.into_iter().map(|child| serde_json::from_str(&wait(child).ok()).expect("JSON")).collect();
    let fresh = started.iter().filter(|started| started["already_running"] == false).count();
    assert_eq!(fresh, 1, "{started:?}");
    assert!(started.iter().all(|other| other["pid"] == started[0]["pid"]), "{started:?}");
}

#[test]
fn what_is_asked_for_is_what_stands() {
    let home = TestHome::new();
    let started = home.start(&["--name", "bob", "--room", "lab", "--open"]);
    assert_eq!(started["peer"]["name"], "bob");
    assert_eq!((&started["room"]["name"], &started["room"]["open"]), (&"lab".into(), &true.into()));
    assert_eq!(started["already_running"], false);
    assert_eq!(started["notes"], serde_json::json!([]));
    assert_eq!(started["home"].as_str(), home.path().to_str());
    let api = home.api().expect("announced");
    assert_eq!((started["url"].as_str(), started["socket"].as_str()), (api.url.as_deref(), Some(&*api.socket)));

    let running = home.start(&["--name", "carol", "--room", "other"]);
    assert_eq!((&running["room"], &running["peer"]), (&started["room"], &started["peer"]));
    let notes = running["notes"].to_string();
    assert!(notes.contains("--room") && notes.contains("chat name carol"), "what was not done is told: {notes}");

    home.chatd(&["stop"]).ok();
    let again = home.start(&["--name", "carol", "--room", "other"]);
    assert_eq!((&again["room"], &again["peer"]["id"]), (&started["room"], &started["peer"]["id"]));
    assert!(again["notes"][0].as_str().is_some_and(|note| note.contains("--room")), "{again}");
    assert_eq!(again["peer"]["name"], "carol", "--name renames");
}

#[test]
fn files_are_the_users_alone_whatever_the_umask() {
    for umask in ["000", "022", "277"] {
        let home = TestHome::new();
        let started = home.command(&["start"]);
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask $0; exec \"$@\"", umask]).arg(started.get_program()).args(started.get_args());
        shell.env_clear().envs(started.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run(shell).ok();
        for name in ["", "run"] {
            assert_eq!(mode(&home.path().join(name)), 0o700, "{name} under {umask}");
        }
        let mut files = vec!["run/token".to_owned(), "run/api.json".into(), "run/chatd.sock".into(), "run/lock".into()];
        files.extend(home.files().into_iter().filter(|name| name != "run"));
        assert!(files.iter().any(|name| name == "room.db") && files.iter().any(|name| name == "chatd.log"));
        for name in files {
            assert_eq!(mode(&home.path().join(&name)), 0o600, "{name} under {umask}");
        }
    }
}

#[test]
fn the_daemon_is_on_its_own() {
    let home = TestHome::new();
    let here = tempfile::tempdir().expect("temporary directory");
    let mut command = home.command(&["start", "--json", "--name", "bob"]);
    command.current_dir(here.path()).process_group(0);
    let started: serde_json::Value = serde_json::from_str(&run(command).ok()).expect("JSON");
    let proc = |name: &str| format!("/proc/{}/{name}", started["pid"]);
    assert_eq!(fs::read_link(proc("cwd")).expect("it runs"), std::path::Path::new("/"));
    for stream in ["fd/0", "fd/1"] {
        assert_eq!(fs::read_link(proc(stream)).expect("open"), std::path::Path::new("/dev/null"));
    }
    assert_eq!(fs::read_link(proc("fd/2")).expect("open"), home.path().join("chatd.log"));
    let stat = fs::read_to_string(proc("stat")).expect("it runs");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).expect("a session");
    assert_eq!(session, started["pid"].to_string(), "it leads its own session");
    let line = fs::read_to_string(proc("cmdline")).expect("it runs");
    assert!(!line.contains("bob"), "arguments, which may hold a ticket, are not for everybody's eyes: {line}");
}

#[test]
fn what_a_killed_daemon_left_behind_does_not_matter() {
    let home = TestHome::new();
    let first = home.start(&[]);
    home.signal(Signal::KILL);
    home.wait_until_free();
    assert!(home.api().is_some(), "nobody was there to clean up");
    assert!(home.chatd(&["status"]).fails(3).contains("no daemon runs"));
    home.chatd(&["env"]).fails(3);
    let second = home.start(&[]);
    assert_eq!((&second["peer"], &second["room"]), (&first["peer"], &first["room"]));
    home.chatd(&["status"]).ok();
}

#[test]
fn the_default_home_is_found_from_every_session() {
    let home = TestHome::new();
    let at_default = |args: &[&str], runtime: Option<&str>| {
        let mut command = home.command(args);
        command.env_remove("CHATD_HOME").env("XDG_DATA_HOME", home.path());
        if let Some(runtime) = runtime {
            command.env("XDG_RUNTIME_DIR", home.path().join(runtime));
        }
        run(command)
    };
    at_default(&["start"], Some("session")).ok();
    assert!(home.path().join("session/chatd/chatd.sock").exists() && home.path().join("chatd/room.db").exists());
    // As over ssh, or from cron.
    assert!(at_default(&["start"], None).ok().contains("runs already"));
    at_default(&["status"], None).ok();
    at_default(&["env"], Some("other")).ok();
    assert_eq!(at_default(&["stop"], None).ok(), "chatd has stopped\n");
}

#[test]
fn a_foreground_daemon_logs_to_standard_error_and_ends_with_ctrl_c() {
    let home = TestHome::new();
    let mut command = home.command(&["start", "--foreground", "--json"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("chatd was built");
    let out = child.stdout.take().expect("piped");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    let ready: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(ready["pid"], child.id());
    home.signal(Signal::HUP);
    home.chatd(&["status"]).ok();
    home.signal(Signal::INT);
    let ended = wait(child);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("ready") && ended.err.contains("stopped"), "{}", ended.err);
    assert!(!home.files().contains(&"chatd.log".to_owned()));
}

#[test]
fn a_socket_path_that_is_too_long_is_no_obstacle() {
    let home = TestHome::new();
    let far = home.path().join("x".repeat(120));
    let far = far.to_str().expect("text");
    home.chatd(&["start", "--home", far]).ok();
    home.chatd(&["status", "--home", far]).ok();
    let api: serde_json::Value =
        serde_json::from_slice(&fs::read(format!("{far}/run/api.json")).expect("announced")).expect("JSON");
    let socket = std::path::PathBuf::from(api["socket"].as_str().expect("a path"));
    assert_eq!(mode(socket.parent().expect("in a directory")), 0o700);
    home.chatd(&["stop", "--home", far]).ok();
    assert!(!socket.parent().expect("in a directory").exists(), "the directory was made for the socket alone");
}
