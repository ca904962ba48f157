//! Stopping: by command, by signal, by a second daemon's name, and when nothing runs.

use rustix::process::Signal;

use crate::run::TestHome;

#[test]
fn stopping_ends_the_daemon_and_cleans_up_and_can_be_repeated() {
    let home = TestHome::new();
    let started = home.start(&[]);
    assert_eq!(home.chatd(&["stop"]).ok(), "chatd has stopped\n");
    assert_eq!(home.holder(), None);
    // Whoever inherited it may not have taken note yet: a zombie.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", started["pid"])).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the process is gone: {stat}");
    let entries = std::fs::read_dir(home.path().join("run")).expect("there");
    let left: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| name == "lock" || name == "token"), "{left:?}");
    assert!(!home.files().iter().any(|name| name.ends_with("-wal")), "{:?}", home.files());
    assert_eq!(home.chatd(&["stop"]).ok(), format!("no daemon runs in {}\n", home.path().display()));
    assert_eq!(home.chatd(&["stop", "--json"]).ok(), "{\"was_running\":false,\"pid\":null}\n");
}

#[test]
fn a_signal_is_as_good() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = TestHome::new();
        home.start(&[]);
        home.signal(signal);
        home.wait_until_free();
        assert!(home.api().is_none() && !home.path().join("run/chatd.sock").exists(), "an orderly end");
        let log = std::fs::read_to_string(home.path().join("chatd.log")).expect("a log");
        assert!(log.contains("stopped") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn a_daemon_that_hangs_is_named_and_can_be_killed() {
    let home = TestHome::new();
    home.start(&[]);
    let pid = home.holder().expect("it runs");
    home.signal(Signal::STOP);
    let said = home.chatd(&["start"]).fails(1);
    assert!(said.contains(&format!("pid {pid}")) && said.contains("chatd stop"), "{said}");
    let said = home.chatd(&["status"]).fails(1);
    assert!(said.contains("does not answer"), "{said}");
    let said = home.chatd(&["stop"]).fails(1);
    assert!(said.contains(&format!("kill -9 {pid}")), "{said}");
    home.signal(Signal::CONT);
    home.wait_until_free();
}

#[test]
fn env_gives_scripts_what_they_need_while_the_daemon_runs() {
    let home = TestHome::new();
    home.chatd(&["env"]).fails(3);
    home.start(&[]);
    let api = home.api().expect("announced");
    let token = std::fs::read_to_string(home.path().join("run/token")).expect("a token");
    let expected = format!("CHATD_URL={}\nCHATD_TOKEN={token}\n", api.url.expect("on TCP"));
    assert_eq!(home.chatd(&["env"]).ok(), expected);
    home.chatd(&["stop"]).ok();
    let mut tcp_off = home.command(&["start"]);
    tcp_off.env_remove("CHATD_API").env("CHATD_TCP", "off");
    crate::run::run(tcp_off).ok();
    let said = home.chatd(&["env"]).fails(1);
    assert!(said.contains("--no-tcp"), "{said}");
    let again = std::fs::read_to_string(home.path().join("run/token")).expect("a token");
    assert_eq!(again, token, "scripts that read it go on");
}
