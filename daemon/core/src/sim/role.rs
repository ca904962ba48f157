//! A small deterministic world for the role: many [`Rendezvous`](super::Rendezvous) machines over a network that loses,
//! delays and reorders, with peers that crash, sleep and come back. One seed, one course of events.
//!
//! `SEED=n` runs one seed of a test, `CHAT_SEEDS=n` so many of them; a failure prints its seed.

mod chaos;
mod check;
mod cost;
mod events;
mod failover;
mod matrix;
mod net;
pub(crate) mod peer;
mod split;
mod steady;
mod story;
mod world;
