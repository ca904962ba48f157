//! The role simulation: many [`Rendezvous`](crate::rendezvous::Rendezvous) state machines, without the rest of the node.

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
