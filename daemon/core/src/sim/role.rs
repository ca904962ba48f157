//! The role simulation: many [`Rendezvous`](crate::rendezvous::Rendezvous) state machines, without the rest of the node,
//! over a network that loses, delays and reorders, with peers that crash, sleep and come back.
//!
//! * `world`, `connections`, `peer`, `network`: the simulated world.
//! * `checker`: what must hold, called by the tests.
//! * `tests`: runs with random faults, tables of times and costs, and the stories.

mod checker;
mod connections;
mod network;
pub(crate) mod peer;
mod tests;
mod world;
