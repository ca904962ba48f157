//! The room as a pure state machine.
//!
//! [`Node`](node::Node) is one peer of one room. It owns no socket, clock, thread, file or source of randomness: the
//! daemon feeds it [`Input`](input::Input)s together with the time, drains its [`Output`](output::Output)s and executes
//! them, and asks when it wants to be woken. Thousands of rooms with crashes, partitions and lost packets therefore run
//! in one process from one seed, and a bug that was found once can be shown again.
//!
//! * [`log`]: signed entries, hash chains, version vectors, what waits for its causes.
//! * [`membership`]: who belongs to the room, derived from the entries that are held and nothing else.
//! * [`rendezvous`]: the role of the front door: who holds it, who follows, when it moves.
//! * [`wire`]: frames between members.

pub mod admission;
pub mod config;
mod connectivity;
pub mod delivery;
pub mod input;
pub mod log;
pub mod membership;
pub mod node;
pub mod output;
pub mod peers;
pub mod rendezvous;
pub mod restore;
pub mod signature;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod timers;
pub mod token_bucket;
pub mod types;
pub mod wire;
