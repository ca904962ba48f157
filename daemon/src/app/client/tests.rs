//! Calls of daemons that answer well, badly or not at all.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// A home whose `api.json` names a socket in it.
fn home(directory: &Path) -> Home {
    let home = Home::locate(Some(directory), |_| None).expect("known");
    home.prepare().expect("made");
    let socket = home.run().join("chatd.sock").to_string_lossy().into_owned();
    let api = ApiFile { pid: 1, socket, url: None, version: "0".into() };
    std::fs::write(home.api_file(), serde_json::to_vec(&api).expect("serialises")).expect("written");
    home
}

/// What the client makes of a daemon that answers with these bytes and closes.
async fn answered(answer: Vec<u8>) -> Result<(), ClientError> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = home(directory.path());
    let listener = UnixListener::bind(home.run().join("chatd.sock")).expect("bound");
    let daemon = async {
        let (mut stream, _) = listener.accept().await.expect("a caller");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.expect("a request"));
        }
        // A client that has seen enough may have closed.
        let _ = stream.write_all(&answer).await;
    };
    let client = Client::of(&home).expect("announced");
    tokio::join!(client.shutdown(), daemon).0
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn an_answer_is_taken_though_the_connection_ends_behind_it() {
    answered(http("202 Accepted", "")).await.expect("accepted");
}

#[tokio::test]
async fn a_daemon_that_is_stopping_already_is_not_an_error() {
    let problem = serde_json::to_string(&Problem::new(ErrorCode::ShuttingDown, "x")).expect("serialises");
    answered(http("503 Service Unavailable", &problem)).await.expect("stopping");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_hint_and_exit_code() {
    let problem = Problem::new(ErrorCode::Forbidden, "no").with_hint("ask an admin");
    let problem = serde_json::to_string(&problem).expect("serialises");
    let failure = ExitError::from(answered(http("403 Forbidden", &problem)).await.expect_err("refused"));
    assert_eq!((failure.kind, failure.message.as_str()), (ExitKind::NotAllowed, "no: ask an admin"));
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors() {
    let long = http("500 Oh", &"x".repeat(2 * ANSWER_BYTES_MAX));
    for answer in [b"".to_vec(), b"nonsense\r\n\r\n".to_vec(), http("500 Oh", "not json"), long] {
        let error = answered(answer).await.expect_err("no answer of chatd");
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
    }
}

#[tokio::test]
async fn what_a_killed_daemon_left_behind_is_no_daemon() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let empty = Home::locate(Some(directory.path()), |_| None).expect("known");
    assert!(matches!(Client::of(&empty), Err(ClientError::NoDaemon { .. })));
    let home = home(directory.path());
    let client = Client::of(&home).expect("announced");
    assert!(matches!(client.status().await, Err(ClientError::NoDaemon { .. })), "no socket");
    drop(std::os::unix::net::UnixListener::bind(home.run().join("chatd.sock")).expect("bound"));
    let error = client.status().await.expect_err("nobody listens");
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error}");
    assert!(error.to_string().contains(&home.command("chatd start")), "{error}");
    assert_eq!(ExitError::from(error).kind, ExitKind::NoDaemon);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_hangs_is_told_apart() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = home(directory.path());
    let _listener = UnixListener::bind(home.run().join("chatd.sock")).expect("bound");
    let error = Client::of(&home).expect("announced").status().await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}
