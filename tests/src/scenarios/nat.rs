//! Peers behind NATs: a room of four whose two talkers reach the others in different ways, and what becomes of their
//! conversation when the peer that relays for them is killed.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use trouble::Trouble;

use chat_proto::api::messages::SendRequest;
use chat_proto::api::peers::{PathView, PeerView};
use chat_proto::event::Event;
use chat_proto::id::{PeerId, Term};

use crate::api::DaemonApi;
use crate::api::events::EventReader;
use crate::cluster::{all_online, view};
use crate::daemon::{Daemon, StartDaemon};
use crate::eventually::{SOON, eventually};
use crate::netns::{Nat, Router, Space, TestNetwork};

mod trouble;

/// Pause between two messages of one talker.
const TALK_EVERY: Duration = Duration::from_millis(20);

/// How long the talkers are listened to before and after something happens to them.
const BEFORE: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(3);

/// Timeout for measurements to show which peers accept connections from outside.
const MEASURED_MAX: Duration = Duration::from_secs(60);

/// Where a talker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// At a public address.
    Public,
    /// Behind a router.
    Home(Nat),
    /// Behind a router that keeps ports and lets no UDP pass from the moment on at which all see each other.
    TcpOnly,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Public => "public address",
            Self::Home(Nat::Keeping) => "NAT, keeps ports",
            Self::Home(Nat::Random) => "NAT, random ports",
            Self::TcpOnly => "NAT, no UDP",
        })
    }
}

/// How the holder goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HolderLoss {
    /// Its process is killed; its kernel closes its connections.
    Killed,
    /// The cable is pulled, without notice to any peer.
    Silent,
}

/// A room: `holder` and `standby` at public addresses, `one` and `other` where they were put.
#[derive(Debug)]
pub struct NatScene {
    /// Who founded the room.
    pub holder: Daemon,
    /// Its machine.
    pub machine: Arc<Space>,
    /// Who follows.
    pub standby: Daemon,
    /// The first talker.
    pub one: Daemon,
    /// The second.
    pub other: Daemon,
    /// Machines of the talkers.
    pub machines: [Arc<Space>; 2],
    /// Their routers, where they have one.
    pub routers: [Option<Router>; 2],
    /// From the start of the second talker's daemon until the first had its first message.
    pub first_message: Duration,
    /// The internet they are on.
    pub network: TestNetwork,
}

impl NatScene {
    /// Starts them all; the talkers join by a ticket of the holder. `None` where there are no namespaces.
    ///
    /// # Panics
    /// When a peer is not admitted.
    #[track_caller]
    pub fn new(sites: [Site; 2]) -> Option<Self> {
        let mut network = TestNetwork::new()?;
        let machine = network.machine();
        let holder = StartDaemon::found("holder").inside(&machine).start();
        let ticket = holder.ticket();
        let standby = StartDaemon::join("standby", &ticket).inside(&network.machine()).start();
        let mut place = |site: Site| match site {
            Site::Public => (network.machine(), None),
            Site::Home(nat) => in_home(network.home(nat)),
            Site::TcpOnly => in_home(network.home(Nat::Keeping)),
        };
        let ((one_machine, first), (other_machine, second)) = (place(sites[0]), place(sites[1]));
        let one = StartDaemon::join("one", &ticket).inside(&one_machine).start();
        let mut heard = one.api().events(None);
        let begun = Instant::now();
        let other = StartDaemon::join("other", &ticket).inside(&other_machine).start();
        other.api().send("first");
        while heard.message(SOON).text != "first" {}
        let first_message = begun.elapsed();
        let (machines, routers) = ([one_machine, other_machine], [first, second]);
        let scene = Self { holder, machine, standby, one, other, machines, routers, first_message, network };
        scene.all_online();
        for (router, _) in scene.routers.iter().zip(sites).filter(|(_, site)| *site == Site::TcpOnly) {
            router.as_ref().expect("it is at home").block_udp(None);
        }
        Some(scene)
    }

    /// Who holds the role and in which term, as each that runs knows it.
    ///
    /// # Panics
    /// When a peer does not know.
    #[track_caller]
    pub fn holders(&self) -> Vec<(String, Term)> {
        let all = [&self.holder, &self.standby, &self.one, &self.other];
        let known = all.into_iter().filter(|peer| peer.runs()).map(|peer| {
            let known = peer.api().status().rendezvous.expect("a holder is known");
            (known.peer.name, known.term)
        });
        known.collect()
    }

    /// Waits until all that run see each other online.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn all_online(&self) {
        let all = [&self.holder, &self.standby, &self.one, &self.other];
        all_online(&all.into_iter().filter(|peer| peer.runs()).collect::<Vec<_>>());
    }

    /// How the talkers reach each other.
    ///
    /// # Panics
    /// When they do not know each other.
    #[track_caller]
    pub fn paths(&self) -> [PathView; 2] {
        [path(&self.one, "other"), path(&self.other, "one")]
    }

    /// Waits until both talkers reach each other in this way.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn reached_by(&self, wanted: PathView) {
        eventually(SOON, "both reach each other in the way they should", || match self.paths() {
            paths if paths == [wanted; 2] => Ok(()),
            paths => Err(format!("{paths:?}")),
        });
    }

    /// Waits until all peers rank those at public addresses first.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn ranked(&self) {
        eventually(MEASURED_MAX, "peers that accept connections come first", || {
            for peer in [&self.holder, &self.standby, &self.one, &self.other] {
                let view = view(peer);
                let ranking: Vec<_> = view.ranking.iter().map(|row| (row.peer.name.as_str(), row.inbound)).collect();
                let called = |name: &str| ranking.contains(&(name, Some(true)));
                if ranking.len() < 4 || !called("holder") || !called("standby") {
                    return Err(format!("{} has {ranking:?}", peer.name()));
                }
            }
            Ok(())
        });
    }

    /// Both talk to each other all the time, and after a second the holder is taken away.
    ///
    /// # Panics
    /// When what they said does not arrive in the end.
    #[track_caller]
    pub fn lose_holder(&mut self, end: HolderLoss) -> Flow {
        let (holder, machine) = (&mut self.holder, &self.machine);
        Flow::through([&self.one, &self.other], || match end {
            HolderLoss::Killed => holder.kill(),
            HolderLoss::Silent => machine.silence(),
        })
    }

    /// The address of a talker's router, as the other one sees it.
    pub fn outside(&self, talker: usize) -> Option<IpAddr> {
        self.routers.get(talker)?.as_ref().map(|router| router.addr().into())
    }
}

fn in_home(router: Router) -> (Arc<Space>, Option<Router>) {
    (router.machine(), Some(router))
}

/// How one peer reaches another.
#[track_caller]
fn path(from: &Daemon, to: &str) -> PathView {
    let views = from.api().peers();
    let view: Option<&PeerView> = views.iter().find(|view| view.peer.name == to);
    view.map_or(PathView::None, |view| view.path)
}

/// The messages of two peers to each other, and when they arrived.
#[derive(Debug, Default)]
pub struct Flow {
    /// Tells its texts, and the keys they are sent with, from those of other flows in the same room.
    number: u64,
    said: Mutex<HashMap<String, Instant>>,
    heard: Mutex<HashMap<String, Vec<Instant>>>,
}

impl Flow {
    /// Both talk while `during` runs; returns when all has arrived.
    ///
    /// # Panics
    /// When something does not.
    #[track_caller]
    pub fn between(talkers: [&Daemon; 2], during: impl FnOnce()) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let flow = Self { number: NEXT.fetch_add(1, Ordering::Relaxed), ..Self::default() };
        let (quiet, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let sockets = talkers.map(|talker| (talker.name(), talker.home().socket()));
        // Both listen before anything is said.
        let listeners = talkers.map(|talker| (talker.api().status().peer.id, talker.api().events(None)));
        thread::scope(|scope| {
            let (flow, quiet, done) = (&flow, &quiet, &done);
            for (me, events) in listeners {
                scope.spawn(move || flow.listen(me, events, done));
            }
            for (name, socket) in &sockets {
                scope.spawn(move || flow.talk(name, socket, quiet));
            }
            during();
            quiet.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            while flow.lost() > 0 && begun.elapsed() < SOON {
                thread::sleep(TALK_EVERY);
            }
            done.store(true, Ordering::Relaxed);
        });
        flow
    }

    /// Both talk while something happens, and a while before and after.
    #[track_caller]
    fn through(talkers: [&Daemon; 2], what: impl FnOnce()) -> Self {
        Self::between(talkers, || {
            thread::sleep(BEFORE);
            what();
            thread::sleep(AFTER);
        })
    }

    fn talk(&self, name: &str, socket: &Path, quiet: &AtomicBool) {
        let api = DaemonApi::unix(socket);
        for number in 0.. {
            if quiet.load(Ordering::Relaxed) {
                return;
            }
            let text = format!("{name} {}.{number}", self.number);
            self.said.lock().expect("nobody panicked").insert(text.clone(), Instant::now());
            let request = SendRequest { text: text.clone(), ..SendRequest::default() };
            let reply = api.post_message(&request, &text).expect("a talker runs");
            assert_eq!(reply.status, 201, "{}", reply.text());
            thread::sleep(TALK_EVERY);
        }
    }

    fn listen(&self, me: PeerId, mut events: EventReader, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            let Ok(raw) = events.next(Duration::from_millis(100)) else { continue };
            if let Event::Message { message } = raw.envelope().event
                && message.from.id != me
            {
                self.heard.lock().expect("nobody panicked").entry(message.text).or_default().push(Instant::now());
            }
        }
    }

    /// Number of messages sent.
    ///
    /// # Panics
    /// When a talker did.
    pub fn said(&self) -> usize {
        self.said.lock().expect("nobody panicked").len()
    }

    /// Number of messages that have not arrived.
    ///
    /// # Panics
    /// When a talker did.
    pub fn lost(&self) -> usize {
        let heard = self.heard.lock().expect("nobody panicked");
        self.said.lock().expect("nobody panicked").keys().filter(|text| !heard.contains_key(*text)).count()
    }

    /// Number of messages that arrived more than once.
    ///
    /// # Panics
    /// When a talker did.
    pub fn repeated(&self) -> usize {
        self.heard.lock().expect("nobody panicked").values().filter(|times| times.len() > 1).count()
    }

    /// The longest time that a message was on its way.
    ///
    /// # Panics
    /// When a talker did.
    pub fn longest(&self) -> Duration {
        let heard = self.heard.lock().expect("nobody panicked");
        let said = self.said.lock().expect("nobody panicked");
        let times = said.iter().filter_map(|(text, at)| Some(heard.get(text)?.first()?.duration_since(*at)));
        times.max().unwrap_or_default()
    }
}
