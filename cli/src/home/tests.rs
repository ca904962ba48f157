//! Tests of where the daemon is looked for.

use super::*;

fn locate(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Target, HomeError> {
    Target::locate(flag.map(Path::new), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    })
}

fn place(flag: Option<&str>, variables: &[(&str, &str)]) -> String {
    locate(flag, variables).expect("the place is known").to_string()
}

#[test]
fn an_explicit_home_keeps_its_own_run_directory() {
    let runtime = ("XDG_RUNTIME_DIR", "/run/user/7");
    assert_eq!(place(Some("/tmp/a"), &[runtime, ("CHATD_HOME", "/b")]), "/tmp/a/run");
    assert_eq!(place(None, &[runtime, ("CHATD_HOME", "/b")]), "/b/run");
}

#[test]
fn the_default_home_runs_under_the_runtime_directory() {
    assert_eq!(place(None, &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")]), "/run/user/7/chatd");
    assert_eq!(place(None, &[("HOME", "/h"), ("XDG_DATA_HOME", "/data")]), "/data/chatd/run");
    assert_eq!(place(None, &[("HOME", "/h"), ("XDG_DATA_HOME", "")]), "/h/.local/share/chatd/run");
    assert_eq!(place(None, &[("HOME", "/h"), ("XDG_RUNTIME_DIR", "relative")]), "/h/.local/share/chatd/run");
    assert_eq!(locate(None, &[]).err(), Some(HomeError::NoHome));
}

#[test]
fn a_url_beats_the_home_of_the_environment_and_not_the_flag() {
    let url = ("CHATD_URL", "http://127.0.0.1:24284");
    assert_eq!(place(None, &[url, ("CHATD_HOME", "/b")]), "http://127.0.0.1:24284");
    assert_eq!(place(Some("/a"), &[url]), "/a/run");
}

#[test]
fn strange_urls_and_tokens_are_refused_with_a_word_on_what_to_write() {
    for url in
        ["127.0.0.1", "https://127.0.0.1:1", "http://127.0.0.1", "http://a:1/x", "http://u@a:1", "http://\u{1b}:1"]
    {
        let error = locate(None, &[("CHATD_URL", url)]).err();
        assert!(matches!(error, Some(HomeError::Url(_))), "{url}: {error:?}");
    }
    let error = locate(None, &[("CHATD_URL", "http://a:1"), ("CHATD_TOKEN", "a\nb")]).err();
    assert_eq!(error, Some(HomeError::Token));
}

#[test]
fn a_token_does_not_show_in_debug() {
    let value = bearer("secret\n").expect("a token");
    assert_eq!(value.as_bytes(), b"Bearer secret");
    assert!(!format!("{value:?}").contains("secret"));
}
