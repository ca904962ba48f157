//! The harness under the end-to-end tests and the demo: real daemons in temporary homes, and ways to look at them.
//!
//! A test starts peers with [`daemon::StartDaemon`] or a whole room with [`cluster::TestRoom`], talks through the commands
//! ([`process::TestCommand`]), the API ([`api::DaemonApi`]) or the event stream ([`api::events::EventReader`]), and waits with
//! [`eventually::eventually`]. A process ends with the value that represents it, also when the test panics; the end
//! of the daemon's log is printed then.
//!
//! Everything here panics when a daemon does not do what the documentation says: a test has nothing better to do.
//! Networks are loopback addresses of `127.0.0.0/8`, one for each daemon ([`home::TestHome::ip`]), with another port than the
//! usual one, so that tests run side by side and beside a daemon of this machine; or namespaces with a network of their own
//! ([`netns`]). That takes Linux. Nothing is left behind: no file, no process.
//!
//! Which tests show which promise of the design; each file has its label, `Promise P3`, in its first lines:
//!
//! | promise | end to end (`tests/tests`) | at any size (`tests/src/bin`) |
//! |---|---|---|
//! | P1 acknowledged messages survive | `durability`, `power_loss`, `torture` | `crash`, `power-loss`, `torture` |
//! | P2 same messages, same order | `coming_back`, `mesh`, `talking`, `torture` | `crash`, `split`, `torture` |
//! | P3 losing the holder loses nothing | `failover`, `mesh` | `failover` |
//! | P4 the role is held again at once | `failover` | `failover`, which measures it |
//! | P5 halves merge | `failover`, `mesh` | `split`, which measures it |
//! | P6 only members, only recipients | `joining`, `talking` | |
//! | P7 bad input is refused | `errors`, `curl`, `strangers` | |
//! | P8 streams resume, sends post once | `streams`, `sending_once`, `torture` | `torture` |
//! | P9 wrong clocks do no harm | `clocks`, `torture` | `torture` |
//! | P10 one cable, TCP only | `nat`, in part | `nat` |
//!
//! Promise P10: see the `nat` tests.

pub mod api;
pub mod cluster;
pub mod daemon;
pub mod eventually;
pub mod home;
pub mod load;
pub mod netns;
pub mod process;
pub mod scenarios;
pub mod transcript;
pub mod usage;
