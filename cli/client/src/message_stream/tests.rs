//! Streams to daemons that answer, go away, refuse, and are too old.

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::home::{DaemonAddr, Home};

/// A home with the socket of its daemon, and a client of it.
fn stage() -> (TempDir, UnixListener, Client) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let home = Home::locate(Some(directory.path()), |_| None).expect("known");
    std::fs::create_dir(home.run()).expect("made");
    let listener = UnixListener::bind(home.socket()).expect("bound");
    (directory, listener, Client::new(DaemonAddr::Home(home)))
}

/// A request whose head has been read.
struct ScriptedCall {
    stream: BufReader<UnixStream>,
    head: String,
}

impl ScriptedCall {
    async fn next(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().await.expect("a caller");
        let mut request = Self { stream: BufReader::new(stream), head: String::new() };
        while !request.head.ends_with("\r\n\r\n") {
            request.stream.read_line(&mut request.head).await.expect("a head");
        }
        request
    }

    /// A header's value, or the query of the request.
    fn has(&self, text: &str) -> bool {
        self.head.to_ascii_lowercase().contains(text)
    }

    fn key(&self) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
        line.expect("a key")
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.expect("written");
    }

    /// Begins an answer of lines.
    async fn begin(&mut self) {
        self.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    }

    /// At least this number of texts, of as many chunks as that takes.
    async fn first_texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            texts.extend(self.texts().await);
        }
        texts
    }

    /// The texts of the next chunk.
    async fn texts(&mut self) -> Vec<String> {
        let mut size = String::new();
        self.stream.read_line(&mut size).await.expect("a size");
        let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).expect("a size") + 2];
        self.stream.read_exact(&mut chunk).await.expect("a chunk");
        let lines = String::from_utf8(chunk).expect("text");
        let text = |line: &str| serde_json::from_str::<SendRequest>(line).expect("a request").text;
        lines.lines().filter(|line| !line.is_empty()).map(text).collect()
    }

    /// Answers a line of the stream.
    async fn answer(&mut self, line: u64, problem: Option<ErrorCode>) {
        let problem = problem.map(|code| Problem::new(code, "no"));
        let status = problem.as_ref().map_or(201, |problem| problem.status);
        let answer = SentLine { line, status, id: None, state: None, problem };
        let text = serde_json::to_string(&answer).expect("serialises") + "\n";
        self.write(&format!("{:x}\r\n{text}\r\n", text.len())).await;
    }
}

fn request(text: &str) -> SendRequest {
    SendRequest { text: text.into(), ..SendRequest::default() }
}

/// Sends the texts; gives line and status of each answer, and the error that ended the stream.
async fn send(client: &Client, texts: &[&str]) -> (Vec<(u64, u16)>, Option<ClientError>) {
    let (writer, mut answers) = client.message_stream(Repeat::Patient);
    let sending = async move {
        for text in texts {
            if !writer.send(request(text)).await {
                break;
            }
        }
    };
    let reading = async {
        let mut read = Vec::new();
        loop {
            match answers.next().await {
                Some(Ok(answer)) => read.push((answer.line, answer.status)),
                Some(Err(error)) => return (read, Some(error)),
                None => return (read, None),
            }
        }
    };
    tokio::join!(sending, reading).1
}

#[tokio::test]
async fn messages_wait_for_no_answer_and_are_answered_in_order() {
    let (_directory, listener, client) = stage();
    let daemon = async {
        let mut request = ScriptedCall::next(&listener).await;
        assert!(request.has("post /v1/messages http") && request.has("content-type: application/x-ndjson"));
        request.begin().await;
        let texts = request.first_texts(3).await;
        assert_eq!(texts, ["one", "two", "three"]);
        request.answer(1, None).await;
        request.answer(2, Some(ErrorCode::UnknownMember)).await;
        request.answer(3, None).await;
    };
    let ((read, error), ()) = tokio::join!(send(&client, &["one", "two", "three"]), daemon);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(read, [(1, 201), (2, 404), (3, 201)]);
}

#[tokio::test]
async fn what_was_not_answered_is_sent_again_with_its_number_and_key() {
    let (_directory, listener, client) = stage();
    let daemon = async {
        let mut first = ScriptedCall::next(&listener).await;
        first.begin().await;
        first.first_texts(3).await;
        first.answer(1, None).await;
        let key = first.key().to_owned();
        drop(first);
        let mut second = ScriptedCall::next(&listener).await;
        assert!(second.has("post /v1/messages?line=2 ") && second.key() == key, "{}", second.head);
        second.begin().await;
        assert_eq!(second.texts().await[0], "two");
        // The daemon stops in good order, then comes back.
        second.answer(2, Some(ErrorCode::ShuttingDown)).await;
        let mut third = ScriptedCall::next(&listener).await;
        assert!(third.has("post /v1/messages?line=2 ") && third.key() == key, "{}", third.head);
        third.begin().await;
        assert_eq!(third.texts().await, ["two", "three"]);
        third.answer(2, None).await;
        third.answer(3, None).await;
    };
    let ((read, error), ()) = tokio::join!(send(&client, &["one", "two", "three"]), daemon);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(read, [(1, 201), (2, 201), (3, 201)]);
}

#[tokio::test]
async fn daemon_that_stays_away_ends_the_stream_and_its_outcome_is_unknown() {
    let (_directory, listener, client) = stage();
    let client = client.repeat_for(Duration::from_millis(50));
    let daemon = async {
        let mut request = ScriptedCall::next(&listener).await;
        request.begin().await;
        request.texts().await;
        request.answer(1, None).await;
        drop((request, listener));
    };
    let ((read, error), ()) = tokio::join!(send(&client, &["one", "two"]), daemon);
    assert_eq!(read, [(1, 201)]);
    assert!(error.as_ref().is_some_and(ClientError::is_outcome_unknown), "{error:?}");
}

#[tokio::test]
async fn daemon_that_takes_no_lines_is_sent_one_message_after_the_other() {
    let (_directory, listener, client) = stage();
    let refused = |problem: &Problem| {
        let body = serde_json::to_string(problem).expect("serialises");
        format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n\r\n{body}", problem.status, body.len())
    };
    let daemon = async {
        let mut lines = ScriptedCall::next(&listener).await;
        lines.write(&refused(&Problem::new(ErrorCode::UnsupportedMediaType, "must be JSON"))).await;
        let key = lines.key().to_owned();
        drop(lines);
        for (number, code) in [(1, ErrorCode::UnknownMember), (2, ErrorCode::Empty)] {
            let mut one = ScriptedCall::next(&listener).await;
            assert!(one.has("content-type: application/json"), "{}", one.head);
            assert_eq!(one.key(), format!("{key}/{number}"));
            one.write(&refused(&Problem::new(code, "no"))).await;
        }
    };
    let ((read, error), ()) = tokio::join!(send(&client, &["one", "two"]), daemon);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(read, [(1, 404), (2, 400)]);
}
