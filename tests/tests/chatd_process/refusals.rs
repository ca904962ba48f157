//! What people read when a start is refused, and that a refused start changes nothing.

use std::fs;

use chat_tests::home::TestHome;

#[test]
fn invalid_settings_are_refused_in_one_line_and_create_nothing() {
    let home = TestHome::new();
    let table: [(&[&str], &str); 6] = [
        (&["start", "--listen", "here"], "--listen: 'here' is not an address"),
        (&["start", "--name", "a b"], "--name: the name contains ' '"),
        (&["start", "--room", ""], "--room: the name of the room is empty"),
        (&["start", "--api", "192.0.2.1:80"], "--api: 192.0.2.1 is not a loopback address"),
        (&["start", "--join", "http://host/"], "'http://host/' is neither a ticket nor an address"),
        (&["start", "--join", "h", "--open"], "cannot be used with"),
    ];
    for (args, expected) in table {
        let said = home.chatd(args).run().fails(2);
        assert!(said.contains(expected), "{said}");
    }
    let said = home.chatd(&["start"]).env("CHATD_OPEN", "perhaps").run().refuses(1);
    assert_eq!(said, "chatd: CHATD_OPEN: 'perhaps' is neither true nor false\n");
    assert!(!home.path().exists(), "{:?}", home.files());
}

#[test]
fn a_home_that_cannot_be_used_is_named() {
    let home = TestHome::new();
    fs::write(home.path(), "a file").expect("written");
    let said = home.chatd(&["start"]).run().refuses(1);
    assert!(said.contains(&home.path().display().to_string()), "{said}");
}

#[test]
fn the_flag_of_the_background_process_is_not_for_people() {
    let said = TestHome::new().chatd(&["start", "--foreground", "--background-child"]).run().refuses(2);
    assert!(said.contains("is internal to 'chatd start'"), "{said}");
}
