//! The role simulation: many [`Rendezvous`](crate::rendezvous::Rendezvous) state machines, without the rest of the node,
//! over a network that loses, delays and reorders, with peers that crash, sleep and come back.
//!
//! * `world`, `connections`, `peer`, `network`: the simulated world.
//! * `checker`: what must hold, called by the tests.
//! * `chaos`, `cost`, `failover`, `matrix`, `split`, `steady`, `stories`: tests.

mod chaos;
mod checker;
mod connections;
mod cost;
mod failover;
mod matrix;
mod network;
pub(crate) mod peer;
mod split;
mod steady;
mod stories;
mod world;
