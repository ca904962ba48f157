//! Load on an API: connections that stay open and post as fast as they are answered, and readers that count events.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chat_client::Repeat;
use chat_proto::api::messages::SendRequest;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{SendRequest as Connection, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::api::{DaemonApi, block_on};

/// How long a reader waits for the last event before it counts as missing.
const MISSING_AFTER: Duration = Duration::from_secs(60);

/// What posting came to.
#[derive(Clone, Debug)]
pub struct PostTimes {
    /// From the first request to the last answer.
    pub took: Duration,
    /// How long each took, in ascending order.
    pub latencies: Vec<Duration>,
}

impl PostTimes {
    /// Posts a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// The latency that half of the posts did not exceed.
    pub fn median(&self) -> Duration {
        self.latencies[self.latencies.len() / 2]
    }
}

/// Posts messages of `text_bytes` bytes over `connections` connections at once, `each` on every one of them.
///
/// # Panics
/// When one is not answered with 201.
pub fn post(socket: &Path, connections: usize, each: usize, text_bytes: usize) -> PostTimes {
    block_on(async {
        let mut posters = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..connections {
            let mut connection = connect(socket).await.expect("the API listens");
            posters.spawn(async move {
                let mut latencies = Vec::with_capacity(each);
                for _ in 0..each {
                    let begun = Instant::now();
                    post_one(&mut connection, text_bytes).await;
                    latencies.push(begun.elapsed());
                }
                latencies
            });
        }
        let mut latencies = posters.join_all().await.concat();
        let took = begun.elapsed();
        latencies.sort_unstable();
        PostTimes { took, latencies }
    })
}

/// Posts messages of `text_bytes` bytes as a stream on one connection; returns how long it took until all were answered.
///
/// # Panics
/// When one is not posted.
pub fn post_stream(api: &DaemonApi, messages: usize, text_bytes: usize) -> Duration {
    block_on(async {
        let (writer, mut answers) = api.client().message_stream(Repeat::Patient);
        let begun = Instant::now();
        let writing = tokio::spawn(async move {
            for _ in 0..messages {
                let message = SendRequest { text: "x".repeat(text_bytes), ..SendRequest::default() };
                assert!(writer.send(message).await, "the stream is open");
            }
        });
        let mut answered = 0;
        while let Some(answer) = answers.next().await {
            answer.expect("it is posted");
            answered += 1;
        }
        writing.await.expect("all were written");
        assert_eq!(answered, messages);
        begun.elapsed()
    })
}

/// Readers of one event stream or several.
#[derive(Debug)]
pub struct StreamReaders {
    tasks: JoinSet<()>,
    messages: Arc<AtomicUsize>,
    came: Arc<Notify>,
}

impl StreamReaders {
    /// Opens streams of messages; returns when all are open.
    ///
    /// # Panics
    /// When one cannot be opened.
    pub fn open(socket: &Path, readers: usize) -> Self {
        let mut opened = Self { tasks: JoinSet::new(), messages: Arc::default(), came: Arc::default() };
        block_on(async {
            for _ in 0..readers {
                let mut connection = connect(socket).await.expect("the API listens");
                let request = Request::get("/v1/events?type=message").header("Host", "localhost");
                let request = request.body(Full::default()).expect("a proper request");
                let response = connection.send_request(request).await.expect("a stream");
                assert_eq!(response.status(), StatusCode::OK);
                let (messages, came) = (opened.messages.clone(), opened.came.clone());
                opened.tasks.spawn(async move {
                    // The connection ends with its sender.
                    let _connection = connection;
                    count(response.into_body(), &messages, &came).await;
                });
            }
        });
        opened
    }

    /// Waits until all readers together have seen this many messages since they were opened.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_for(&self, messages: usize) {
        let all = async {
            while self.messages.load(Ordering::Acquire) < messages {
                self.came.notified().await;
            }
        };
        let in_time = block_on(async { tokio::time::timeout(MISSING_AFTER, all).await.is_ok() });
        assert!(in_time, "{} of {messages} events came", self.messages.load(Ordering::Acquire));
    }
}

async fn connect(socket: &Path) -> io::Result<Connection<Full<Bytes>>> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn post_one(connection: &mut Connection<Full<Bytes>>, text_bytes: usize) {
    let message = SendRequest { text: "x".repeat(text_bytes), ..SendRequest::default() };
    let body = serde_json::to_vec(&message).expect("a text can be written as JSON");
    let request = Request::post("/v1/messages").header("Host", "localhost").header("Content-Type", "application/json");
    let request = request.body(Full::from(body)).expect("a proper request");
    connection.ready().await.expect("the connection stands");
    let response = connection.send_request(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
    assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&body));
}

/// Counts the messages of a stream of server-sent events: each has one line that says what it is.
async fn count(mut body: impl Body<Data = Bytes, Error = hyper::Error> + Unpin, messages: &AtomicUsize, came: &Notify) {
    const LINE: &[u8] = b"event: message\n";
    let mut rest: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        let found = rest[..end].split_inclusive(|byte| *byte == b'\n').filter(|line| *line == LINE).count();
        rest.drain(..end);
        if found > 0 {
            messages.fetch_add(found, Ordering::AcqRel);
            came.notify_one();
        }
    }
}
