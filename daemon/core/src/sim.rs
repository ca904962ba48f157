//! The simulations: many peers in one process, on a simulated network, driven from one seed.
//!
//! * [`room`]: whole nodes with machines, disks, clocks and a network that fail; people who act at random.
//! * `role`: the rendezvous role alone, which is fast enough for hours of simulated time and many seeds. Its stories
//!   (`rendezvous/stories/*.txt`) are tables of `given … when … then` steps.
//! * [`fuzz`]: functions over bytes that `cargo fuzz` calls; one of them plays a room with hostile members.
//!
//! Both are built on the modules beside them: `queue` (time and events), `clock` (the clocks of a machine, random spans),
//! `groups` (which peers are connected) and `seeds` (which seeds a test runs, figures).
//!
//! # How a run works
//!
//! A world holds its peers, one random number generator and one queue of events. An event is a closure that gets the world.
//! The world takes the earliest event, moves the clock to it and runs it. An event gives an input to a peer's state machine;
//! the world carries out the outputs, which schedules further events (a frame arrives, a write is flushed, a timer is due).
//! Time, randomness and I/O come from the world alone, so a run is a pure function of its seed: the same seed gives the same
//! trace, which is a digest of everything that happened.
//!
//! # How to reproduce a failure
//!
//! A failure prints `SEED=n` and, in the room simulation, the plan. `SEED=n cargo test -p chat-core NAME` runs that seed
//! again, `TRAIL=200` prints the last 200 inputs and outputs before the failure, `CHAT_SEEDS=1000` looks for further seeds.
//! A seed that found a defect becomes a test with a name. A seed keeps its meaning only as long as random numbers are drawn
//! in the same order.
//!
//! # How to add a fault
//!
//! In two files. In `room/plan.rs`, a variant of [`room::Fault`] and its entry in `ALL`. In `room/world/chaos.rs`, an arm in
//! `begin_fault` that does it, a `schedule` call that ends it, and a line in `end_faults` if it may last until the end of a
//! run. A new fault in `ALL` changes the plans of all seeds, and with them the traces; one in `HARSH` only those of
//! [`room::Plan::harsh`].
//!
//! Hostile members ([`room::Plan::hostile`]) attack in `room/hostile.rs`: an attack is a variant of [`room::Attack`], its entry in `ALL`
//! and an arm in `plot`.
//!
//! # What is checked
//!
//! At every step: `room/checks/checker.rs`. Where there are hostile members, rights besides: `room/checks/rights.rs`. At the end: `room/world/convergence.rs` and `role/checker.rs`. Tests name the promise they
//! prove: `grep -r "Promise P" daemon/core/src`.
//!
//! # What the simulations cannot see
//!
//! Anything outside the core: SQLite and the file system, sockets and QUIC, NATs and relays, threads and locks, HTTP, the
//! broadcast tree (`room/machine/flood_tree.rs` replaces it), direct messages (payloads are opaque), and the time that code takes.
//! End-to-end tests cover these.

pub(crate) mod branches;
mod clock;
pub mod fuzz;
mod groups;
mod queue;
#[cfg(test)]
pub(crate) mod role;
pub mod room;
pub(crate) mod seeds;
