//! Precedence, every key, and errors word for word.

use super::*;
use proptest::prelude::*;

/// Settings from a config file's text, variables and flags.
fn collect(config: &str, variables: &[(&str, &str)], args: StartArgs) -> Result<DaemonSettings, SettingsError> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("config.toml");
    std::fs::write(&path, config).expect("written");
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    DaemonSettings::collect(&args, variable, &path)
}

/// The error as people see it, without the directory of the file.
fn error(config: &str, variables: &[(&str, &str)], args: StartArgs) -> String {
    let text = collect(config, variables, args).expect_err("refused").to_string();
    match text.find("config.toml") {
        Some(at) => text[at..].to_owned(),
        None => text,
    }
}

#[test]
fn without_anything_said_the_defaults_hold() {
    let defaults = DaemonSettings {
        name: None,
        room: None,
        door: DoorPolicy::Closed,
        listen: Listen::default(),
        api: Some(Listen::default()),
        mdns: Mdns::On,
        retention: None,
        log: "info".into(),
        budget: BudgetSettings::default(),
    };
    assert_eq!(collect("", &[], StartArgs::default()).expect("valid"), defaults);
    let missing = DaemonSettings::collect(&StartArgs::default(), |_| None, Path::new("/nonexistent/config.toml"));
    assert_eq!(missing.expect("a file is not needed"), defaults);
}

#[test]
fn flags_beat_variables_beat_the_file() {
    let file = "name = 'file'\nlisten = '1'\napi = '[::1]:1'\nmdns = false\nlog = 'error'\nroom = 'lab'\nopen = true";
    let variables = [("CHATD_NAME", "variable"), ("CHATD_LISTEN", "2"), ("CHATD_LOG", "debug"), ("CHATD_OPEN", "no")];
    let args = StartArgs { name: Some("flag".into()), ..StartArgs::default() };
    let settings = collect(file, &variables, args).expect("valid");
    assert_eq!(settings.name.as_deref(), Some("flag"));
    assert_eq!(settings.listen, Listen { ip: None, port: Some(2) });
    assert_eq!(settings.log, "debug");
    assert_eq!(settings.room.as_deref(), Some("lab"));
    assert_eq!(settings.mdns, Mdns::Off);
    assert_eq!(settings.door, DoorPolicy::Closed);
    assert_eq!(settings.api, Some(Listen { ip: Some("::1".parse().expect("valid")), port: Some(1) }));
}

#[test]
fn every_key_has_a_variable() {
    let variables = [
        ("CHATD_NAME", "ann"),
        ("CHATD_ROOM", "lab"),
        ("CHATD_OPEN", "1"),
        ("CHATD_LISTEN", "192.0.2.7"),
        ("CHATD_API", ":0"),
        ("CHATD_TCP", "true"),
        ("CHATD_MDNS", "off"),
        ("CHATD_RETENTION_DAYS", "30"),
        ("CHATD_LOG", "trace"),
    ];
    let settings = collect("", &variables, StartArgs::default()).expect("valid");
    let expected = DaemonSettings {
        name: Some("ann".into()),
        room: Some("lab".into()),
        door: DoorPolicy::Open,
        listen: Listen { ip: Some([192, 0, 2, 7].into()), port: None },
        api: Some(Listen { ip: None, port: Some(0) }),
        mdns: Mdns::Off,
        retention: Some(RetentionDays(30)),
        log: "trace".into(),
        budget: BudgetSettings::default(),
    };
    assert_eq!(settings, expected);
}

#[test]
fn tcp_is_off_when_the_nearest_source_says_so() {
    let off = StartArgs { no_tcp: true, ..StartArgs::default() };
    assert_eq!(collect("api = '1'", &[], off).expect("valid").api, None);
    assert_eq!(collect("tcp = false", &[], StartArgs::default()).expect("valid").api, None);
    assert!(collect("tcp = false", &[("CHATD_TCP", "on")], StartArgs::default()).expect("valid").api.is_some());
    let wanted = StartArgs { api: Some("7".into()), ..StartArgs::default() };
    let api = collect("tcp = false", &[], wanted).expect("valid").api;
    assert_eq!(api, Some(Listen { ip: None, port: Some(7) }));
}

#[test]
fn zero_days_keep_all_texts_whatever_a_lower_source_says() {
    let file = "retention_days = 7";
    assert_eq!(collect(file, &[], StartArgs::default()).expect("valid").retention, Some(RetentionDays(7)));
    let keep = StartArgs { retention_days: Some("0".into()), ..StartArgs::default() };
    assert_eq!(collect(file, &[], keep).expect("valid").retention, None);
}

#[test]
fn table_of_budgets_changes_what_it_names() {
    let settings = collect("[budget]\nmib = 2\nforks = 7", &[], StartArgs::default()).expect("valid");
    let expected = BudgetSettings { bytes: 2 * 1024 * 1024, forks: 7, ..BudgetSettings::default() };
    assert_eq!(settings.budget, expected);
}

#[test]
fn empty_variables_say_nothing_and_rust_log_is_read_last() {
    let variables = [("CHATD_NAME", ""), ("CHATD_OPEN", ""), ("RUST_LOG", "warn"), ("CHATD_LOG", "")];
    let settings = collect("name = 'ann'\nlog = 'error'", &variables, StartArgs::default()).expect("valid");
    assert_eq!((settings.name.as_deref(), settings.log.as_str()), (Some("ann"), "warn"));
}

#[test]
fn an_error_names_the_file_the_line_the_key_and_what_is_allowed() {
    let table = [
        (
            "nmae = 'ann'",
            "config.toml:1: unknown field `nmae`, expected one of `name`, `room`, `open`, `listen`, `api`, `tcp`, `mdns`, `retention_days`, `log`, `budget`, `chat`",
        ),
        ("name = 'ann'\nopen = 'yes'", "config.toml:2: open: invalid type: string \"yes\", expected a boolean"),
        (
            "\n\nname = 'a b'",
            "config.toml:3: name: the name contains ' ': use letters, digits, '-', '_' or '.', without spaces",
        ),
        (
            "retention_days = -1",
            "config.toml:1: retention_days: '-1' is not a number of days: use 1 to 36500, or 0 to keep all texts",
        ),
        ("[budget]\nforks = 0", "config.toml:2: forks: invalid value: integer `0`, expected a nonzero u32"),
        (
            "[budget]\nmb = 1",
            "config.toml:2: unknown field `mb`, expected one of `mib`, `entries`, `control_entries`, `admissions`, `forks`, `logs`",
        ),
        ("room = ''", "config.toml:1: room: the name of the room is empty"),
        (
            "listen = 'here'",
            "config.toml:1: listen: 'here' is not an address: write it like 192.0.2.7:24283, or give only a port",
        ),
        (
            "api = '0.0.0.0:80'",
            "config.toml:1: api: 0.0.0.0 is not a loopback address: the API serves only this machine, use 127.0.0.1 or [::1]",
        ),
        (
            "log = 'loud'",
            "config.toml:1: log: 'loud' is not a log level: use error, warn, info, debug, trace, or directives like chatd=debug,iroh=warn",
        ),
    ];
    for (config, expected) in table {
        assert_eq!(error(config, &[], StartArgs::default()), expected, "{config}");
    }
}

#[test]
fn an_error_names_the_variable_or_the_flag() {
    assert_eq!(
        error("", &[("CHATD_OPEN", "maybe")], StartArgs::default()),
        "CHATD_OPEN: 'maybe' is neither true nor false"
    );
    let flag = StartArgs { name: Some("x".repeat(33)), ..StartArgs::default() };
    assert_eq!(error("", &[], flag), "--name: the name has 33 characters, the maximum is 32");
    let flag = StartArgs { listen: Some("\u{1b}[2J".into()), ..StartArgs::default() };
    assert_eq!(
        error("", &[], flag),
        "--listen: '[2J' is not an address: write it like 192.0.2.7:24283, or give only a port"
    );
}

#[test]
fn a_variable_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let variable = |name: &str| (name == "CHATD_NAME").then(|| OsString::from_vec(vec![0xFF]));
    let error =
        DaemonSettings::collect(&StartArgs::default(), variable, Path::new("/nonexistent")).expect_err("not text");
    assert_eq!(error.to_string(), "CHATD_NAME is not text: set it to text, or unset it");
}

#[test]
fn only_a_flag_is_wrong_usage() {
    let flag = StartArgs { listen: Some("here".into()), ..StartArgs::default() };
    assert!(collect("", &[], flag).expect_err("refused").is_usage());
    assert!(!collect("listen = 'here'", &[], StartArgs::default()).expect_err("refused").is_usage());
}

#[test]
fn addresses_are_read_in_every_form() {
    let table = [
        ("192.0.2.7:5", Some("192.0.2.7"), Some(5)),
        ("192.0.2.7", Some("192.0.2.7"), None),
        ("[2001:db8::1]:5", Some("2001:db8::1"), Some(5)),
        ("[2001:db8::1]", Some("2001:db8::1"), None),
        ("2001:db8::1", Some("2001:db8::1"), None),
        (":5", None, Some(5)),
        (" 5 ", None, Some(5)),
    ];
    for (text, ip, port) in table {
        let said = Setting { value: text.to_owned(), source: SettingSource::Flag("--listen") };
        let expected = Listen { ip: ip.map(|ip| ip.parse().expect("valid")), port };
        assert_eq!(read_address(said, "").expect("valid"), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_file_panics(text: String) {
        let _ = collect(&text, &[], StartArgs::default());
    }

    #[test]
    fn no_value_panics(value: String) {
        let _ = collect("", &[("CHATD_LISTEN", &value), ("CHATD_LOG", &value)], StartArgs::default());
    }
}
