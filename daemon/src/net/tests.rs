//! Real endpoints on loopback.

mod admission;
mod admission_over_tcp;
mod connections;
mod hello;
mod peers;
mod relay;
mod strangers;
