//! Tests of the role alone; [`crate::sim`] explains how to reproduce one.

mod chaos;
mod cost;
mod failover;
mod matrix;
mod split;
mod steady;
mod stories;
