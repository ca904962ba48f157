//! Clients of a tortured peer: some post, one reads the event stream.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::messages::{SendRequest, Wait};
use chat_proto::event::Event;
use chat_proto::id::MessageId;

use super::verdict::TortureMessage;
use crate::api::DaemonApi;
use crate::api::events::EventReader;
use crate::scenarios::faults::posting::try_post;
use crate::scenarios::faults::random::Random;

/// Number of other peers that must hold a message that is to be replicated.
pub const COPIES: u32 = 2;

/// How long a client tries to post a message: far longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest pause between two messages of a client, in milliseconds.
const PAUSE_MS_MAX: usize = 120;

/// A message that a client posted, or tried to.
#[derive(Clone, Debug)]
pub struct TorturePost {
    /// Its text, which no other message has.
    pub text: String,
    /// The peer at which it was posted.
    pub peer: usize,
    /// When it was posted first.
    pub begun: Instant,
    /// How it was acknowledged, if it was.
    pub acknowledged: Option<Acknowledgement>,
    /// Number of calls that failed or were refused.
    pub refusals: usize,
    /// What the last of them brought.
    pub refusal: String,
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// The message.
    pub id: MessageId,
    /// Whether [`COPIES`] other peers held it.
    pub replicated: bool,
    /// When it came.
    pub at: Instant,
}

impl TorturePost {
    /// Whether it was acknowledged as held by [`COPIES`] other peers.
    pub fn is_replicated(&self) -> bool {
        self.acknowledged.is_some_and(|acknowledged| acknowledged.replicated)
    }
}

/// What a peer's reader has seen, shared with the clients that answer to it.
#[derive(Debug, Default)]
pub struct PeerSeen {
    seen: Mutex<StreamSeen>,
    /// Roll-backs and disk faults that this peer has had: a gap is allowed after one.
    excuses: AtomicUsize,
}

/// What a reader has seen.
#[derive(Clone, Debug, Default)]
pub struct StreamSeen {
    /// Messages that the stream showed since its last gap.
    since_gap: HashSet<MessageId>,
    /// Cursors since the last gap.
    cursors: HashSet<String>,
    /// All messages that the stream showed, or that were in the history when it had a gap.
    pub messages: HashSet<MessageId>,
    /// The newest message.
    newest: Option<MessageId>,
    /// Number of events.
    pub events: usize,
    /// Number of gaps.
    pub gaps: usize,
    /// Messages that came before what they answer.
    pub early: Vec<TortureMessage>,
    /// What was wrong with the stream.
    pub complaints: Vec<String>,
}

impl PeerSeen {
    fn lock(&self) -> MutexGuard<'_, StreamSeen> {
        self.seen.lock().expect("no reader has panicked")
    }

    /// The peer has had a fault that may leave a gap.
    pub fn excuse(&self) {
        self.excuses.fetch_add(1, Ordering::Relaxed);
    }

    /// The peer was rolled back: what it showed last may be gone.
    pub fn forget_newest(&self) {
        self.lock().newest = None;
    }

    /// Whether the reader has seen all of these.
    pub fn has_all(&self, history: &[TortureMessage]) -> bool {
        let seen = self.lock();
        history.iter().all(|shown| seen.messages.contains(&shown.id))
    }

    /// What the reader has seen, when it has ended.
    pub fn into_seen(self) -> StreamSeen {
        self.seen.into_inner().expect("no reader has panicked")
    }
}

impl StreamSeen {
    /// Takes a message of the stream.
    pub fn take(&mut self, shown: &TortureMessage) {
        if !self.since_gap.insert(shown.id) {
            self.complaints.push(format!("the stream showed '{}' twice", shown.text));
        }
        if let Some(answered) = shown.answers
            && !self.messages.contains(&answered)
        {
            self.early.push(shown.clone());
        }
        self.messages.insert(shown.id);
        self.newest = Some(shown.id);
    }

    /// Begins anew after a gap: the history has what is missing.
    pub fn begin_anew(&mut self, history: impl IntoIterator<Item = MessageId>) {
        self.since_gap.clear();
        self.cursors.clear();
        self.messages.extend(history);
    }
}

/// A client that posts.
#[derive(Debug)]
pub struct PostingClient {
    number: usize,
    peer: usize,
    socket: PathBuf,
    random: Random,
}

impl PostingClient {
    /// The client with this number, of a peer.
    pub fn new(number: usize, peer: usize, socket: &Path, random: Random) -> Self {
        Self { number, peer, socket: socket.to_owned(), random }
    }

    /// Posts until the talk ends.
    pub fn talk(mut self, seen: &PeerSeen, ends: &AtomicBool) -> Vec<TorturePost> {
        let mut api = DaemonApi::unix(&self.socket);
        let mut attempts = Vec::new();
        while !ends.load(Ordering::Relaxed) {
            let newest = seen.lock().newest;
            let answers = newest.filter(|_| self.random.one_in(2));
            let text = TortureMessage::text(self.number, attempts.len(), answers);
            let replicated = self.random.one_in(2);
            let request = SendRequest {
                text: text.clone(),
                wait: if replicated { Wait::Replicated } else { Wait::Stored },
                copies: replicated.then_some(COPIES),
                timeout_ms: replicated.then_some(5_000),
                ..SendRequest::default()
            };
            attempts.push(self.post(&mut api, &request));
            thread::sleep(Duration::from_millis(self.random.within(0..PAUSE_MS_MAX) as u64));
        }
        attempts
    }

    fn post(&mut self, api: &mut DaemonApi, request: &SendRequest) -> TorturePost {
        let begun = Instant::now();
        let key = request.text.clone();
        let mut attempt = TorturePost {
            text: key.clone(),
            peer: self.peer,
            begun,
            acknowledged: None,
            refusals: 0,
            refusal: String::new(),
        };
        while begun.elapsed() < PATIENCE {
            match try_post(api, &self.socket, request, &key) {
                Ok(sent) => {
                    let replicated = sent.state.copies >= COPIES;
                    attempt.acknowledged =
                        Some(Acknowledgement { id: sent.message.id, replicated, at: Instant::now() });
                    break;
                }
                Err(refusal) => {
                    attempt.refusals += 1;
                    attempt.refusal = refusal;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        attempt
    }
}

/// A client that reads the event stream, and resumes it.
#[derive(Debug)]
pub struct Reader {
    api: DaemonApi,
    last: Option<String>,
}

impl Reader {
    /// The reader of a peer.
    pub fn new(socket: &Path) -> Self {
        Self { api: DaemonApi::unix(socket), last: None }
    }

    /// Reads until reading ends.
    pub fn read(mut self, seen: &PeerSeen, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            let path = if self.last.is_none() { "/v1/events?since=all" } else { "/v1/events" };
            match self.api.try_events_at(path, self.last.as_deref()) {
                Ok(events) => self.follow(events, seen, ends),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Reads one stream until it breaks.
    fn follow(&mut self, mut events: EventReader, seen: &PeerSeen, ends: &AtomicBool) {
        loop {
            let raw = match events.next(Duration::from_millis(200)) {
                Ok(raw) => raw,
                Err(RecvTimeoutError::Timeout) if !ends.load(Ordering::Relaxed) => continue,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            };
            let event = raw.envelope().event;
            if let Event::Gap { reason } = &event {
                // If the history cannot be read, the stream is read anew: it reports the gap again.
                let Ok(history) = self.api.try_history() else { return };
                let mut seen_now = seen.lock();
                seen_now.gaps += 1;
                if seen.excuses.load(Ordering::Relaxed) == 0 {
                    seen_now.complaints.push(format!("the stream has a gap without a reason: {reason}"));
                }
                seen_now.begin_anew(history.into_iter().map(|message| message.id));
            }
            let mut seen = seen.lock();
            seen.events += 1;
            let is_gap = matches!(event, Event::Gap { .. });
            if !is_gap && !seen.cursors.insert(raw.id.clone()) {
                seen.complaints.push(format!("the stream gave the cursor {} twice", raw.id));
            }
            if let Event::Message { message } = event {
                seen.take(&TortureMessage::from(message));
            }
            self.last = Some(raw.id);
        }
    }
}
