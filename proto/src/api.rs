//! Bodies of the calls of the local API, a module for each family of calls.

pub mod invites;
pub mod members;
pub mod messages;
pub mod peers;
pub mod rendezvous;
pub mod status;
