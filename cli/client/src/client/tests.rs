//! Calls of daemons that answer well, badly or not at all.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;

/// A home with a run directory and a client of its daemon.
fn client() -> (TempDir, Home, Client) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = Home::locate(Some(directory.path()), |_| None).expect("known");
    std::fs::create_dir(home.run()).expect("made");
    let client = Client::new(DaemonAddr::Home(home.clone()));
    (directory, home, client)
}

/// Answers one request on the socket with these bytes and closes.
async fn answer(listener: &UnixListener, answer: &[u8]) {
    let (mut stream, _) = listener.accept().await.expect("a caller");
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        request.push(stream.read_u8().await.expect("a request"));
    }
    // A client that has seen enough may have closed.
    let _ = stream.write_all(answer).await;
}

/// The result of a shutdown call to a daemon that answers with these bytes and closes.
async fn answered(bytes: Vec<u8>) -> Result<(), ClientError> {
    let (_directory, home, client) = client();
    let listener = UnixListener::bind(home.socket()).expect("bound");
    tokio::join!(client.shutdown(), answer(&listener, &bytes)).0
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn answer_is_read_though_the_connection_ends_behind_it() {
    answered(http("202 Accepted", "")).await.expect("accepted");
}

#[tokio::test]
async fn daemon_that_is_stopping_already_is_no_error() {
    let problem = serde_json::to_string(&Problem::new(ErrorCode::ShuttingDown, "x")).expect("serialises");
    answered(http("503 Service Unavailable", &problem)).await.expect("stopping");
}

#[tokio::test]
async fn refusal_keeps_its_code_and_hint() {
    let problem = Problem::new(ErrorCode::Forbidden, "no").with_hint("ask an admin");
    let body = serde_json::to_string(&problem).expect("serialises");
    let error = answered(http("403 Forbidden", &body)).await.expect_err("refused");
    assert_eq!(error.hint().as_deref(), Some("ask an admin"));
    assert!(matches!(error, ClientError::Refused(refused) if *refused == problem));
}

/// The answer of a daemon whose room is not loaded yet.
fn starting() -> Vec<u8> {
    let problem = serde_json::to_string(&Problem::new(ErrorCode::Starting, "x")).expect("serialises");
    http("503 Service Unavailable", &problem)
}

#[tokio::test]
async fn call_to_a_daemon_that_is_starting_is_repeated_even_if_it_acts_once() {
    let (_directory, home, client) = client();
    let listener = UnixListener::bind(home.socket()).expect("bound");
    let invite = Call::post(&["invites"], &serde_json::json!({}));
    let daemon = async {
        answer(&listener, &starting()).await;
        answer(&listener, &starting()).await;
        answer(&listener, &http("201 Created", "{}")).await;
    };
    let (answered, ()) = tokio::join!(client.call(&invite), daemon);
    assert_eq!(answered.expect("accepted").status(), 201);
    let once = client.repeat_for(Duration::ZERO);
    let not_yet = starting();
    let (refused, ()) = tokio::join!(once.call(&invite), answer(&listener, &not_yet));
    assert!(refused.expect_err("the deadline has passed").is_starting());
}

#[tokio::test]
async fn event_stream_of_a_daemon_that_is_starting_is_opened_when_it_is_ready() {
    let (_directory, home, client) = client();
    let start = chat_proto::cursor::Cursor { run: 1, event: 2 };
    let listener = UnixListener::bind(home.socket()).expect("bound");
    let daemon = async {
        answer(&listener, &starting()).await;
        answer(&listener, &http("200 OK", &format!("id: {start}\n\n"))).await;
    };
    let (feed, ()) = tokio::join!(client.events(None), daemon);
    assert_eq!(feed.expect("opened").cursor(), Some(start));
}

#[tokio::test]
async fn answer_that_is_not_http_is_a_broken_connection() {
    for bytes in [&b""[..], b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"] {
        let error = answered(bytes.to_vec()).await.expect_err("no answer of chatd");
        assert!(matches!(error, ClientError::Broken { source: Some(_) }), "{error:?}");
    }
}

#[tokio::test]
async fn refusal_without_a_problem_document_gets_one() {
    let error = answered(http("500 Oh", "not json")).await.expect_err("refused");
    assert_eq!(error.to_string(), "POST /v1/shutdown was answered with 500 Internal Server Error and no reason");
}

#[tokio::test]
async fn killed_daemon_is_no_daemon() {
    let (_directory, home, client) = client();
    assert!(matches!(announced(&home), Err(ClientError::NoDaemon { .. })), "no api.json");
    assert!(matches!(client.status().await, Err(ClientError::NoDaemon { .. })), "no socket");
    drop(UnixListener::bind(home.socket()).expect("bound"));
    let error = client.status().await.expect_err("the socket is left behind");
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
    assert_eq!(error.hint(), Some(format!("start one with '{}'", home.command("chatd start"))));
}

#[tokio::test]
async fn daemon_elsewhere_is_found_through_its_api_file() {
    let (directory, home, client) = client();
    let socket = directory.path().join("elsewhere.sock");
    let api = ApiFile { pid: 1, socket: socket.to_string_lossy().into_owned(), url: None, version: "0".into() };
    std::fs::write(home.api_file(), serde_json::to_vec(&api).expect("serialises")).expect("written");
    let listener = UnixListener::bind(&socket).expect("bound");
    let accepted = http("202 Accepted", "");
    let (done, ()) = tokio::join!(client.shutdown(), answer(&listener, &accepted));
    done.expect("accepted");
}

#[tokio::test]
async fn daemon_that_hangs_times_out() {
    let (_directory, home, client) = client();
    let _listener = UnixListener::bind(home.socket()).expect("bound");
    let error = client.answer_within(Duration::from_millis(20)).status().await.expect_err("no answer");
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    assert_eq!(error.hint(), Some(format!("'{}' shows what it is busy with", home.command("chatd logs"))));
}
