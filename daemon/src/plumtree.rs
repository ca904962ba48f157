//! The broadcast tree of large rooms: adapts HyParView and PlumTree of `iroh_gossip::proto` to the core's `Tree`.
//!
//! Only the protocol's pure state machine is used. Its network half is not: it waits for slow peers, so that one of them
//! stalls all (see the crate documentation of `chat-core`'s `spread`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chat_core::delivery::tree::{TREE_MESSAGE_BYTES_MAX, Tree, TreeInput, TreeOutput};
use chat_core::input::Now;
use chat_proto::id::{PeerId, RoomId};
use iroh_gossip::proto::{
    Command, Config, Event, HyparviewConfig, InEvent, Message, OutEvent, PlumtreeConfig, Scope, State, Timer, TopicId,
};
use n0_future::time::Instant;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Number of neighbours of each member. The paper uses 5 for 10,000 nodes; some more make the tree flatter.
const ACTIVE_VIEW: usize = 7;

/// Number of members remembered as replacements for neighbours.
const PASSIVE_VIEW: usize = 40;

/// How long a message is kept for neighbours that request it again.
const CACHE_RETENTION: Duration = Duration::from_secs(10);

/// Maximum number of pending timers; further ones are dropped.
const TIMERS_MAX: usize = 64 * 1024;

/// The tree of one room, as one member sees it.
pub struct PlumTree {
    state: State<PeerId, StdRng>,
    topic: TopicId,
    start: Instant,
    timers: BTreeMap<(Duration, u64), Timer<PeerId>>,
    next: u64,
    out: VecDeque<TreeOutput>,
}

impl std::fmt::Debug for PlumTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlumTree").field("timers", &self.timers.len()).finish_non_exhaustive()
    }
}

impl PlumTree {
    /// Creates the tree of one member of a room; `seed` drives its random choices.
    pub fn new(me: PeerId, room: RoomId, seed: [u8; 32], now: Now) -> Self {
        let config = Config {
            membership: HyparviewConfig {
                active_view_capacity: ACTIVE_VIEW,
                passive_view_capacity: PASSIVE_VIEW,
                ..HyparviewConfig::default()
            },
            broadcast: PlumtreeConfig {
                message_cache_retention: CACHE_RETENTION,
                message_id_retention: CACHE_RETENTION * 3,
                ..PlumtreeConfig::default()
            },
            max_message_size: TREE_MESSAGE_BYTES_MAX,
        };
        let start = Instant::now().checked_sub(now.mono).unwrap_or_else(Instant::now);
        Self {
            state: State::new(me, iroh_gossip::proto::PeerData::default(), config, StdRng::from_seed(seed)),
            topic: TopicId::from(*room.as_bytes()),
            start,
            timers: BTreeMap::new(),
            next: 0,
            out: VecDeque::new(),
        }
    }

    fn feed(&mut self, event: InEvent<PeerId>, now: Now) {
        let out: Vec<OutEvent<PeerId>> = self.state.handle(event, self.start + now.mono, None).collect();
        for event in out {
            match event {
                OutEvent::SendMessage(peer, message) => match postcard::to_stdvec(&message) {
                    Ok(raw) => self.out.push_back(TreeOutput::Send(peer, raw)),
                    Err(error) => tracing::error!(%error, "message of the tree cannot be encoded"),
                },
                OutEvent::EmitEvent(_, Event::NeighborUp(peer)) => self.out.push_back(TreeOutput::Up(peer)),
                OutEvent::EmitEvent(_, Event::NeighborDown(peer)) => self.out.push_back(TreeOutput::Down(peer)),
                OutEvent::EmitEvent(_, Event::Received(message)) => {
                    self.out.push_back(TreeOutput::Received(message.delivered_from, message.content));
                }
                OutEvent::ScheduleTimer(after, timer) => self.schedule(now.mono + after, timer),
                OutEvent::DisconnectPeer(_) | OutEvent::PeerData(..) => {}
            }
        }
    }

    fn schedule(&mut self, at: Duration, timer: Timer<PeerId>) {
        if self.timers.len() < TIMERS_MAX {
            self.next += 1;
            self.timers.insert((at, self.next), timer);
        }
    }

    fn tick(&mut self, now: Now) {
        while let Some(entry) = self.timers.first_entry().filter(|entry| entry.key().0 <= now.mono) {
            let timer = entry.remove();
            self.feed(InEvent::TimerExpired(timer), now);
        }
    }
}

impl Tree for PlumTree {
    fn handle(&mut self, input: TreeInput, now: Now) {
        match input {
            TreeInput::Join(peers) => self.feed(InEvent::Command(self.topic, Command::Join(peers)), now),
            TreeInput::Broadcast(content) => {
                self.feed(InEvent::Command(self.topic, Command::Broadcast(content, Scope::Swarm)), now);
            }
            TreeInput::Message(peer, raw) => match postcard::from_bytes::<Message<PeerId>>(&raw) {
                Ok(message) => self.feed(InEvent::RecvMessage(peer, message), now),
                Err(error) => tracing::debug!(remote = %peer.short(), %error, "message of the tree not understood"),
            },
            TreeInput::Down(peer) => self.feed(InEvent::PeerDisconnected(peer), now),
            TreeInput::Tick => self.tick(now),
        }
    }

    fn poll_output(&mut self) -> Option<TreeOutput> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::time::Timestamp;

    const ROOM: RoomId = RoomId::from_bytes([9; 32]);

    fn now(ms: u64) -> Now {
        Now { mono: Duration::from_millis(ms), wall: Timestamp::from_ms(ms) }
    }

    fn peer(n: usize) -> PeerId {
        PeerId::from_bytes([n as u8; 32])
    }

    /// Delivers messages between trees until none is left; returns what each received.
    fn settle(trees: &mut [PlumTree], ms: u64) -> Vec<Vec<Vec<u8>>> {
        let mut received = vec![Vec::new(); trees.len()];
        loop {
            let mut moved = false;
            for from in 0..trees.len() {
                while let Some(output) = trees[from].poll_output() {
                    match output {
                        TreeOutput::Send(to, raw) => {
                            let to = usize::from(to.as_bytes()[0]);
                            trees[to].handle(TreeInput::Message(peer(from), raw), now(ms));
                            moved = true;
                        }
                        TreeOutput::Received(_, payload) => received[from].push(payload.to_vec()),
                        TreeOutput::Up(_) | TreeOutput::Down(_) => {}
                    }
                }
            }
            if !moved {
                return received;
            }
        }
    }

    #[test]
    fn broadcast_reaches_every_member_once() {
        const MEMBERS: usize = 40;
        let mut trees: Vec<PlumTree> =
            (0..MEMBERS).map(|n| PlumTree::new(peer(n), ROOM, [n as u8; 32], now(0))).collect();
        for n in 0..MEMBERS {
            let door = if n == 0 { Vec::new() } else { vec![peer(n / 2)] };
            trees[n].handle(TreeInput::Join(door), now(0));
            settle(&mut trees, 0);
        }
        trees[17].handle(TreeInput::Broadcast(bytes::Bytes::from_static(b"hello")), now(10));
        let mut received = vec![0; MEMBERS];
        for ms in 10..2_000 {
            for (count, payloads) in received.iter_mut().zip(settle(&mut trees, ms)) {
                *count += payloads.len();
            }
            for tree in &mut trees {
                tree.handle(TreeInput::Tick, now(ms));
            }
        }
        let expected: Vec<usize> = (0..MEMBERS).map(|n| usize::from(n != 17)).collect();
        assert_eq!(received, expected);
    }
}
