//! A simple broadcast tree for large rooms, which floods new messages to all neighbours. It replaces the tree that the
//! daemon supplies.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use chat_proto::id::PeerId;

use crate::delivery::tree::{Tree, TreeInput, TreeOutput};
use crate::input::Now;

/// Maximum number of neighbours that one input may ask for.
const NEIGHBOURS_SOUGHT: usize = 3;

/// Maximum number of neighbours; one more displaces another.
const NEIGHBOURS_MAX: usize = 6;

const JOIN: u8 = 0;
const WELCOME: u8 = 1;
const DATA: u8 = 2;
const LEAVE: u8 = 3;

/// The tree of one machine.
#[derive(Debug, Default)]
pub(in crate::sim::room) struct Flood {
    neighbours: BTreeSet<PeerId>,
    seen: BTreeSet<[u8; 32]>,
    welcomed: usize,
    out: VecDeque<TreeOutput>,
}

impl Flood {
    fn welcome(&mut self, peer: PeerId) {
        if !self.neighbours.insert(peer) {
            return;
        }
        self.out.push_back(TreeOutput::Up(peer));
        if self.neighbours.len() > NEIGHBOURS_MAX {
            // Which one does not matter, but it must not depend on chance.
            self.welcomed += 1;
            let others = self.neighbours.iter().filter(|other| **other != peer);
            let given_up = others.copied().nth(self.welcomed % NEIGHBOURS_MAX);
            if let Some(other) = given_up {
                self.out.push_back(TreeOutput::Send(other, vec![LEAVE]));
                self.part(other);
            }
        }
    }

    fn part(&mut self, peer: PeerId) {
        if self.neighbours.remove(&peer) {
            self.out.push_back(TreeOutput::Down(peer));
        }
    }

    fn pass_on(&mut self, data: &[u8], from: Option<PeerId>) {
        let message = [&[DATA], data].concat();
        for peer in self.neighbours.iter().filter(|peer| Some(**peer) != from) {
            self.out.push_back(TreeOutput::Send(*peer, message.clone()));
        }
    }

    fn take(&mut self, from: PeerId, raw: &[u8]) {
        match raw.split_first() {
            Some((&JOIN, [])) => {
                self.welcome(from);
                self.out.push_back(TreeOutput::Send(from, vec![WELCOME]));
            }
            Some((&WELCOME, [])) => self.welcome(from),
            Some((&LEAVE, [])) => self.part(from),
            Some((&DATA, data)) => {
                if self.seen.insert(*blake3::hash(data).as_bytes()) {
                    self.pass_on(data, Some(from));
                    self.out.push_back(TreeOutput::Received(from, Bytes::copy_from_slice(data)));
                }
            }
            Some(_) | None => {}
        }
    }
}

impl Tree for Flood {
    fn handle(&mut self, input: TreeInput, _now: Now) {
        match input {
            TreeInput::Join(peers) => {
                for peer in peers.into_iter().take(NEIGHBOURS_SOUGHT) {
                    self.out.push_back(TreeOutput::Send(peer, vec![JOIN]));
                }
            }
            TreeInput::Broadcast(data) => {
                self.seen.insert(*blake3::hash(&data).as_bytes());
                self.pass_on(&data, None);
            }
            TreeInput::Message(from, raw) => self.take(from, &raw),
            TreeInput::Down(peer) => self.part(peer),
            TreeInput::Tick => {}
        }
    }

    fn poll_output(&mut self) -> Option<TreeOutput> {
        self.out.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        None
    }
}
