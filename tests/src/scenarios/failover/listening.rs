//! Peers that talk without a break, and the events that each of them receives.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use chat_proto::api::messages::{SendRequest, SentMessage};
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId, Term};

use crate::api::DaemonApi;
use crate::cluster::TestRoom;

/// Pause between two messages of one peer.
const TALK_EVERY: Duration = Duration::from_millis(25);

/// What one round, or a longer time, brought.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// From the end of the holder until the last of the others had an event with the next one.
    pub known: Duration,
    /// The same for each of the others, by name.
    pub known_by: Vec<(String, Duration)>,
    /// How long each message between the living was on its way; one that did not arrive, until the end.
    pub ways: Vec<Duration>,
    /// The longest of them: the text, and the peer it reached last.
    pub slowest: Option<(Duration, String, String)>,
    /// Messages that were acknowledged.
    pub acknowledged: Vec<MessageId>,
    /// Messages that some stream showed twice.
    pub repeated: usize,
    /// Terms that began.
    pub terms: Vec<String>,
    /// Where it took long: the end of the log of the late peer.
    pub log: Option<String>,
}

impl Heard {
    /// The longest time a message between the living was on its way.
    pub fn stall(&self) -> Duration {
        self.slowest.as_ref().map(|(way, _, _)| *way).unwrap_or_default()
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |span: &Duration| match *span {
            Duration::MAX => "never".to_owned(),
            span => format!("{:.1}", span.as_secs_f64() * 1e3),
        };
        write!(f, "known to all after {} ms (", ms(&self.known))?;
        for (name, known) in &self.known_by {
            write!(f, " {name} {}", ms(known))?;
        }
        write!(f, " )")?;
        if let Some((way, text, to)) = &self.slowest {
            write!(f, ", longest way {} ms ('{text}' to {to})", ms(way))?;
        }
        self.terms.iter().try_for_each(|term| write!(f, "; {term}"))?;
        self.log.iter().try_for_each(|log| write!(f, "\n{log}"))
    }
}

/// A peer that talks and listens.
struct TalkingPeer {
    name: String,
    id: PeerId,
    socket: PathBuf,
}

/// The peers while they talk.
pub(super) struct Listening {
    peers: Vec<TalkingPeer>,
    /// Talkers wait until all peers listen.
    ready: Barrier,
    done: AtomicBool,
    end: OnceLock<Instant>,
    /// When each text was handed to its daemon, and its sender.
    said: Mutex<HashMap<String, (Instant, PeerId)>>,
    /// What each stream brought, and when.
    heard: Mutex<BTreeMap<PeerId, Vec<(Instant, Event)>>>,
    acknowledged: Mutex<Vec<MessageId>>,
}

impl Listening {
    pub(super) fn new(room: &TestRoom, ids: &[PeerId]) -> Self {
        let peer = |(peer, id): (&crate::daemon::Daemon, &PeerId)| TalkingPeer {
            name: peer.name().to_owned(),
            id: *id,
            socket: peer.home().socket(),
        };
        Self {
            peers: room.peers.iter().zip(ids).map(peer).collect(),
            ready: Barrier::new(2 * room.peers.len()),
            done: AtomicBool::new(false),
            end: OnceLock::new(),
            said: Mutex::default(),
            heard: Mutex::default(),
            acknowledged: Mutex::default(),
        }
    }

    /// All peers begin to send and to listen.
    pub(super) fn begin<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, round: usize) {
        for peer in &self.peers {
            scope.spawn(move || self.listen(peer.id, &peer.socket));
            scope.spawn(move || self.talk(round, peer));
        }
    }

    /// Ends the talk. A suspended peer has to be resumed then: it still owes an answer.
    pub(super) fn end(&self) {
        self.end.get_or_init(Instant::now);
        self.done.store(true, Ordering::Relaxed);
    }

    fn talk(&self, round: usize, peer: &TalkingPeer) {
        let api = DaemonApi::unix(&peer.socket);
        self.ready.wait();
        for number in 0.. {
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{} {round} {number}", peer.name);
            self.said.lock().expect("nobody panicked").insert(text.clone(), (Instant::now(), peer.id));
            let request = SendRequest { text: text.clone(), ..SendRequest::default() };
            let Ok(reply) = api.post_message(&request, &text) else { return };
            if reply.status == 201 {
                let sent: SentMessage = reply.json(201);
                self.acknowledged.lock().expect("nobody panicked").push(sent.message.id);
            }
            thread::sleep(TALK_EVERY);
        }
    }

    fn listen(&self, id: PeerId, socket: &Path) {
        let mut events = DaemonApi::unix(socket).events(None);
        self.ready.wait();
        while !self.done.load(Ordering::Relaxed) {
            let Ok(raw) = events.next(Duration::from_millis(100)) else { continue };
            let heard = (Instant::now(), raw.envelope().event);
            self.heard.lock().expect("nobody panicked").entry(id).or_default().push(heard);
        }
    }

    /// Whether all but the last holder have had an event with a later one.
    pub(super) fn all_know(&self, holder: PeerId, term: Term) -> bool {
        let heard = self.heard.lock().expect("nobody panicked");
        let mut living = self.peers.iter().filter(|peer| peer.id != holder);
        living.all(|peer| {
            let events = heard.get(&peer.id).map(Vec::as_slice).unwrap_or_default();
            events.iter().rev().any(|(_, event)| is_next(event, holder, term))
        })
    }

    /// What was received, once all talk has ended. All peers must still run.
    pub(super) fn sum_up(self, holder: PeerId, term: Term, gone: Instant) -> Heard {
        let end = self.end.into_inner().unwrap_or_else(Instant::now);
        let said = self.said.into_inner().expect("nobody panicked");
        let mut heard = self.heard.into_inner().expect("nobody panicked");
        let acknowledged = self.acknowledged.into_inner().expect("nobody panicked");
        let mut sum = Heard { acknowledged, ..Heard::default() };
        for peer in &self.peers {
            let events = heard.remove(&peer.id).unwrap_or_default();
            let (mut shown, mut arrived) = (HashSet::new(), HashMap::new());
            let mut next = None;
            for (at, event) in &events {
                if let Event::Rendezvous { change } = event {
                    let told = at.saturating_duration_since(gone).as_millis();
                    sum.terms.push(format!(
                        "{} at {told} ms: {} to {} {:?}",
                        peer.name, change.term.0, change.to.name, change.reason
                    ));
                }
                next = next.or_else(|| is_next(event, holder, term).then_some(*at));
                if let Event::Message { message } = event {
                    sum.repeated += usize::from(!shown.insert(message.id));
                    arrived.entry(message.text.as_str()).or_insert(*at);
                }
            }
            if peer.id == holder {
                continue;
            }
            let known = next.map_or(Duration::MAX, |at| at.saturating_duration_since(gone));
            sum.known = sum.known.max(known);
            sum.known_by.push((peer.name.clone(), known));
            for (text, (sent, _)) in said.iter().filter(|(_, (sent, author))| *author != holder && *sent < end) {
                let way = arrived.get(text.as_str()).unwrap_or(&end).saturating_duration_since(*sent);
                sum.ways.push(way);
                if way > sum.stall() {
                    sum.slowest = Some((way, text.clone(), peer.name.clone()));
                }
            }
        }
        sum
    }
}

fn is_next(event: &Event, holder: PeerId, term: Term) -> bool {
    matches!(event, Event::Rendezvous { change } if change.term > term && change.to.id != holder)
}
