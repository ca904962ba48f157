//! Finding, making and checking homes.

use super::*;

fn locate(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Home, HomeError> {
    Home::locate(flag.map(Path::new), |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

/// Flag, variables, and the directories that follow.
type Case<'a> = (Option<&'a str>, &'a [(&'a str, &'a str)], &'a str, &'a str);

#[test]
fn the_flag_beats_the_variable_beats_the_default() {
    let all = [("CHATD_HOME", "/c"), ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/h")];
    let bare_home = "/h/.local/share/chatd";
    let table: [Case<'_>; 7] = [
        (Some("/f"), &all, "/f", "/f/run"),
        (None, &all, "/c", "/c/run"),
        (None, &all[1..], "/d/chatd", "/r/chatd"),
        (None, &[("XDG_DATA_HOME", "/d"), ("HOME", "/h")], "/d/chatd", "/d/chatd/run"),
        (None, &[("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
        (None, &[("CHATD_HOME", ""), ("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
        (None, &[("XDG_DATA_HOME", "relative"), ("HOME", "/h")], bare_home, "/h/.local/share/chatd/run"),
    ];
    for (flag, variables, root, run) in table {
        let home = locate(flag, variables).expect("known");
        assert_eq!((home.root(), home.run()), (Path::new(root), Path::new(run)), "{flag:?} {variables:?}");
    }
}

#[test]
fn without_any_directory_the_error_says_what_to_set() {
    let error = locate(None, &[]).expect_err("nothing is known");
    assert_eq!(error.to_string(), "no home directory is known: set HOME, or give --home DIR");
}

#[test]
fn a_relative_home_is_made_absolute() {
    let home = locate(Some("rooms/lab"), &[]).expect("known");
    assert!(home.root().is_absolute() && home.root().ends_with("rooms/lab"));
}

#[test]
fn directories_are_made_private() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let root = directory.path().join("deep/home");
    let home = locate(root.to_str(), &[]).expect("known");
    home.prepare().expect("made");
    assert_eq!((mode(home.root()), mode(home.run())), (0o700, 0o700));
    fs::set_permissions(home.run(), Permissions::from_mode(0o755)).expect("own directory");
    home.prepare().expect("made again");
    assert_eq!(mode(home.run()), 0o700, "the run directory is chatd's own and is closed again");
}

#[test]
fn a_home_that_others_can_write_to_is_refused_with_the_command_that_helps() {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("own directory");
    let home = locate(directory.path().to_str(), &[]).expect("known");
    let error = home.prepare().expect_err("others may write");
    let text = error.to_string();
    assert!(text.contains(&format!("chmod go-w {}", directory.path().display())), "{text}");
    assert_eq!(mode(directory.path()), 0o777, "a directory that chatd did not make is left alone");
}

#[test]
fn a_file_in_the_way_is_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("home");
    fs::write(&path, b"").expect("written");
    let error = locate(path.to_str(), &[]).expect("known").prepare().expect_err("a file");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_run_directory_that_is_a_link_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let home = locate(directory.path().join("home").to_str(), &[]).expect("known");
    fs::create_dir(home.root()).expect("made");
    fs::set_permissions(home.root(), Permissions::from_mode(0o700)).expect("own directory");
    std::os::unix::fs::symlink(&elsewhere, home.run()).expect("linked");
    home.prepare().expect_err("a link");
}

#[test]
fn a_socket_path_that_is_too_long_moves_to_a_short_private_directory() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let near = locate(directory.path().to_str(), &[]).expect("known");
    assert_eq!(near.prepare_socket().expect("fits"), near.run().join("chatd.sock"));

    let far = locate(directory.path().join("x".repeat(100)).to_str(), &[]).expect("known");
    let socket = far.prepare_socket().expect("made");
    let short = socket.parent().expect("in a directory").to_owned();
    assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    assert_eq!(mode(&short), 0o700);
    assert_eq!(far.prepare_socket().expect("made before"), socket, "the same home gets the same directory");
    fs::remove_dir(short).expect("empty");
}

#[test]
fn commands_name_the_home_only_where_it_was_given() {
    assert_eq!(locate(None, &[("HOME", "/h")]).expect("known").command("chatd start"), "chatd start");
    assert_eq!(locate(Some("/a b"), &[]).expect("known").command("chatd start"), "chatd start --home '/a b'");
}

#[test]
fn quoting_survives_a_shell() {
    for word in ["", "plain", "a b", "it's", "$(reboot)", "a\nb", "\"\\`!"] {
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", quote(word))])
            .output()
            .expect("a shell");
        assert_eq!(String::from_utf8(output.stdout).expect("text"), word);
    }
}
