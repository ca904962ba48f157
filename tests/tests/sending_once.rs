//! Promise P8: a send that is repeated with the same key posts once, across restarts of the daemon.

use chat_proto::api::messages::{SendRequest, SentMessage};
use chat_proto::error::ErrorCode;
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::StartDaemon;

fn request(text: &str) -> SendRequest {
    SendRequest { text: text.into(), ..SendRequest::default() }
}

#[test]
fn same_key_gives_the_same_message() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    let post =
        |room: &TestRoom, text: &str| room["alice"].api().post_message(&request(text), "key-1").expect("answered");
    let first: SentMessage = post(&room, "once").json(201);
    // 200: there is nothing new.
    let second: SentMessage = post(&room, "once").json(200);
    assert_eq!(second.message, first.message);
    room.same_history(1);

    room["alice"].kill();
    room["alice"].start_again();
    let third: SentMessage = post(&room, "once").json(200);
    assert_eq!(third.message, first.message);
    assert_eq!(room.same_history(1)[0].id, first.message.id);

    let problem = post(&room, "something else").problem(409);
    assert_eq!(problem.code, ErrorCode::KeyReused);
    room.same_history(1);
}

#[test]
fn concurrent_sends_with_one_key_post_once() {
    let alice = StartDaemon::found("alice").start();
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let post = || {
            let api = alice.api();
            let reply = api.post_message(&request("all at once"), "key-2").expect("answered");
            (reply.status, reply.json::<SentMessage>(reply.status).message.id.to_string())
        };
        let posting: Vec<_> = (0..16).map(|_| scope.spawn(post)).collect();
        posting.into_iter().map(|thread| thread.join().expect("posted")).collect()
    });
    assert!(answers.iter().all(|(_, id)| *id == answers[0].1), "{answers:?}");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1, "one of them posted: {answers:?}");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), 15, "{answers:?}");
    assert_eq!(alice.api().texts(), ["all at once"]);
}

#[test]
fn send_command_takes_a_key() {
    let mut room = TestRoom::of(&["alice", "bob"]);
    for _ in 0..2 {
        room["alice"].chat(&["send", "--key", "nightly-report", "all is well"]).ok();
    }
    room["alice"].stop();
    room["alice"].start_again();
    room["alice"].chat(&["send", "--key", "nightly-report", "all is well"]).ok();
    room.same_history(1);
    let said = room["alice"].chat(&["send", "--key", "nightly-report", "all is lost"]).refuses(1);
    assert!(said.contains("key") || said.contains("nightly-report"), "{said}");
    // Direct messages, too.
    for _ in 0..2 {
        room["alice"].chat(&["send", "--key", "k3", "@bob", "psst"]).ok();
    }
    let direct = room["alice"].api().history().into_iter().filter(|message| !message.to.is_empty()).count();
    assert_eq!(direct, 1);
}
