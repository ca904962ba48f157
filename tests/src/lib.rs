//! The harness under the end-to-end tests and the demo: real daemons in temporary homes, and ways to look at them.
//!
//! A test starts peers with [`daemon::Start`] or a whole room with [`cluster::Room`], talks through the commands
//! ([`process::Command`]), the API ([`api::Api`]) or the event stream ([`events::Events`]), and waits with
//! [`eventually::eventually`]. What is started ends with the value that stands for it, also when the test panics; the end
//! of the daemon's log is printed then.
//!
//! Everything here panics when a daemon does not do what the documentation says: a test has nothing better to do.
//! Networks are loopback addresses of `127.0.0.0/8`, one for each daemon ([`home::Home::ip`]), so that tests run side by
//! side and a daemon keeps its address when it starts again; or namespaces with a network of their own ([`netns`]). That
//! takes Linux.

pub mod api;
pub mod binaries;
pub mod cluster;
pub mod crash;
pub mod daemon;
pub mod events;
pub mod eventually;
pub mod failover;
pub mod home;
pub mod idle;
pub mod load;
pub mod nat;
pub mod netns;
pub mod process;
pub mod split;
pub mod transcript;
pub mod usage;
