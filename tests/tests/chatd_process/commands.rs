//! The commands that start no daemon.

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

#[test]
fn token_of_a_scope_is_made_used_rotated_and_revoked() {
    let home = TestHome::new();
    home.start(&[]);
    let url = |line: &str| line.strip_prefix("CHATD_URL=").map(str::to_owned);
    let url = home.chatd(&["env"]).run().ok().lines().find_map(url).expect("the API is on TCP");
    let chat = |secret: &str, args: &[&str]| {
        home.chat(args).without("CHATD_HOME").env("CHATD_URL", &url).env("CHATD_TOKEN", secret.trim()).run()
    };
    let token = |args: &[&str]| home.chatd(&[&["token"], args].concat()).run();
    let secret = token(&["create", "ci"]).ok();
    chat(&secret, &["log"]).ok();
    let refused = chat(&secret, &["send", "hello"]).fails(4);
    assert!(refused.contains("the token 'ci' has the scope 'read', this call needs 'send'"), "{refused}");
    assert_eq!(token(&["list"]).ok(), "admin  default\nread   ci\n");
    let renewed = token(&["rotate", "ci"]).ok();
    chat(&secret, &["log"]).fails(4);
    chat(&renewed, &["log"]).ok();
    token(&["revoke", "ci"]).ok();
    chat(&renewed, &["log"]).fails(4);
    assert!(token(&["revoke", "ci"]).fails(1).contains("no token is called 'ci'"));
    token(&["create", "ci", "--scope", "root"]).fails(2);
    let own = token(&["rotate", "default"]).ok();
    assert!(home.chatd(&["env"]).run().ok().contains(own.trim()), "'chatd env' prints the new secret");
    chat(&own, &["send", "hello"]).ok();
}
