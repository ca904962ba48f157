//! What happens to the path between two talkers behind routers, and how it ends.

use std::fmt;
use std::time::{Duration, Instant};

use chat_proto::api::peers::PathView;

use super::{Flow, NatScene};

/// What happens to the path between the talkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Trouble {
    /// No UDP passes the routers of both any more.
    UdpLost,
    /// What the first sends by UDP is lost behind its router; what is sent to it arrives.
    OneWayLoss,
    /// The machine of the first gets another address.
    AddressChanged,
    /// The router of the first restarts: its links go down and up, and it has forgotten every flow.
    RouterReboot,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UdpLost => "no UDP passes",
            Self::OneWayLoss => "UDP passes one way only",
            Self::AddressChanged => "another address",
            Self::RouterReboot => "the router restarts",
        })
    }
}

impl NatScene {
    /// Both talk to each other all the time, and after a second the path between them is in trouble.
    ///
    /// # Panics
    /// When what they said does not arrive in the end, or the first has no router.
    #[track_caller]
    pub fn suffer(&self, trouble: Trouble) -> Flow {
        let [router, _] = &self.routers;
        let router = router.as_ref().expect("the first is at home");
        Flow::through([&self.one, &self.other], || match trouble {
            Trouble::UdpLost => {
                for router in self.routers.iter().flatten() {
                    router.block_udp(None);
                }
            }
            Trouble::OneWayLoss => router.block_udp_out(),
            Trouble::AddressChanged => router.readdress(&self.machines[0]),
            Trouble::RouterReboot => router.reboot(),
        })
    }

    /// Ends the trouble; returns how soon both talkers reach each other directly.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn recover(&self) -> Duration {
        for router in self.routers.iter().flatten() {
            router.unblock_udp();
        }
        let begun = Instant::now();
        self.reached_by(PathView::Direct);
        begun.elapsed()
    }
}
