//! What people read when a start cannot be, and that it changes nothing.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;

use crate::run::TestHome;

#[test]
fn settings_that_cannot_be_are_told_in_one_line_and_nothing_is_made() {
    let home = TestHome::new();
    let table: [(&[&str], i32, &str); 6] = [
        (&["start", "--listen", "here"], 2, "--listen: 'here' is not an address"),
        (&["start", "--name", "a b"], 2, "--name: the name holds ' '"),
        (&["start", "--room", ""], 2, "--room: the name of the room is empty"),
        (&["start", "--api", "192.0.2.1:80"], 2, "--api: 192.0.2.1 is not a loopback address"),
        (&["start", "--join", "http://host/"], 2, "'http://host/' is neither a ticket nor an address"),
        (&["start", "--join", "h", "--open"], 2, "cannot be used with"),
    ];
    for (args, code, expected) in table {
        let said = home.chatd(args).fails(code);
        assert!(said.contains(expected), "{said}");
    }
    let mut command = home.command(&["start"]);
    command.env("CHATD_OPEN", "perhaps");
    assert_eq!(crate::run::run(command).fails(1), "chatd: CHATD_OPEN: 'perhaps' is neither true nor false\n");
    assert!(!home.path().exists(), "{:?}", home.files());
}

#[test]
fn a_config_file_that_cannot_be_is_told_with_its_line() {
    let home = TestHome::new();
    home.write("config.toml", "name = \"ann\"\nport = 7\n");
    let said = home.chatd(&["start"]).fails(1);
    let path = home.path().join("config.toml");
    let expected = format!(
        "chatd: {}:2: unknown field `port`, expected one of `name`, `room`, `open`, `listen`, `api`, `tcp`, `mdns`, `log`\n",
        path.display()
    );
    assert_eq!(said, expected);
    assert_eq!(home.files(), ["config.toml"]);
}

#[test]
fn a_key_that_is_not_one_is_told_and_kept() {
    let home = TestHome::new();
    home.write("identity.key", "nonsense");
    let key = home.path().join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("own file");
    let said = home.chatd(&["start"]).fails(1);
    assert!(said.contains("does not hold a key"), "{said}");
    assert_eq!(fs::read_to_string(&key).expect("kept"), "nonsense");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("own file");
    let said = home.chatd(&["start"]).fails(1);
    assert!(said.contains(&format!("run 'chmod 600 {}'", key.display())), "{said}");
    assert_eq!(home.holder(), None, "a start that fails leaves no process");
}

#[test]
fn a_home_that_cannot_be_is_told() {
    let home = TestHome::new();
    fs::write(home.path(), "a file").expect("written");
    let said = home.chatd(&["start"]).fails(1);
    assert!(said.contains(&home.path().display().to_string()), "{said}");
    let mut homeless = home.command(&["start"]);
    homeless.env_remove("HOME").env_remove("CHATD_HOME");
    let said = crate::run::run(homeless).fails(1);
    assert_eq!(said, "chatd: no home directory is known: set HOME, or say --home DIR\n");
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_told() {
    let home = TestHome::new();
    let peers = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let addr = peers.local_addr().expect("bound").to_string();
    let said = home.chatd(&["start", "--listen", &addr]).fails(1);
    assert!(said.contains("taken") && said.contains("--listen"), "{said}");
    let api = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = api.local_addr().expect("bound").to_string();
    let said = home.chatd(&["start", "--api", &addr]).fails(1);
    assert!(said.contains("--api"), "{said}");
    assert_eq!(home.holder(), None);
    assert!(!home.path().join("run/chatd.sock").exists() && home.api().is_none(), "nothing points to nowhere");
}

#[test]
fn nobody_at_the_address_to_join_is_told() {
    let home = TestHome::new();
    let port = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
    let said = home.chatd(&["start", "--join", &format!("127.0.0.1:{port}")]).fails(1);
    assert!(said.contains("nobody could be reached") && said.contains(&port.to_string()), "{said}");
    assert_eq!(home.holder(), None);
}

#[test]
fn the_flag_of_the_background_is_not_for_people() {
    let home = TestHome::new();
    let said = home.chatd(&["start", "--foreground", "--background-child"]).fails(2);
    assert!(said.contains("is for 'chatd start' alone"), "{said}");
}
