//! The room in which the holder is taken away and comes back.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::id::{PeerId, Term};

use super::listening::{Heard, Listening};
use super::{FailoverPlan, NoNetwork, Way};
use crate::cluster::{TestRoom, all_online, view};
use crate::daemon::{Daemon, StartDaemon};
use crate::eventually::eventually;
use crate::netns::{Space, TestNetwork};

/// How long all peers talk before the holder is taken away.
const BEFORE: Duration = Duration::from_millis(500);

/// How long after the end of the holder the others are listened to, at most.
const ROUND_MAX: Duration = Duration::from_secs(10);

/// A failover that takes longer is looked into.
const KNOWN_LONG: Duration = Duration::from_millis(1_200);

/// A message that takes longer is looked into.
const STALL_LONG: Duration = Duration::from_millis(300);

/// How long they go on once all know the next holder.
const AFTER: Duration = Duration::from_millis(1_000);

/// Timeout for all peers to agree on one holder before a round.
const AGREED_MAX: Duration = Duration::from_secs(90);

/// The peers, and what is around them.
pub(super) struct FailoverStage {
    plan: FailoverPlan,
    pub(super) room: TestRoom,
    spaces: Vec<Arc<Space>>,
    away: Option<usize>,
    _network: Option<TestNetwork>,
}

impl FailoverStage {
    pub(super) fn new(plan: FailoverPlan) -> Result<Self, NoNetwork> {
        let names: Vec<String> = ('a'..='z').take(plan.peers).map(|letter| format!("peer-{letter}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if plan.way != Way::Drop {
            let (room, spaces) = (TestRoom::of(&names), Vec::new());
            return Ok(Self { plan, room, spaces, away: None, _network: None });
        }
        let mut network = TestNetwork::new().ok_or(NoNetwork)?;
        let spaces: Vec<Arc<Space>> = names.iter().map(|_| network.machine()).collect();
        let founder = StartDaemon::found(names[0]).inside(&spaces[0]).start();
        let ticket = founder.ticket();
        let others = names.iter().zip(&spaces).skip(1);
        let others = others.map(|(name, space)| StartDaemon::join(name, &ticket).inside(space).start());
        let room = TestRoom { peers: [founder].into_iter().chain(others).collect() };
        Ok(Self { plan, room, spaces, away: None, _network: Some(network) })
    }

    /// One round: all peers talk, the holder is taken away, the others are observed.
    pub(super) fn play(&mut self, round: usize) -> Heard {
        self.room.all_online();
        let (holder, term) = agreed(&self.room);
        let ids: Vec<PeerId> = self.room.peers.iter().map(|peer| peer.api().status().peer.id).collect();
        let victim = ids.iter().position(|id| *id == holder).expect("the holder is a peer of the room");
        let listening = Listening::new(&self.room, &ids);
        let mut gone = Instant::now();
        thread::scope(|scope| {
            listening.begin(scope, round);
            thread::sleep(BEFORE);
            gone = Instant::now();
            self.take_away(victim);
            while gone.elapsed() < ROUND_MAX && !listening.all_know(holder, term) {
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(AFTER);
            listening.end();
            self.wake();
        });
        let mut heard = listening.sum_up(holder, term, gone);
        let last = heard.known_by.iter().max_by_key(|(_, known)| *known).map(|(name, _)| name.clone());
        if heard.known > KNOWN_LONG || heard.stall() > STALL_LONG {
            let suspects = last.into_iter().chain(heard.slowest.iter().map(|(_, text, _)| text.clone()));
            let suspects: Vec<String> = suspects.collect();
            let late = |peer: &&Daemon| suspects.iter().any(|suspect| suspect.starts_with(peer.name()));
            let log = |peer: &Daemon| format!("--- {}\n{}\n", peer.name(), peer.said());
            heard.log = Some(self.room.peers.iter().filter(late).map(log).collect());
        }
        heard
    }

    fn take_away(&mut self, victim: usize) {
        self.away = Some(victim);
        let peer = &mut self.room.peers[victim];
        match self.plan.way {
            Way::Kill => peer.kill(),
            Way::Suspend => peer.suspend(),
            Way::Leave => peer.stop(),
            Way::Drop => self.spaces[victim].silence(),
        }
    }

    /// Resumes a peer that was only suspended.
    fn wake(&self) {
        let Some(away) = self.away else { return };
        match self.plan.way {
            Way::Suspend => self.room.peers[away].resume(),
            Way::Drop => self.spaces[away].speak(),
            Way::Kill | Way::Leave => {}
        }
    }

    /// The one that was taken away comes back, and all see all.
    pub(super) fn come_back(&mut self) {
        let Some(away) = self.away.take() else { return };
        match self.plan.way {
            Way::Suspend | Way::Drop => {}
            Way::Kill | Way::Leave => self.room.peers[away].start_again(),
        }
        let peers: Vec<&Daemon> = self.room.peers.iter().collect();
        all_online(&peers);
    }
}

/// Waits until all peers know the same holder and that a peer follows it.
pub(super) fn agreed(room: &TestRoom) -> (PeerId, Term) {
    eventually(AGREED_MAX, "everybody knows the same holder", || {
        let views: Vec<RendezvousView> = room.peers.iter().map(view).collect();
        let held = |view: &RendezvousView| view.holder.as_ref().map(|holder| (holder.id, view.term));
        let first = held(&views[0]).ok_or("nobody holds the role")?;
        let standbys = views.iter().map(|view| view.succession).min().unwrap_or_default();
        if !views.iter().all(|view| held(view) == Some(first)) {
            return Err(format!("{:?}", views.iter().map(held).collect::<Vec<_>>()));
        }
        if standbys == 0 { Err("nobody is on the succession list".into()) } else { Ok(first) }
    })
}
