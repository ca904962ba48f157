//! Simulations: peers in one process on a simulated network, driven from one seed.
//!
//! * [`room`]: whole nodes with machines, disks and a network that fails in every way.
//! * `role`: the rendezvous role alone, with more peers, more runs and the stories.

mod clock;
mod groups;
mod queue;
#[cfg(test)]
pub(crate) mod role;
pub mod room;
#[cfg(test)]
pub(crate) mod seeds;
