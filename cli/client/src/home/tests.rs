//! Tests of where the files of a daemon are, and which daemon is selected.

use super::*;

fn lookup<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
}

fn addr(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<DaemonAddr, LocateError> {
    DaemonAddr::locate(flag.map(Path::new), lookup(variables))
}

/// Flag, variables, and the directories that follow.
type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn flag_beats_variable_beats_default() {
    let all = [("CHATD_HOME", "/c"), ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")];
    let bare_home = "/h/.local/share/chatd";
    let table: [Case<'_>; 8] = [
        (Some("/f"), &all, "/f", "/f/run"),
        (None, &all, "/c", "/c/run"),
        (None, &all[1..], "/d/chatd", "/r/chatd"),
        (None, &[("XDG_DATA_HOME", "/d"), ("HOME", "/h")], "/d/chatd", "/d/chatd/run"),
        (None, &[("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
        (None, &[("XDG_RUNTIME_DIR", "relative"), ("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
        (None, &[("CHATD_HOME", ""), ("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
        (None, &[("XDG_DATA_HOME", "relative"), ("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
    ];
    for (flag, variables, root, run) in table {
        let home = Home::locate(flag.map(Path::new), lookup(variables)).expect("known");
        assert_eq!((home.root(), home.run()), (Path::new(root), Path::new(run)), "{flag:?} {variables:?}");
    }
}

#[test]
fn run_directory_is_that_of_the_daemon_that_holds_the_home() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = Home::locate(Some(directory.path()), |_| None).expect("known");
    assert_eq!(home.clone().follow(), home, "no daemon has run");
    std::fs::write(home.lock(), r#"{"pid":1,"stage":"running","run":"/session/chatd"}"#).expect("written");
    assert_eq!(home.clone().follow(), home, "none runs, or this is a copy of a home");
    let lock = File::open(home.lock()).expect("written");
    lock.lock().expect("free");
    assert_eq!(home.clone().follow().run(), Path::new("/session/chatd"));
    std::fs::write(home.lock(), "damaged").expect("written");
    assert_eq!(home.clone().follow(), home);
}

#[test]
fn environment_has_home_and_user_of_the_account() {
    // Set or not, both are known on every machine that runs these tests.
    assert!(environment("HOME").is_some_and(|home| Path::new(&home).is_absolute()));
    assert!(environment("USER").is_some_and(|user| !user.is_empty()));
    assert!(environment("CHATD_TEST_UNSET").is_none());
}

#[test]
fn no_directory_at_all_is_an_error_that_names_the_variable() {
    let error = Home::locate(None, |_| None).expect_err("nothing is known");
    assert_eq!(error.to_string(), "no home directory is known: set HOME, or give --home DIR");
}

#[test]
fn relative_home_is_made_absolute() {
    let home = Home::locate(Some(Path::new("rooms/lab")), |_| None).expect("known");
    assert!(home.root().is_absolute() && home.root().ends_with("rooms/lab"));
}

#[test]
fn command_names_the_home_only_where_it_was_given() {
    let default = Home::locate(None, lookup(&[("HOME", "/h")])).expect("known");
    assert_eq!(default.command("chatd start"), "chatd start");
    let given = Home::locate(Some(Path::new("/a b")), |_| None).expect("known");
    assert_eq!(given.command("chatd start"), "chatd start --home '/a b'");
}

#[test]
fn quoted_word_survives_a_shell() {
    for word in ["", "plain", "a b", "it's", "$(reboot)", "a\nb", "\"\\`!"] {
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quote(word))])
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), word);
    }
}

#[test]
fn url_beats_the_home_of_the_environment_and_not_the_flag() {
    let url = ("CHATD_URL", "http://127.0.0.1:24284");
    let place = |flag| addr(flag, &[url, ("CHATD_HOME", "/b")]).expect("known").to_string();
    assert_eq!(place(None), "http://127.0.0.1:24284");
    assert_eq!(place(Some("/a")), "/a/run");
}

#[test]
fn invalid_url_or_token_is_refused() {
    let urls =
        ["127.0.0.1", "https://127.0.0.1:1", "http://127.0.0.1", "http://a:1/x", "http://u@a:1", "http://\u{1b}:1"];
    for url in urls {
        let error = addr(None, &[("CHATD_URL", url)]).expect_err("no URL of the API");
        assert!(matches!(error, LocateError::Url(_)), "{url}: {error:?}");
    }
    let error = addr(None, &[("CHATD_URL", "http://a:1"), ("CHATD_TOKEN", "a\nb")]);
    assert!(matches!(error, Err(LocateError::Token)), "{error:?}");
}

#[test]
fn token_is_hidden_in_debug() {
    let addr = DaemonAddr::tcp("http://a:1/", Some("secret\n")).expect("a token");
    assert!(!format!("{addr:?}").contains("secret"));
    assert_eq!(bearer("secret\n").expect("a token").as_bytes(), b"Bearer secret");
}
