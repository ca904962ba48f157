//! A home that the first build of version 0.1 wrote, with two members and their conversation, keeps working.
//!
//! `fixtures/home-0.1` holds the files of alice's home after a clean stop, and what its API answered before: messages,
//! members, invites, events. Its peer bob, renamed robert, is not online.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use chat_proto::api::invites::InviteList;
use chat_proto::api::messages::{MessagePage, SendRequest, SentMessage};
use chat_proto::api::peers::{PeerList, PeerView};
use chat_proto::ticket::Ticket;
use chat_tests::daemon::StartDaemon;
use chat_tests::eventually::SOON;
use chat_tests::home::TestHome;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Identifies the file of the database in the fixture: inode and time of creation.
const OLD_FILE: [u8; 16] = 0x00000000_009920c1_18eb7c56_2f72cb98_u128.to_be_bytes();

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/home-0.1").join(name)
}

fn recorded<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(fixture(name)).expect("a fixture")).expect("an answer of the API")
}

/// A copy of the home that continues as if it was moved: a copied database would get a new number, and cursors would be
/// void.
fn moved_home() -> TestHome {
    let home = TestHome::new();
    DirBuilder::new().mode(0o700).create(home.path()).expect("creates");
    for name in ["config.toml", "identity.key", "room.json", "room.db"] {
        let path = home.path().join(name);
        fs::copy(fixture("home").join(name), &path).expect("copies");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changes");
    }
    let database = home.path().join("room.db");
    let file = fs::metadata(&database).expect("exists");
    let created = file.created().ok().and_then(|created| created.duration_since(UNIX_EPOCH).ok());
    let second = created.map_or(file.dev(), |created| u64::try_from(created.as_nanos()).expect("this age"));
    let mut raw = fs::read(&database).expect("reads");
    let at = raw.windows(OLD_FILE.len()).position(|bytes| bytes == OLD_FILE).expect("the fixture has it");
    raw[at..at + 8].copy_from_slice(&file.ino().to_be_bytes());
    raw[at + 8..at + 16].copy_from_slice(&second.to_be_bytes());
    fs::write(&database, raw).expect("writes in place");
    home
}

/// What does not change while the peers are offline.
fn lasting(mut peers: Vec<PeerView>) -> Vec<impl PartialEq + std::fmt::Debug> {
    peers.sort_by_key(|view| view.peer.id);
    peers.into_iter().map(|view| (view.peer, view.me, view.member)).collect()
}

#[test]
fn home_of_the_first_build_keeps_working() {
    let mut alice = StartDaemon::found("alice").home(moved_home()).start();
    let old: MessagePage = recorded("messages.json");
    assert_eq!(alice.api().history(), old.messages);
    assert_eq!(lasting(alice.api().peers()), lasting(recorded::<PeerList>("peers.json").peers));
    assert_eq!(alice.api().get("/v1/invites").json::<InviteList>(200), recorded("invites.json"));

    let ticket: Ticket =
        fs::read_to_string(fixture("ticket.txt")).expect("a fixture").trim().parse().expect("a ticket");
    assert_eq!(ticket.room, alice.api().status().room.id);

    let events = fs::read_to_string(fixture("events.ndjson")).expect("a fixture");
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    for seen in [1, 12, events.len() - 1] {
        let mut resumed = alice.api().events(events[seen - 1]["cursor"].as_str());
        for event in &events[seen..] {
            let next = resumed.next(SOON).expect("the next event");
            assert_eq!(serde_json::from_str::<Value>(&next.data).expect("an event"), *event);
        }
    }

    let again = SendRequest { text: "posted under a key".into(), ..SendRequest::default() };
    let again: SentMessage = alice.api().post_message(&again, "first-key").expect("answered").json(200);
    assert!(old.messages.contains(&again.message), "a retry finds the message of the old build");

    alice.api().send("posted by the new build");
    alice.api().send_to(&["robert"], "a direct message by the new build");
    alice.stop();
    alice.start_again();
    let texts = alice.api().texts();
    assert_eq!(texts.len(), old.messages.len() + 2);
    assert_eq!(texts[texts.len() - 2..], ["posted by the new build", "a direct message by the new build"]);
}
