//! Real endpoints on loopback.

mod admission;
mod connections;
mod hello;
mod peers;
mod relay;
mod strangers;
