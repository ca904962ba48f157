//! Promise P7: the API with the real curl, on the socket and over TCP with the token; bad requests and missing tokens are
//! refused.

use chat_proto::api::messages::{MessagePage, SentLine, SentMessage};
use chat_proto::api::status::Status;
use chat_proto::error::{ErrorCode, Problem};
use chat_tests::api::DaemonApi;
use chat_tests::cluster::TestRoom;
use chat_tests::daemon::{Daemon, StartDaemon};
use serde::de::DeserializeOwned;

/// The status and the body of what curl is answered; `args` as a shell reads them, after `eval $(chatd env)`.
#[track_caller]
fn curl(daemon: &Daemon, args: &str) -> (u16, String) {
    let script = format!("export $(chatd env); curl --silent --show-error --max-time 30 -w '\\n%{{http_code}}' {args}");
    let output = daemon.home().shell(&script).run().ok();
    let (body, status) = output.rsplit_once('\n').expect("curl writes the status");
    (status.parse().expect("a status"), body.to_owned())
}

#[track_caller]
fn read<T: DeserializeOwned>(body: &str) -> T {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn socket_calls_need_no_token() {
    let alice = StartDaemon::found("alice").start();
    let socket = alice.home().socket();
    let socket = socket.display();
    let (status, body) = curl(&alice, &format!("--unix-socket {socket} http://localhost/v1/status"));
    assert_eq!((status, read::<Status>(&body).peer.name.as_str()), (200, "alice"));
    let (status, body) = curl(
        &alice,
        &format!("--unix-socket {socket} http://localhost/v1/messages --json '{{\"text\": \"from a script\"}}'"),
    );
    assert_eq!((status, read::<SentMessage>(&body).message.text.as_str()), (201, "from a script"));
}

#[test]
fn tcp_calls_need_the_token() {
    let alice = StartDaemon::found("alice").start();
    let with = "-K <(chatd env --curl)";
    let (status, body) = curl(&alice, &format!("{with} $CHATD_URL/v1/status"));
    assert_eq!((status, read::<Status>(&body).peer.name.as_str()), (200, "alice"));
    let (status, _) = curl(&alice, &format!("{with} $CHATD_URL/v1/messages --json '{{\"text\": \"over tcp\"}}'"));
    assert_eq!(status, 201);
    let (status, body) = curl(&alice, &format!("{with} $CHATD_URL/v1/messages"));
    assert_eq!((status, read::<MessagePage>(&body).messages[0].text.as_str()), (200, "over tcp"));

    for wrong in ["", "-H 'Authorization: Bearer wrong'", "-H \"Authorization: Basic $CHATD_TOKEN\""] {
        for call in ["v1/status", "v1/messages", "v1/events", "v1/openapi.json", "metrics", "nowhere"] {
            let (status, body) = curl(&alice, &format!("{wrong} $CHATD_URL/{call}"));
            assert_eq!((status, read::<Problem>(&body).code), (401, ErrorCode::Unauthorized), "{wrong} {call}");
        }
        let (status, _) = curl(&alice, &format!("{wrong} $CHATD_URL/v1/messages --json '{{\"text\": \"x\"}}'"));
        assert_eq!(status, 401);
    }
    let (status, _) = curl(&alice, "$CHATD_URL/healthz");
    assert_eq!(status, 200);
    assert_eq!(alice.api().texts(), ["over tcp"]);
}

#[test]
fn foreign_web_page_is_refused() {
    let alice = StartDaemon::found("alice").start();
    let with = "-H \"Authorization: Bearer $CHATD_TOKEN\"";
    for foreign in [
        "-H 'Host: evil.example' $CHATD_URL/v1/status",
        "-H 'Origin: https://evil.example' $CHATD_URL/v1/status",
        "-H 'Origin: null' $CHATD_URL/v1/messages --json '{\"text\": \"x\"}'",
    ] {
        let (status, body) = curl(&alice, &format!("{with} {foreign}"));
        assert_eq!((status, read::<Problem>(&body).code), (403, ErrorCode::Forbidden), "{foreign}");
    }
    let form = format!("{with} $CHATD_URL/v1/messages -H 'Content-Type: text/plain' -d '{{\"text\": \"x\"}}'");
    let (status, body) = curl(&alice, &form);
    assert_eq!((status, read::<Problem>(&body).code), (415, ErrorCode::UnsupportedMediaType));
    assert!(alice.api().texts().is_empty());
}

#[test]
fn bad_request_is_a_problem_document() {
    let alice = StartDaemon::found("alice").start();
    let socket = format!("--unix-socket {} http://localhost", alice.home().socket().display());
    for (call, expected) in [
        ("/v1/messages --json 'nonsense'", (400, ErrorCode::BadRequest)),
        ("/v1/messages --json '{\"text\": 5}'", (400, ErrorCode::BadRequest)),
        ("/v1/messages --json '{\"text\": \"x\", \"colour\": \"red\"}'", (400, ErrorCode::BadRequest)),
        ("/v1/messages --json '{\"text\": \"x\", \"to\": [\"nobody\"]}'", (404, ErrorCode::UnknownMember)),
        ("/v1/messages?limit=many", (400, ErrorCode::BadRequest)),
        ("/v1/messages?colour=red", (400, ErrorCode::BadRequest)),
        ("/v1/nowhere", (404, ErrorCode::NotFound)),
        ("/v1/status -X DELETE", (405, ErrorCode::MethodNotAllowed)),
    ] {
        let (status, body) = curl(&alice, &format!("{socket}{call}"));
        assert_eq!((status, read::<Problem>(&body).code), expected, "{call}: {body}");
    }
    alice.chat(&["send", "still there"]).ok();
}

#[test]
fn api_describes_itself() {
    let alice = StartDaemon::found("alice").start();
    let document: serde_json::Value = alice.api().get("/v1/openapi.json").json(200);
    for call in ["/v1/status", "/v1/peers", "/v1/messages", "/v1/events", "/v1/rendezvous", "/v1/invites"] {
        assert!(document["paths"][call].is_object(), "{call} is described");
    }
    assert!(alice.api().get("/metrics").text().lines().count() > 5);
}

#[test]
fn chat_uses_tcp_when_the_environment_selects_it() {
    let room = TestRoom::of(&["alice", "bob"]);
    let elsewhere = chat_tests::home::TestHome::new();
    let chat = |token: &str| {
        elsewhere.chat(&["send", "from another home"]).env("CHATD_URL", room["alice"].url()).env("CHATD_TOKEN", token)
    };
    chat(&room["alice"].home().token()).run().ok();
    let said = chat("wrong").run().refuses(4);
    assert!(said.contains("token"), "{said}");
    room.same_history(1);
    DaemonApi::tcp(&room["alice"].url(), Some("wrong")).get("/v1/status").problem(401);
}

/// A script writes lines as they come; each is answered by a line, and all members show them in their order.
#[test]
fn stream_of_lines_is_posted_in_order() {
    let room = TestRoom::of(&["alice", "bob"]);
    let lines = "for n in $(seq 3000); do echo \"{\\\"text\\\": \\\"line $n\\\"}\"; done";
    let call = "curl --silent --show-error --max-time 60 --unix-socket $CHATD_HOME/run/chatd.sock -X POST -T - \
        -H 'Content-Type: application/x-ndjson' http://localhost/v1/messages";
    let answers: Vec<SentLine> = room["alice"].home().shell(&format!("{lines} | {call}")).run().json();
    assert_eq!(answers.len(), 3000);
    for (number, answer) in (1..).zip(&answers) {
        assert_eq!((answer.line, answer.status), (number, 201), "{answer:?}");
    }
    let history = room.same_history(3000);
    for (number, message) in (1..).zip(history) {
        assert_eq!(message.text, format!("line {number}"));
    }
}
