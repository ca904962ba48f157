//! Connectivity: what each peer measures of other members, and the ranking that follows from it.
//!
//! "Best connected" is what others observe, never what a peer reports of itself. Every member measures which members it
//! reaches directly, how fast and with how much loss ([`measure`]), probes a rotating sample of the rest ([`sample`]) and
//! reports to the holder of the rendezvous role ([`report`]). The holder turns the reports into figures and a ranking
//! ([`rank`]), which it publishes and every member can explain ([`explain`]).

pub(crate) mod explain;
pub(crate) mod measure;
pub(crate) mod network;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod sample;
