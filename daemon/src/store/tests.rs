//! Tests of the store as its users see it.

mod damage;
mod disk;
pub(super) mod fixture;
mod following;
mod history;
mod persist;
mod retention;
