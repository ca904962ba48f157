//! Lines, fixtures, and files that are none.

use super::*;

fn read_text(content: &[u8]) -> Result<SettingsLayer, ConfigError> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("config.toml");
    std::fs::write(&path, content).expect("written");
    read(&path)
}

#[test]
fn values_know_their_lines() {
    let layer = read_text(b"# settings\nname = 'ann'\n\nopen = true\n").expect("valid");
    let line = |source: &SettingSource| match source {
        SettingSource::File { line, .. } => *line,
        SettingSource::Flag(_) | SettingSource::Variable(_) => 0,
    };
    assert_eq!(layer.name.map(|said| line(&said.source)), Some(2));
    assert_eq!(layer.open.map(|said| line(&said.source)), Some(4));
    assert!(layer.listen.is_none());
}

#[test]
fn a_file_of_the_first_version_keeps_loading() {
    let layer = read_text(include_bytes!("../../../../fixtures/config-v1.toml")).expect("valid");
    let texts = [layer.name, layer.room, layer.listen, layer.api, layer.log].map(|said| said.map(|said| said.value));
    let expected = ["ann", "lab", "0.0.0.0:24283", "127.0.0.1:24284", "info"].map(|text| Some(text.to_owned()));
    assert_eq!(texts, expected);
    let switches = [layer.open, layer.tcp, layer.mdns].map(|said| said.map(|said| said.value));
    assert_eq!(switches, [Some(false), Some(true), Some(true)]);
}

#[test]
fn what_is_no_text_is_refused() {
    for content in [vec![0xFF, 0xFE], vec![b'#'; 70_000]] {
        let error = read_text(&content).expect_err("refused");
        assert!(matches!(error, ConfigError::NotText { .. }), "{error}");
    }
}

#[test]
fn errors_are_one_line() {
    for content in ["name = ", "[[[", "name = 'ann'\nname = 'bob'", "name = 'ann", "= 1", "[name]\nx = 1"] {
        let text = read_text(content.as_bytes()).expect_err("refused").to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("config.toml:"), "{text}");
    }
}

#[test]
fn a_directory_is_not_a_file() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let error = read(directory.path()).expect_err("refused");
    assert!(matches!(error, ConfigError::Read { .. }), "{error}");
}
