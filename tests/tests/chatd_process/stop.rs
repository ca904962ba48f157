//! Stopping: by command, by signal, by a second daemon's name, and when no daemon runs.

use std::fs;

use chat_tests::eventually::SOON;
use chat_tests::home::TestHome;
use chat_tests::process::Signal;

#[test]
fn stop_ends_the_daemon_cleans_up_and_can_be_repeated() {
    let home = TestHome::new();
    let started = home.start(&[]);
    assert_eq!(home.chatd(&["stop"]).run().ok(), "chatd has stopped\n");
    assert!(home.holder().is_none());
    // The process that inherited it may not have taken note yet: a zombie.
    let stat = fs::read_to_string(format!("/proc/{}/stat", started["pid"])).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "the process is gone: {stat}");
    let entries = fs::read_dir(home.run()).expect("it exists");
    let left: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| name == "lock" || name == "token"), "{left:?}");
    assert!(!home.files().iter().any(|name| name.ends_with("-wal")), "{:?}", home.files());
    assert!(home.log().contains("stopped") && !home.log().contains("ERROR"), "{}", home.log());
    assert_eq!(home.chatd(&["stop"]).run().ok(), format!("no daemon runs in {}\n", home.path().display()));
    assert_eq!(home.chatd(&["stop", "--json"]).run().ok(), "{\"was_running\":false,\"pid\":null}\n");
}

#[test]
fn a_daemon_that_hangs_is_named_and_can_be_killed() {
    let home = TestHome::new();
    home.start(&[]);
    let holder = home.holder().expect("it runs");
    let pid = holder.pid();
    holder.signal(Signal::STOP);
    let said = home.chatd(&["start"]).run().refuses(1);
    assert!(said.contains(&format!("pid {pid}")) && said.contains("chatd stop"), "{said}");
    let said = home.chatd(&["status"]).run().refuses(1);
    assert!(said.contains("did not answer within"), "{said}");
    let said = home.chatd(&["stop"]).run().refuses(1);
    assert!(said.contains(&format!("kill -9 {pid}")), "{said}");
    holder.signal(Signal::CONT);
    assert!(holder.wait(SOON), "it carries out what it was asked");
}

#[test]
fn env_prints_what_scripts_need_while_the_daemon_runs() {
    let home = TestHome::new();
    home.chatd(&["env"]).run().refuses(3);
    home.start(&[]);
    let url = home.api_file().and_then(|api| api.url).expect("on TCP");
    let token = home.token();
    assert_eq!(home.chatd(&["env"]).run().ok(), format!("CHATD_URL={url}\nCHATD_TOKEN={token}\n"));
    home.chatd(&["stop"]).run().ok();
    home.chatd(&["start"]).without("CHATD_API").env("CHATD_TCP", "off").run().ok();
    let said = home.chatd(&["env"]).run().refuses(1);
    assert!(said.contains("--no-tcp"), "{said}");
    assert_eq!(home.token(), token, "scripts that read it before go on");
}
