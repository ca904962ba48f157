//! Connectivity: what each peer measures of others, and the order that follows from it.
//!
//! "Best connected" is what others observe, never what a peer says of itself. Every member measures whom it reaches
//! directly, how fast and with how much loss ([`measure`]), tries a rotating sample of the rest ([`sample`]) and reports
//! to the holder of the rendezvous role ([`report`]). The holder turns the reports into figures and an order ([`rank`]),
//! which it publishes and everybody can explain ([`explain`]).

pub(crate) mod explain;
pub(crate) mod measure;
pub(crate) mod network;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod sample;
