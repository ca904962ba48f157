//! Services on the TCP port: hello, watches, the relay of this peer, and the forwarder to the relay in use.

pub(crate) mod forwarder;
pub(crate) mod hello;
pub(crate) mod listener;
pub(crate) mod relay;
pub(crate) mod role_services;
pub(crate) mod services;
pub(crate) mod watch;
