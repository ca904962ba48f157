//! Tests of the store as its users see it.

pub(super) mod cast;
mod disk;
mod following;
mod history;
mod persist;
