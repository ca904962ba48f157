//! Services on the TCP port: the hello, watches, the relay and the path to it.

pub(crate) mod forwarder;
pub(crate) mod hello;
pub(crate) mod relay;
pub(crate) mod role_services;
pub(crate) mod services;
pub(crate) mod watch;
