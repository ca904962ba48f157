//! What the API is compared with: the same calls without a room behind them. Nothing is signed, stored or sent.

use std::convert::Infallible;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use chat_proto::api::messages::SendRequest;
use chat_tests::eventually::{SOON, eventually_true};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Says to this program that it is to be the bare server, at the socket that follows.
const AS_SERVER: &str = "--bare-server";

/// Messages that wait for a slow reader: more than a bench posts.
const WAITING_MAX: usize = 1 << 17;

/// A bare server in a process of its own. It ends with this.
pub(crate) struct Bare {
    process: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl Bare {
    /// Starts one; returns when it answers.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("bare.sock");
        let me = env::current_exe().expect("a process knows its executable");
        let process = Command::new(me).arg(AS_SERVER).arg(&socket).spawn().expect("it starts");
        eventually_true(SOON, "the bare server listens", || socket.exists());
        Self { process, socket, _directory: directory }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Is the bare server, if this process was started as one; does not return then.
pub(crate) fn serve_if_asked() {
    let mut args = env::args().skip(1);
    if args.next().as_deref() != Some(AS_SERVER) {
        return;
    }
    let socket = args.next().expect("a socket follows");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be had");
    runtime.block_on(async {
        let room = Arc::new(BareRoom { posted: AtomicU64::new(0), events: broadcast::channel(WAITING_MAX).0 });
        let calls = Router::new().route("/v1/messages", post(say)).route("/v1/events", get(events)).with_state(room);
        let listener = UnixListener::bind(socket).expect("the socket is free");
        axum::serve(listener, calls).await.expect("it serves until it is killed");
    });
}

struct BareRoom {
    posted: AtomicU64,
    events: broadcast::Sender<Value>,
}

async fn say(State(room): State<Arc<BareRoom>>, Json(request): Json<SendRequest>) -> (StatusCode, Json<Value>) {
    let id = room.posted.fetch_add(1, Ordering::Relaxed);
    let message = json!({"id": id, "text": request.text, "from": {"name": "alice"}, "to": []});
    // There may be no reader.
    let _ = room.events.send(json!({"type": "message", "message": message}));
    (StatusCode::CREATED, Json(json!({"message": message, "state": "stored"})))
}

async fn events(State(room): State<Arc<BareRoom>>) -> Sse<impl Stream<Item = Result<SseEvent, Infallible>>> {
    let events = BroadcastStream::new(room.events.subscribe());
    let written = events.filter_map(async |event| {
        let event = event.ok()?;
        Some(Ok(SseEvent::default().event("message").id("1").json_data(&event).ok()?))
    });
    Sse::new(written).keep_alive(axum::response::sse::KeepAlive::new().interval(Duration::from_secs(15)))
}
