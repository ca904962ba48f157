//! The commands that need no daemon.

use std::fs;
use std::io::Write;
use std::path::Path;

use chat_tests::home::TestHome;
use chat_tests::process::binaries::binaries;

#[test]
fn version_help_and_wrong_usage_have_their_exit_codes() {
    let home = TestHome::new();
    let chatd = |args: &[&str]| home.chatd(args).run();
    assert_eq!(chatd(&["--version"]).ok(), format!("chatd {}\n", env!("CARGO_PKG_VERSION")));
    assert!(chatd(&["help", "start"]).ok().contains("--join"));
    assert!(!chatd(&["help", "start"]).ok().contains("background-child"));
    assert!(chatd(&["strat"]).fails(2).contains("start"), "clap suggests what was meant");
    chatd(&["start", "--foo"]).fails(2);
}

#[test]
fn the_last_lines_of_the_log_are_shown_without_control_characters() {
    let home = TestHome::new();
    home.write("chatd.log", "1\n2\nescape \x1b[2J\n");
    assert_eq!(home.chatd(&["logs", "-n", "2"]).run().ok(), "2\nescape \n");
    assert_eq!(home.chatd(&["logs"]).run().ok().lines().count(), 3);
}

#[test]
fn a_followed_log_goes_on_in_its_next_file() {
    let home = TestHome::new();
    home.write("chatd.log", "1\n2\n");
    let mut logs = home.chatd(&["logs", "-f", "-n", "1"]).spawn();
    assert_eq!(logs.next_line(), "2");
    let log = home.path().join("chatd.log");
    let append = |text: &str| {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&log).expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    };
    append("3\n");
    assert_eq!(logs.next_line(), "3");
    append("4\n");
    fs::rename(&log, home.path().join("chatd.log.1")).expect("rotated");
    append("5\n");
    assert_eq!([logs.next_line(), logs.next_line()], ["4", "5"]);
}

#[test]
fn completions_and_manual_cover_every_command() {
    let home = TestHome::new();
    let chatd = |args: &[&str]| home.chatd(args).run();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(chatd(&["completions", shell]).ok().contains("no-mdns"), "{shell}");
    }
    assert!(chatd(&["man"]).ok().contains(".TH chatd 1"));
    assert!(chatd(&["man", "start"]).ok().contains("no\\-mdns"));
    assert!(chatd(&["man", "strat"]).fails(2).contains("no command 'strat'"));
}

#[test]
fn the_systemd_unit_is_written_where_systemd_looks() {
    let home = TestHome::new();
    let config = home.path().join("config");
    let service = |action: &str| home.chatd(&["service", action]).env("XDG_CONFIG_HOME", &config).run().ok();
    let said = service("install");
    assert!(said.contains("systemctl --user") && said.contains("enable --now chatd-home-"), "{said}");
    let unit = Path::new(said.split(" was written").next().expect("a path"));
    assert!(unit.starts_with(config.join("systemd/user")), "{said}");
    let text = fs::read_to_string(unit).expect("written");
    let program = binaries().chatd.to_string_lossy();
    assert!(text.contains(&*program) && text.contains("start --foreground"), "{text}");
    assert!(text.contains(&home.path().display().to_string()), "CHATD_HOME is not known to systemd: {text}");
    service("uninstall");
    assert!(!unit.exists());
}
