//! The printed texts, word for word.

use std::path::Path;

use chat_proto::id::{PeerId, RoomId};

use super::*;

fn started() -> Started {
    let id = PeerId::from_bytes([0; 32]);
    Started {
        missing_entries: 0,
        already_running: false,
        peer: PeerRef { id, name: "ann".into(), tag: id.tag() },
        room: RoomRef { id: RoomId::from_bytes([1; 32]), name: "anns-room".into(), open: false },
        members: 1,
        port: 24283,
        url: Some("http://127.0.0.1:24284".into()),
        socket: "/h/run/chatd.sock".into(),
        pid: 7,
        home: "/h".into(),
        version: "0.1.0".into(),
        notes: Vec::new(),
    }
}

fn home() -> Home {
    Home::locate(None, |name| (name == "HOME").then(|| "/h".into())).expect("known")
}

#[test]
fn new_room_is_reported_with_what_to_do_next() {
    assert_eq!(
        started().lines(&home()),
        "ann (~aaaaaaaa) is in anns-room\n\
         \x20 peers  port 24283, UDP and TCP\n\
         \x20 api    http://127.0.0.1:24284\n\
         \x20 next   chat invite      print a ticket for others to join\n\
         \x20        chat send hello  send a message\n\
         \x20        chat tail        read along\n"
    );
}

#[test]
fn running_daemon_is_reported_as_such() {
    let started = Started {
        already_running: true,
        members: 3,
        missing_entries: 5000,
        url: None,
        notes: vec![port_note(40000)],
        room: RoomRef { open: true, name: "a\x1b[2J".into(), ..started().room },
        ..started()
    };
    let elsewhere = Home::locate(Some(Path::new("/a b")), |_| None).expect("known");
    assert_eq!(
        started.lines(&elsewhere),
        "chatd is already running (pid 7): ann (~aaaaaaaa) is in a, an open room\n\
         \x20 peers  port 24283, UDP and TCP\n\
         \x20 api    /h/run/chatd.sock\n\
         \x20 note   port 24283 was taken: other peers must use port 40000, as in --join HOST:40000\n\
         \x20 with   2 other members\n\
         \x20        5000 entries still to come, see chat status --home '/a b'\n\
         \x20 next   chat invite --home '/a b'      print a ticket for others to join\n\
         \x20        chat send hello --home '/a b'  send a message\n\
         \x20        chat tail --home '/a b'        read along\n"
    );
}

#[test]
fn report_round_trips_as_one_json_line() {
    let reports = [
        StartReport::Knocking { words: "lusab-babad".into() },
        StartReport::Ready(Box::new(started())),
        StartReport::Failed(ExitError {
            kind: crate::app::report::exit_error::ExitKind::NotAllowed,
            message: "no".into(),
        }),
    ];
    for report in reports {
        let line = serde_json::to_string(&report).expect("serialises");
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<StartReport>(&line).expect("reads"), report);
    }
}

#[test]
fn json_of_a_start_has_its_documented_keys() {
    let json = serde_json::to_value(started()).expect("serialises");
    let keys: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "already_running",
        "home",
        "members",
        "missing_entries",
        "notes",
        "peer",
        "pid",
        "port",
        "room",
        "socket",
        "url",
        "version",
    ];
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
}
