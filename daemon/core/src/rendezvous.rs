//! The rendezvous role: who holds it, who follows, and when it moves.
//!
//! [`Rendezvous`] is one peer's part in it, a pure state machine inside the node: it is told what happens
//! ([`RoleInput`]), says what to do ([`RoleOutput`]) and when it wants to be woken.

use std::collections::VecDeque;
use std::time::Duration;

use chat_proto::api::peers::RoleView;
use chat_proto::id::{PeerId, RoomId, Term};
use ed25519_dalek::SigningKey;

use crate::input::Now;
use crate::membership::roster::Roster;

pub mod io;
pub mod settings;

use io::{RoleInput, RoleOutput};
use settings::RoleSettings;

/// One peer's part in the rendezvous role.
#[derive(Debug)]
pub struct Rendezvous {
    out: VecDeque<RoleOutput>,
}

impl Rendezvous {
    /// A peer that just started and knows of no holder. `key` signs claims, lists and reports; `seed` spreads timers.
    pub fn new(_room: RoomId, _key: SigningKey, _settings: RoleSettings, _seed: u64, _now: Now) -> Self {
        Self { out: VecDeque::new() }
    }

    /// Takes one input; drain [`Rendezvous::poll_output`] afterwards.
    pub fn handle(&mut self, _input: RoleInput, _now: Now) {}

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<RoleOutput> {
        self.out.pop_front()
    }

    /// When [`RoleInput::Tick`] is wanted, in monotonic time; may change with every input.
    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    /// Who holds the role, and its term; nobody while the role moves.
    pub fn holder(&self) -> Option<(PeerId, Term)> {
        None
    }

    /// This peer's part.
    pub fn role(&self) -> RoleView {
        RoleView::Member
    }

    /// Any peer's part.
    pub fn role_of(&self, _peer: &PeerId) -> RoleView {
        RoleView::Member
    }

    /// A peer's place in the published ranking, from 1.
    pub fn rank_of(&self, _peer: &PeerId) -> Option<u32> {
        None
    }

    /// Whether members outside its own network reached this peer without being called first; unknown until one tried.
    pub fn inbound(&self) -> Option<bool> {
        None
    }

    /// The role as this peer knows it, for `GET /v1/rendezvous`.
    pub fn view(&self, _roster: &Roster) -> chat_proto::api::rendezvous::Rendezvous {
        chat_proto::api::rendezvous::Rendezvous {
            term: Term(0),
            holder: None,
            since: None,
            role: self.role(),
            ranking: Vec::new(),
            succession: 0,
            history: Vec::new(),
        }
    }
}
