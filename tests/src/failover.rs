//! Takes the holder of the rendezvous role away, again and again, while everybody talks, and measures what the others
//! notice of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::messages::{Message, SendRequest, SentMessage};
use chat_proto::api::rendezvous::Rendezvous;
use chat_proto::event::Event;
use chat_proto::id::{MessageId, PeerId, Term};

use crate::api::Api;
use crate::cluster::Room;
use crate::daemon::Daemon;
use crate::eventually::{SOON, eventually};

/// Pause between two messages of one peer.
const TALK_EVERY: Duration = Duration::from_millis(25);

/// How long after the end of the holder the others are listened to.
const ROUND: Duration = Duration::from_millis(2_500);

/// How long everybody may need to agree on one holder before a round.
const AGREED_MAX: Duration = Duration::from_secs(60);

/// How the holder is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// SIGKILL.
    Kill,
    /// SIGSTOP; it wakes again after the round.
    Suspend,
    /// `chatd stop`.
    Leave,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Peers in the room, 2 to 26.
    pub peers: usize,
    /// How often the holder is taken away.
    pub rounds: usize,
    /// How.
    pub way: Way,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    /// Per round: from the end of the holder until the last of the others had heard of the next one.
    known: Vec<Duration>,
    /// Per round: the longest time a message between the living was on its way.
    stalls: Vec<Duration>,
    /// Messages that were acknowledged.
    acknowledged: usize,
    /// Of those, missing in some log.
    lost: usize,
    /// Shown twice in some log or by some stream.
    repeated: usize,
    /// Places at which some log differs from the first.
    reordered: usize,
}

/// Something that a stream brought, and when.
type Heard = (Instant, Event);

/// The living as one round sees them.
struct Listening {
    names: Vec<(String, PeerId, PathBuf)>,
    done: AtomicBool,
    /// When each text was handed to its daemon, and by whom.
    said: Mutex<HashMap<String, (Instant, PeerId)>>,
    heard: Mutex<BTreeMap<PeerId, Vec<Heard>>>,
    acknowledged: Mutex<Vec<(String, MessageId)>>,
}

/// Runs it.
///
/// # Panics
/// When a daemon does not start, or the room does not agree on a holder before a round.
pub fn run(plan: Plan, mut tell: impl FnMut(usize, Duration, Duration)) -> Report {
    let names: Vec<String> = ('a'..='z').take(plan.peers).map(|letter| format!("peer-{letter}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut room = Room::of(&names);
    let mut report =
        Report { plan, known: Vec::new(), stalls: Vec::new(), acknowledged: 0, lost: 0, repeated: 0, reordered: 0 };
    let mut acknowledged = Vec::new();
    for round in 0..plan.rounds {
        let (holder, term) = agreed(&room);
        let (known, stall, said) = play(&mut room, plan.way, round, holder, term, &mut report.repeated);
        tell(round, known, stall);
        report.known.push(known);
        report.stalls.push(stall);
        acknowledged.extend(said);
        come_back(&mut room, plan.way, holder);
    }
    check(&room, &acknowledged, &mut report);
    report
}

/// Waits until everybody knows the same holder.
fn agreed(room: &Room) -> (PeerId, Term) {
    eventually(AGREED_MAX, "everybody knows the same holder", || {
        let views: Vec<Rendezvous> = room.peers.iter().map(|peer| peer.api().get("/v1/rendezvous").json(200)).collect();
        let held = |view: &Rendezvous| view.holder.as_ref().map(|holder| (holder.id, view.term));
        let first = held(&views[0]).ok_or("nobody holds the role")?;
        let standbys = views.iter().map(|view| view.succession).max().unwrap_or_default();
        if !views.iter().all(|view| held(view) == Some(first)) {
            return Err(format!("{:?}", views.iter().map(held).collect::<Vec<_>>()));
        }
        if standbys == 0 { Err("nobody is on the succession list".into()) } else { Ok(first) }
    })
}

fn id_of(peer: &Daemon) -> PeerId {
    peer.api().status().peer.id
}

/// One round: everybody talks, the holder goes, the others are listened to.
fn play(
    room: &mut Room,
    way: Way,
    round: usize,
    holder: PeerId,
    term: Term,
    repeated: &mut usize,
) -> (Duration, Duration, Vec<(String, MessageId)>) {
    let ids: Vec<PeerId> = room.peers.iter().map(id_of).collect();
    let victim = ids.iter().position(|id| *id == holder).expect("the holder is a peer of the room");
    let names = room.peers.iter().zip(&ids).map(|(peer, id)| (peer.name().to_owned(), *id, peer.home().socket()));
    let listening = Listening {
        names: names.collect(),
        done: AtomicBool::new(false),
        said: Mutex::default(),
        heard: Mutex::default(),
        acknowledged: Mutex::default(),
    };
    let mut gone = Instant::now();
    thread::scope(|scope| {
        for (name, id, socket) in &listening.names {
            let listening = &listening;
            scope.spawn(move || listening.listen(*id, socket));
            scope.spawn(move || listening.talk(round, name, *id, socket));
        }
        // Everybody has said and heard something before the holder goes.
        thread::sleep(TALK_EVERY * 20);
        gone = Instant::now();
        match way {
            Way::Kill => room.peers[victim].kill(),
            Way::Suspend => room.peers[victim].suspend(),
            Way::Leave => room.peers[victim].stop(),
        }
        thread::sleep(ROUND);
        listening.done.store(true, Ordering::Relaxed);
    });
    listening.sum_up(holder, term, gone, repeated)
}

impl Listening {
    fn talk(&self, round: usize, name: &str, id: PeerId, socket: &Path) {
        let api = Api::unix(socket);
        for number in 0.. {
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{name} {round} {number}");
            self.said.lock().expect("nobody panicked").insert(text.clone(), (Instant::now(), id));
            let request = SendRequest { text: text.clone(), ..SendRequest::default() };
            let Ok(reply) = api.post_message(&request, &text) else { return };
            if reply.status == 201 {
                let sent: SentMessage = reply.json(201);
                self.acknowledged.lock().expect("nobody panicked").push((text, sent.message.id));
            }
            thread::sleep(TALK_EVERY);
        }
    }

    fn listen(&self, id: PeerId, socket: &Path) {
        let mut events = Api::unix(socket).events(None);
        while !self.done.load(Ordering::Relaxed) {
            let Ok(raw) = events.next(Duration::from_millis(100)) else { continue };
            let heard = (Instant::now(), raw.envelope().event);
            self.heard.lock().expect("nobody panicked").entry(id).or_default().push(heard);
        }
    }

    fn sum_up(
        self,
        holder: PeerId,
        term: Term,
        gone: Instant,
        repeated: &mut usize,
    ) -> (Duration, Duration, Vec<(String, MessageId)>) {
        let said = self.said.into_inner().expect("nobody panicked");
        let (mut known, mut stall) = (Duration::ZERO, Duration::ZERO);
        for (id, heard) in self.heard.into_inner().expect("nobody panicked") {
            let mut shown = HashSet::new();
            let mut next = None;
            for (at, event) in heard {
                if let Event::Rendezvous { change } = &event
                    && change.term > term
                    && change.to.id != holder
                {
                    next = Some(at);
                }
                if let Event::Message { message } = &event
                    && let Some((sent, author)) = said.get(&message.text)
                {
                    *repeated += usize::from(!shown.insert(message.id));
                    if *author != holder && id != holder {
                        stall = stall.max(at.saturating_duration_since(*sent));
                    }
                }
            }
            if id != holder {
                known = known.max(next.map_or(Duration::MAX, |at| at.saturating_duration_since(gone)));
            }
        }
        (known, stall, self.acknowledged.into_inner().expect("nobody panicked"))
    }
}

/// The one that was taken away comes back.
fn come_back(room: &mut Room, way: Way, holder: PeerId) {
    let away = room.peers.iter_mut().find(|peer| match way {
        Way::Suspend => true,
        Way::Kill | Way::Leave => !peer.runs(),
    });
    match way {
        Way::Suspend => room.peers.iter().for_each(Daemon::resume),
        Way::Kill | Way::Leave => {
            if let Some(peer) = away {
                peer.start_again();
            }
        }
    }
    let _ = holder;
    room.all_online();
}

/// Every acknowledged message is in every log, once, in the same order.
fn check(room: &Room, acknowledged: &[(String, MessageId)], report: &mut Report) {
    report.acknowledged = acknowledged.len();
    eventually(SOON * 4, "every daemon holds as much as the others", || {
        let counts: Vec<u64> = room.peers.iter().map(|peer| peer.api().status().messages).collect();
        if counts.iter().all(|count| *count == counts[0] && *count >= acknowledged.len() as u64) {
            return Ok(());
        }
        Err(format!("{counts:?}, {} acknowledged", acknowledged.len()))
    });
    let logs: Vec<Vec<Message>> =
        room.peers.iter().map(|peer| peer.chat(&["log", "--all", "--json"]).json::<Message>()).collect();
    for log in &logs {
        let ids: HashSet<MessageId> = log.iter().map(|message| message.id).collect();
        report.repeated += log.len() - ids.len();
        report.lost += acknowledged.iter().filter(|(_, id)| !ids.contains(id)).count();
        report.reordered += log.iter().zip(&logs[0]).filter(|(one, two)| one.id != two.id).count();
    }
}

fn at(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1;
    sorted[index].as_secs_f64()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { peers, rounds, way } = self.plan;
        let (mut known, mut stalls) = (self.known.clone(), self.stalls.clone());
        known.sort_unstable();
        stalls.sort_unstable();
        writeln!(f, "{rounds} times {way:?} of the holder among {peers} peers that all talk")?;
        let line = |sorted: &[Duration]| {
            format!("p50 {:.3} s, p95 {:.3} s, max {:.3} s", at(sorted, 0.5), at(sorted, 0.95), at(sorted, 1.0))
        };
        writeln!(f, "  a new holder is known to all after: {}", line(&known))?;
        writeln!(f, "  longest a message of the living took: {}", line(&stalls))?;
        write!(
            f,
            "  {} messages acknowledged; lost {}, repeated {}, reordered {}",
            self.acknowledged, self.lost, self.repeated, self.reordered
        )
    }
}
