//! Two machines on one cable, without a router.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::{BEGIN, DEVICE, Space};

/// Two machines on one cable. Neither has a default route.
#[derive(Debug)]
pub struct Cable {
    /// One end.
    pub one: Arc<Space>,
    /// The other end.
    pub other: Arc<Space>,
}

/// Which addresses the machines on a cable have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CableAddrs {
    /// Of one network, set by hand.
    Fixed,
    /// Link-local, as machines give themselves where no DHCP server answers (RFC 3927).
    LinkLocal,
}

impl Cable {
    /// Two machines and the cable between them, which is plugged in; `None` without root, with a word on standard error.
    ///
    /// # Panics
    /// When they cannot be made though the environment has `CI`, or a tool is missing.
    #[track_caller]
    pub fn new(addrs: CableAddrs) -> Option<Self> {
        let cable = Self::unplugged(addrs)?;
        cable.plug_in();
        Some(cable)
    }

    /// The same, with the cable's ends still down.
    ///
    /// # Panics
    /// As [`Cable::new`].
    #[track_caller]
    pub fn unplugged(addrs: CableAddrs) -> Option<Self> {
        super::root()?;
        let (net, prefix) = match addrs {
            CableAddrs::Fixed => ([10, 77], 24),
            CableAddrs::LinkLocal => ([169, 254], 16),
        };
        let [one, other] = [1, 2].map(|number| Space::new(Ipv4Addr::new(net[0], net[1], 1, number)));
        one.ip(&format!("link add {DEVICE} type veth peer name {DEVICE} netns {}\n", other.keeper.id()));
        for end in [&one, &other] {
            end.ip(&format!("addr add {}/{prefix} dev {DEVICE}\n", end.ip));
        }
        Some(Self { one: Arc::new(one), other: Arc::new(other) })
    }

    /// Brings both ends up.
    ///
    /// # Panics
    /// When `ip` fails.
    #[track_caller]
    pub fn plug_in(&self) {
        for end in [&self.one, &self.other] {
            end.ip(&format!("{BEGIN}link set {DEVICE} up\n"));
        }
    }
}
