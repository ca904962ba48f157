//! The commands that need no daemon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use crate::run::{TestHome, run};

#[test]
fn version_help_and_wrong_usage_have_their_exit_codes() {
    let home = TestHome::new();
    assert_eq!(home.chatd(&["--version"]).ok(), format!("chatd {}\n", env!("CARGO_PKG_VERSION")));
    assert!(home.chatd(&["help", "start"]).ok().contains("--join"));
    assert!(!home.chatd(&["help", "start"]).ok().contains("background-child"));
    assert!(home.chatd(&["strat"]).fails(2).contains("start"), "clap suggests what was meant");
    home.chatd(&["start", "--foo"]).fails(2);
}

#[test]
fn without_a_daemon_commands_say_how_to_start_one() {
    let home = TestHome::new();
    let start = "start it with 'chatd start'";
    for command in ["status", "env"] {
        let said = home.chatd(&[command]).fails(3);
        assert!(said.contains(start), "{said}");
    }
    let elsewhere = home.path().join("a b");
    let said = home.chatd(&["status", "--home", elsewhere.to_str().expect("text")]).fails(3);
    assert!(said.contains(&format!("chatd start --home '{}'", elsewhere.display())), "{said}");
    assert!(home.chatd(&["logs"]).fails(1).contains("no log"));
    home.chatd(&["stop"]).ok();
}

#[test]
fn the_last_lines_of_the_log_are_shown_and_made_safe() {
    let home = TestHome::new();
    home.write("chatd.log", "1\n2\nescape \x1b[2J\n");
    assert_eq!(home.chatd(&["logs", "-n", "2"]).ok(), "2\nescape \u{FFFD}[2J\n");
    assert_eq!(home.chatd(&["logs"]).ok().lines().count(), 3);
}

#[test]
fn the_log_is_followed_into_its_next_file() {
    let home = TestHome::new();
    home.write("chatd.log", "1\n2\n");
    let mut command = home.command(&["logs", "-f", "-n", "1"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("chatd was built");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "2");
    let log = home.path().join("chatd.log");
    let append = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    };
    append("3\n");
    assert_eq!(next(), "3");
    append("4\n");
    fs::rename(&log, home.path().join("chatd.log.1")).expect("rotated");
    append("5\n");
    assert_eq!((next(), next()), ("4".into(), "5".into()));
    child.kill().expect("it follows for ever");
    child.wait().expect("ended");
}

#[test]
fn completions_and_manual_are_for_every_command() {
    let home = TestHome::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(home.chatd(&["completions", shell]).ok().contains("no-mdns"), "{shell}");
    }
    assert!(home.chatd(&["man"]).ok().contains(".TH chatd 1"));
    assert!(home.chatd(&["man", "start"]).ok().contains("no\\-mdns"));
    assert!(home.chatd(&["man", "strat"]).fails(2).contains("no command 'strat'"));
}

#[test]
fn the_unit_is_written_where_systemd_looks() {
    let home = TestHome::new();
    let config = home.path().join("config");
    let service = |action: &str| {
        let mut command = home.command(&["service", action]);
        command.env("XDG_CONFIG_HOME", &config);
        run(command)
    };
    let said = service("install").ok();
    assert!(said.contains("systemctl --user") && said.contains("enable --now chatd.service"), "{said}");
    let unit = config.join("systemd/user/chatd.service");
    let text = fs::read_to_string(&unit).expect("written");
    assert!(text.contains(env!("CARGO_BIN_EXE_chatd")) && text.contains("start --foreground"), "{text}");
    assert!(text.contains(&home.path().display().to_string()), "CHATD_HOME is not known to systemd: {text}");
    service("uninstall").ok();
    assert!(!unit.exists());
}
