//! Finding, making and checking homes.

use super::*;

fn locate(path: impl AsRef<Path>) -> Home {
    Home::locate(Some(path.as_ref()), |_| None).expect("known")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("exists").permissions().mode() & 0o777
}

#[test]
fn directories_are_made_private() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let root = directory.path().join("deep/home");
    let home = locate(&root);
    prepare(&home).expect("made");
    assert_eq!((mode(home.root()), mode(home.run())), (0o700, 0o700));
    fs::set_permissions(home.run(), Permissions::from_mode(0o755)).expect("own directory");
    prepare(&home).expect("made again");
    assert_eq!(mode(home.run()), 0o700, "the run directory is chatd's own and is closed again");
}

#[test]
fn a_home_that_others_can_write_to_is_refused_with_the_command_that_helps() {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("own directory");
    let home = locate(directory.path());
    let error = prepare(&home).expect_err("others may write");
    let text = error.to_string();
    assert!(text.contains(&format!("chmod go-w {}", directory.path().display())), "{text}");
    assert_eq!(mode(directory.path()), 0o777, "a directory that chatd did not make is left alone");
}

#[test]
fn a_file_in_the_way_is_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("home");
    fs::write(&path, b"").expect("written");
    let error = prepare(&locate(&path)).expect_err("a file");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
}

#[test]
fn a_run_directory_that_is_a_link_is_refused() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let home = locate(directory.path().join("home"));
    fs::create_dir(home.root()).expect("made");
    fs::set_permissions(home.root(), Permissions::from_mode(0o700)).expect("own directory");
    std::os::unix::fs::symlink(&elsewhere, home.run()).expect("linked");
    prepare(&home).expect_err("a link");
}

#[test]
fn a_socket_path_that_is_too_long_moves_to_a_short_private_directory() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let near = locate(directory.path());
    assert_eq!(prepare_socket(&near).expect("fits"), near.run().join("chatd.sock"));

    let far = locate(directory.path().join("x".repeat(100)));
    let socket = prepare_socket(&far).expect("made");
    let short = socket.parent().expect("in a directory").to_owned();
    assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
    assert_eq!(mode(&short), 0o700);
    assert_eq!(prepare_socket(&far).expect("made before"), socket, "the same home gets the same directory");
    fs::remove_dir(short).expect("empty");
}
