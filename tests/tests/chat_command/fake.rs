//! A daemon of one peer, `alice`, that keeps everything in memory and survives its own restarts.

use std::collections::{HashMap, VecDeque};
use std::io::BufReader;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use chat_proto::api::messages::{Message, MessagePage, MessageState, SendRequest, SentLine, SentMessage};
use chat_proto::api::peers::PeerRef;
use chat_proto::cursor::Cursor;
use chat_proto::error::{ErrorCode, Problem};
use chat_proto::event::{Event, EventEnvelope};
use chat_proto::id::{EntryHash, MessageId, PeerId};
use chat_proto::time::Timestamp;
use chat_tests::eventually::SOON;
use serde::Serialize;

use crate::answers;
use crate::http::{FakeRequest, Wire, answer, begin_lines, begin_stream, chunk, read_chunk, read_request};

const RUN: u32 = 42;

/// What the fake does wrong, once, at the next call with this method and path.
#[derive(Debug, Clone)]
pub(crate) enum FakeFault {
    /// Does what was asked, and hangs up instead of answering.
    HangUp,
    /// Answers with a problem instead.
    Refuse(Problem),
    /// Does what was asked, and answers with this status.
    Status(u16),
    /// Publishes this message just before it answers.
    Say(&'static str),
}

#[derive(Default)]
pub(crate) struct FakeState {
    pub(crate) messages: Vec<Message>,
    cursors: HashMap<MessageId, Cursor>,
    pub(crate) requests: Vec<FakeRequest>,
    answered: Vec<String>,
    events: Vec<EventEnvelope>,
    /// Events up to this number are no longer kept.
    pub(crate) pruned: u64,
    faults: VecDeque<(String, FakeFault)>,
    keys: HashMap<String, SentMessage>,
    streams: Vec<Sender<String>>,
    wires: Vec<UnixStream>,
    token: Option<String>,
    /// Whether it is of a version that takes one message a request.
    pub(crate) is_old: bool,
}

type SharedState = Arc<(Mutex<FakeState>, Condvar)>;

pub(crate) struct Fake {
    pub(crate) home: tempfile::TempDir,
    shared: SharedState,
    listener: Option<(Arc<AtomicBool>, thread::JoinHandle<()>)>,
}

pub(crate) fn peer(number: u8, name: &str) -> PeerRef {
    let id = PeerId::from_bytes([number; 32]);
    PeerRef { id, name: name.into(), tag: id.tag() }
}

pub(crate) fn alice() -> PeerRef {
    peer(1, "alice")
}

pub(crate) fn bob() -> PeerRef {
    peer(2, "bob")
}

pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("contract types serialise")
}

impl Fake {
    /// A home without a daemon.
    pub(crate) fn stopped() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(home.path().join("run")).expect("the run directory");
        Self { home, shared: SharedState::default(), listener: None }
    }

    /// A home whose daemon answers.
    pub(crate) fn start() -> Self {
        let mut fake = Self::stopped();
        fake.restart();
        fake
    }

    /// Answers again, with all that it had.
    pub(crate) fn restart(&mut self) {
        let listener = UnixListener::bind(self.socket()).expect("the socket is free");
        let shared = self.shared.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let accept = move || {
            for wire in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                lock(&shared).wires.push(wire.try_clone().expect("a descriptor is free"));
                let shared = shared.clone();
                thread::spawn(move || serve(&shared, Box::new(wire)));
            }
        };
        self.listener = Some((stop, thread::spawn(accept)));
    }

    /// Ends every connection and listens no more.
    pub(crate) fn stop(&mut self) {
        let (stop, listener) = self.listener.take().expect("it runs");
        stop.store(true, Ordering::SeqCst);
        // The listener sees the flag at its next connection.
        drop(UnixStream::connect(self.socket()));
        listener.join().expect("the listener ends");
        std::fs::remove_file(self.socket()).expect("the socket was there");
        let mut state = self.state();
        state.streams.clear();
        for wire in state.wires.drain(..) {
            wire.hang_up();
        }
    }

    /// Answers on TCP too, and there asks for a token; gives the URL.
    pub(crate) fn listen_tcp(&self, token: &str) -> String {
        self.state().token = Some(token.into());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let shared = self.shared.clone();
        thread::spawn(move || {
            for wire in listener.incoming().flatten() {
                let shared = shared.clone();
                thread::spawn(move || serve(&shared, Box::new(wire)));
            }
        });
        url
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("run/chatd.sock")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, FakeState> {
        lock(&self.shared)
    }

    /// At the next such call, something goes wrong.
    pub(crate) fn fault(&self, call: &str, fault: FakeFault) {
        self.state().faults.push_back((call.into(), fault));
    }

    pub(crate) fn say(&self, from: PeerRef, text: &str) -> Message {
        self.state().say(from, Vec::new(), text)
    }

    pub(crate) fn publish(&self, event: Event) -> Cursor {
        self.state().publish(event)
    }

    /// The requests of that call, once there are `count`.
    pub(crate) fn requests(&self, call: &str, count: usize) -> Vec<FakeRequest> {
        self.wait(|state| {
            let found: Vec<_> = state.requests.iter().filter(|request| request.call() == call).cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits until that call was answered.
    pub(crate) fn answered(&self, call: &str) {
        self.wait(|state| state.answered.iter().any(|answered| answered == call).then_some(()));
    }

    fn wait<T>(&self, find: impl Fn(&FakeState) -> Option<T>) -> T {
        let end = Instant::now() + SOON;
        let mut state = self.state();
        loop {
            if let Some(found) = find(&state) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            let calls: Vec<String> = state.requests.iter().map(FakeRequest::call).collect();
            assert!(!left.is_zero(), "what is waited for did not come, these came: {calls:?}");
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock(shared: &SharedState) -> MutexGuard<'_, FakeState> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeState {
    pub(crate) fn say(&mut self, from: PeerRef, to: Vec<PeerRef>, text: &str) -> Message {
        let number = self.messages.len();
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        let message = Message {
            id: MessageId { entry: EntryHash::from_bytes(hash), index: 0 },
            time: Timestamp::from_ms(1_000_000_000_000 + number as u64 * 1_000),
            from,
            to,
            text: text.into(),
            reply_to: None,
            quote: None,
            dropped: false,
            clock_off_ms: None,
        };
        let cursor = self.publish(Event::Message { message: message.clone() });
        self.messages.push(message.clone());
        self.cursors.insert(message.id, cursor);
        message
    }

    fn publish(&mut self, event: Event) -> Cursor {
        let cursor = Cursor { run: RUN, event: self.events.len() as u64 + 1 };
        let envelope = EventEnvelope { cursor, at: Timestamp::from_ms(1_000_000_000_000), event };
        let text = frame(&envelope);
        self.events.push(envelope);
        self.streams.retain(|stream| stream.send(text.clone()).is_ok());
        cursor
    }

    fn send(&mut self, request: &FakeRequest) -> (u16, String) {
        let Some(key) = request.header("idempotency-key") else {
            return problem(&Problem::new(ErrorCode::BadRequest, "no key"));
        };
        let Ok(body) = serde_json::from_str::<SendRequest>(&request.body) else {
            return problem(&Problem::new(ErrorCode::BadRequest, "no message"));
        };
        if let Some(stranger) = body.to.iter().find(|name| *name != "bob" && *name != "carol") {
            let detail = format!("no member is called '{stranger}'");
            return problem(
                &Problem::new(ErrorCode::UnknownMember, detail).with_hint("'chat peers' lists the members"),
            );
        }
        if let Some(sent) = self.keys.get(key) {
            return (201, json(sent));
        }
        let to = body.to.iter().map(|name| peer(if name == "bob" { 2 } else { 3 }, name)).collect();
        let message = self.say(alice(), to, &body.text);
        let state = MessageState { stored: true, copies: 1, held_by: vec![bob()], complete: true };
        let sent = SentMessage { message, state };
        self.keys.insert(key.into(), sent.clone());
        (201, json(&sent))
    }

    fn take_fault(&mut self, request: &FakeRequest) -> Option<FakeFault> {
        let place = self.faults.iter().position(|(call, _)| *call == request.call())?;
        self.faults.remove(place).map(|(_, fault)| fault)
    }

    fn history(&self, query: &HashMap<String, String>) -> (u16, String) {
        let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(100);
        let place = |point: &String| match point.parse::<MessageId>() {
            Ok(id) => self.messages.iter().position(|message| message.id == id).map(|place| (place, place + 1)),
            Err(_) => point.parse::<Timestamp>().ok().map(|time| {
                let first = self.messages.partition_point(|message| message.time <= time);
                (first, first)
            }),
        };
        let unknown = || problem(&Problem::new(ErrorCode::NotFound, "no such message"));
        let Some(after) = query.get("after").map_or(Some((0, 0)), place) else { return unknown() };
        let Some(before) = query.get("before").map_or(Some((self.messages.len(), 0)), place) else { return unknown() };
        let passes = |message: &&Message| {
            query.get("from").is_none_or(|from| {
                from.trim_start_matches('@') == message.from.name || *from == message.from.id.to_string()
            }) && query.get("q").is_none_or(|words| message.text.contains(words.as_str()))
        };
        let all: Vec<Message> =
            self.messages.get(after.1..before.0).unwrap_or_default().iter().filter(passes).cloned().collect();
        let more = all.len() > limit;
        let skip = if query.contains_key("after") { 0 } else { all.len().saturating_sub(limit) };
        let messages: Vec<Message> = all.into_iter().skip(skip).take(limit).collect();
        let cursors = messages.iter().filter_map(|message| self.cursors.get(&message.id).copied()).collect();
        (200, json(&MessagePage { messages, cursors, more }))
    }

    /// The frames that a stream begins with, and the way to the later ones.
    fn subscribe(&mut self, request: &FakeRequest) -> (String, Receiver<String>) {
        let now = self.events.len() as u64;
        let given = request.header("last-event-id").or(request.query.get("since").map(String::as_str));
        let since = match given {
            Some("all") => 0,
            Some(text) => text.parse::<Cursor>().map_or(0, |cursor| cursor.event),
            None => now,
        };
        let start = since.max(self.pruned);
        let mut text = format!("id: {}\n\n", Cursor { run: RUN, event: since });
        if start > since {
            let cursor = Cursor { run: RUN, event: start };
            let event = Event::Gap { reason: "older events are gone".into() };
            text += &frame(&EventEnvelope { cursor, at: Timestamp::from_ms(0), event });
        }
        text.extend(self.events.iter().skip(usize::try_from(start).expect("small")).map(frame));
        let (sender, receiver) = channel();
        self.streams.push(sender);
        (text, receiver)
    }
}

fn frame(envelope: &EventEnvelope) -> String {
    format!("event: {}\nid: {}\ndata: {}\n\n", envelope.event.name(), envelope.cursor, json(envelope))
}

pub(crate) fn problem(problem: &Problem) -> (u16, String) {
    (problem.status, json(problem))
}

/// Answers a stream of messages line by line; each is a request of its own in the records, and in the faults.
fn serve_lines(shared: &SharedState, reader: &mut BufReader<Box<dyn Wire>>, stream: &FakeRequest) {
    let first = stream.query.get("line").and_then(|line| line.parse().ok()).unwrap_or(1_u64);
    let key = stream.header("idempotency-key").unwrap_or_default().to_owned();
    if begin_lines(reader.get_mut().as_mut()).is_err() {
        return;
    }
    let mut number = first;
    while let Some(lines) = read_chunk(reader) {
        for body in lines.lines() {
            let mut request = FakeRequest { body: body.into(), ..stream.clone() };
            request.headers.insert("idempotency-key".into(), format!("{key}/{number}"));
            let mut state = lock(shared);
            state.requests.push(request.clone());
            shared.1.notify_all();
            let fault = state.take_fault(&request);
            let (status, body) = match &fault {
                Some(FakeFault::Refuse(refusal)) => problem(refusal),
                Some(FakeFault::HangUp | FakeFault::Status(_) | FakeFault::Say(_)) | None => state.send(&request),
            };
            drop(state);
            if matches!(fault, Some(FakeFault::HangUp)) {
                return reader.get_ref().hang_up();
            }
            let sent = serde_json::from_str::<SentMessage>(&body).ok();
            let (id, state) = sent.map(|sent| (sent.message.id, sent.state)).unzip();
            let answer = SentLine { line: number, status, id, state, problem: serde_json::from_str(&body).ok() };
            if chunk(reader.get_mut().as_mut(), &(json(&answer) + "\n")).is_err() {
                return;
            }
            number += 1;
        }
    }
}

fn serve(shared: &SharedState, wire: Box<dyn Wire>) {
    let mut reader = BufReader::new(wire);
    while let Some(request) = read_request(&mut reader) {
        if request.header("content-type") == Some("application/x-ndjson") && !lock(shared).is_old {
            return serve_lines(shared, &mut reader, &request);
        }
        let mut state = lock(shared);
        state.requests.push(request.clone());
        shared.1.notify_all();
        let fault = state.take_fault(&request);
        if let Some(FakeFault::Say(text)) = fault {
            state.say(bob(), Vec::new(), text);
        }
        let is_json = request.body.is_empty() || request.header("content-type") == Some("application/json");
        let (mut status, mut body) = match (&fault, &state.token) {
            (_, _) if !is_json || request.header("transfer-encoding").is_some() => {
                problem(&Problem::new(ErrorCode::UnsupportedMediaType, "the body must be application/json"))
            }
            (Some(FakeFault::Refuse(refusal)), _) => problem(refusal),
            (_, Some(token)) if request.header("authorization") != Some(&format!("Bearer {token}")) => {
                problem(&Problem::new(ErrorCode::Unauthorized, "no token").with_hint("'chatd env' prints it"))
            }
            (_, _) => match request.call().as_str() {
                "GET /v1/events" => {
                    let (start, later) = state.subscribe(&request);
                    drop(state);
                    return stream(reader.get_mut().as_mut(), &start, &later);
                }
                "POST /v1/messages" => state.send(&request),
                "GET /v1/messages" => state.history(&request.query),
                call => answers::answer(call),
            },
        };
        drop(state);
        match fault {
            Some(FakeFault::HangUp) => return reader.get_ref().hang_up(),
            Some(FakeFault::Status(other)) => status = other,
            Some(FakeFault::Refuse(_) | FakeFault::Say(_)) | None => {}
        }
        if status == 204 {
            body.clear();
        }
        if answer(reader.get_mut().as_mut(), status, &body).is_err() {
            return;
        }
        lock(shared).answered.push(request.call());
        shared.1.notify_all();
    }
}

fn stream(wire: &mut dyn Wire, start: &str, later: &Receiver<String>) {
    if begin_stream(wire).and_then(|()| chunk(wire, start)).is_err() {
        return;
    }
    while let Ok(text) = later.recv() {
        if chunk(wire, &text).is_err() {
            return;
        }
    }
}
