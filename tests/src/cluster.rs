//! Whole rooms of real daemons.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use chat_proto::api::messages::Message;
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::id::Term;

use crate::daemon::{Daemon, StartDaemon};
use crate::eventually::{SOON, eventually};

/// A room and its peers.
#[derive(Debug)]
pub struct TestRoom {
    /// The peers, the founder first.
    pub peers: Vec<Daemon>,
}

impl TestRoom {
    /// A room that the first founds and the others join by ticket; returns when all see all online.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn of(names: &[&str]) -> Self {
        let (founder, others) = names.split_first().expect("a room has a founder");
        let founder = StartDaemon::found(founder).start();
        let mut room = Self { peers: vec![founder] };
        if !others.is_empty() {
            let ticket = room.peers[0].ticket();
            room.peers.extend(others.iter().map(|name| StartDaemon::join(name, &ticket).start()));
        }
        room.all_online();
        room
    }

    /// Waits until every peer that runs sees all that run online.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn all_online(&self) {
        let running: Vec<&Daemon> = self.peers.iter().filter(|peer| peer.runs()).collect();
        all_online(&running);
    }

    /// Waits until every running peer has the same history of `messages` messages, and returns it.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn same_history(&self, messages: usize) -> Vec<Message> {
        let running: Vec<&Daemon> = self.peers.iter().filter(|peer| peer.runs()).collect();
        same_history(&running, messages, SOON)
    }
}

impl Index<&str> for TestRoom {
    type Output = Daemon;

    fn index(&self, name: &str) -> &Daemon {
        self.peers.iter().find(|peer| peer.name() == name).expect("a peer of the room")
    }
}

impl IndexMut<&str> for TestRoom {
    fn index_mut(&mut self, name: &str) -> &mut Daemon {
        self.peers.iter_mut().find(|peer| peer.name() == name).expect("a peer of the room")
    }
}

/// Waits until each of these sees all of these online.
///
/// # Panics
/// When that does not come about.
#[track_caller]
pub fn all_online(peers: &[&Daemon]) {
    eventually(SOON, "all peers see each other online", || {
        for peer in peers {
            let seen = peer.api().peers();
            for other in peers {
                let view = seen.iter().find(|view| view.peer.name == other.name());
                if !view.is_some_and(|view| view.online) {
                    return Err(format!("{} sees {view:?} for {}", peer.name(), other.name()));
                }
            }
        }
        Ok(())
    });
}

/// Waits until each of these sees `name` as gone.
///
/// # Panics
/// When that does not come about.
#[track_caller]
pub fn all_miss(peers: &[&Daemon], name: &str) {
    eventually(SOON, "all peers see that a peer is gone", || {
        for peer in peers {
            let seen = peer.api().peers();
            if seen.iter().any(|view| view.peer.name == name && view.online) {
                return Err(format!("{} still sees {name}", peer.name()));
            }
        }
        Ok(())
    });
}

/// Waits until all `peers` have the same history of `messages` messages to the room, and returns it.
///
/// # Panics
/// When that does not come about.
#[track_caller]
pub fn same_history(peers: &[&Daemon], messages: usize, deadline: Duration) -> Vec<Message> {
    eventually(deadline, "the same history everywhere", || {
        let mut first: Option<(&str, Vec<Message>)> = None;
        for peer in peers {
            let mut history = peer.api().history();
            history.retain(|message| message.to.is_empty());
            // Each peer compares dates with its own clock.
            history.iter_mut().for_each(|message| message.clock_off_ms = None);
            if history.len() != messages {
                return Err(format!("{} has {} messages of {messages}", peer.name(), history.len()));
            }
            match &first {
                None => first = Some((peer.name(), history)),
                Some((name, other)) if *other != history => {
                    let at = other.iter().zip(&history).position(|(one, two)| one != two);
                    return Err(format!("{name} and {} differ from message {at:?} on", peer.name()));
                }
                Some(_) => {}
            }
        }
        Ok(first.expect("at least one peer").1)
    })
}

/// What a peer knows of the role.
pub fn view(peer: &Daemon) -> RendezvousView {
    peer.api().rendezvous()
}

/// Waits until all of these know the same holder, one of them, and gives its name and term.
///
/// # Panics
/// When that does not come about.
#[track_caller]
pub fn one_of_them_holds(peers: &[&Daemon]) -> (String, Term) {
    eventually(SOON, "one of them holds the role, and all know", || {
        let held: BTreeSet<(Option<String>, Term)> = peers
            .iter()
            .map(|peer| view(peer))
            .map(|view| (view.holder.map(|holder| holder.name), view.term))
            .collect();
        match held.first() {
            Some((Some(holder), term)) if held.len() == 1 && peers.iter().any(|peer| peer.name() == holder) => {
                Ok((holder.clone(), *term))
            }
            Some(_) | None => Err(format!("{held:?}")),
        }
    })
}
