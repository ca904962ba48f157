//! Tests of the node, alone and with a few others, one input at a time.

mod admission;
mod causes;
mod clocks;
mod disk;
mod entries;
mod forger;
mod forks;
mod hostile;
mod kit;
mod links;
mod posts;
mod retention;
