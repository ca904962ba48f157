//! Home routers: they translate addresses, and drop what no machine inside has asked for.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use super::{EXIT, Space};

/// The device towards the internet.
pub(super) const WAN: &str = "wan";

/// Network of every home, as most homes have it: the addresses say nothing about where they are.
const LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// Which outside port a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// The one it had inside, where that is free: holes can be punched.
    Keeping,
    /// An unpredictable one for every destination ("symmetric").
    Random,
}

impl Nat {
    fn rules(self) -> String {
        let how = match self {
            Self::Keeping => "",
            Self::Random => "random,fully-random",
        };
        format!(
            "
table ip home {{
    chain out {{ type nat hook postrouting priority srcnat; oifname {WAN} masquerade {how}; }}
    chain blocked {{ type filter hook forward priority -5; policy accept; }}
    chain passing {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan accept
    }}
    chain arriving {{
        type filter hook input priority 0; policy accept;
        iifname {WAN} ct state established,related accept
        iifname {WAN} drop
    }}
}}
"
        )
    }
}

/// A router and the network behind it.
#[derive(Debug)]
pub struct Router {
    space: Arc<Space>,
    nat: Nat,
    /// Number of addresses given out.
    leases: Cell<u8>,
}

impl Router {
    #[track_caller]
    pub(super) fn new(space: Space, nat: Nat) -> Self {
        space.ip(&format!("link add lan type bridge\nlink set lan up\naddr add {LAN}/24 dev lan\n"));
        space.forward();
        space.nft(&nat.rules());
        Self { space: Arc::new(space), nat, leases: Cell::new(0) }
    }

    /// Its address on the internet.
    pub fn addr(&self) -> Ipv4Addr {
        self.space.ip
    }

    /// Another machine behind it.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine(&self) -> Arc<Space> {
        let ip = self.lease();
        let machine = Space::new(ip);
        machine.plug("eth0", &self.space, "lan", &format!("port{}", ip.octets()[3]));
        machine.ip(&format!("addr add {ip}/24 dev eth0\nroute add default via {LAN}\n"));
        Arc::new(machine)
    }

    /// Gives a machine another address instead of that which it has.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn readdress(&self, machine: &Space) {
        let ip = self.lease();
        machine.command(Path::new("ip"), &["-4", "addr", "flush", "dev", "eth0"]).run().ok();
        machine.ip(&format!("addr add {ip}/24 dev eth0\nroute add default via {LAN}\n"));
    }

    /// An address that no machine has had.
    fn lease(&self) -> Ipv4Addr {
        let number = self.leases.get() + 1;
        self.leases.set(number);
        let [a, b, c, _] = LAN.octets();
        Ipv4Addr::new(a, b, c, 9 + number)
    }

    /// Takes both links down and up again, and forgets all flows: the kernel drops translated ones with the link, and the
    /// rules begin anew.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn reboot(&self) {
        self.space.ip(&format!("link set {WAN} down\nlink set lan down\n"));
        self.space.nft(&format!("delete table ip home\n{}", self.nat.rules()));
        self.space.ip(&format!("link set lan up\nlink set {WAN} up\nroute replace default via {EXIT}\n"));
    }

    /// Drops UDP between the inside and an address outside, or all of the outside. Flows that stand are cut, too.
    ///
    /// # Panics
    /// When the rule is refused.
    #[track_caller]
    pub fn block_udp(&self, other: Option<IpAddr>) {
        let (to, from) = match other {
            Some(ip) => (format!("ip daddr {ip}"), format!("ip saddr {ip}")),
            None => (format!("oifname {WAN}"), format!("iifname {WAN}")),
        };
        let rule = |side: &str| format!("add rule ip home blocked {side} ip protocol udp drop\n");
        self.space.nft(&(rule(&to) + &rule(&from)));
    }

    /// Drops UDP on its way out; what comes in from outside passes.
    ///
    /// # Panics
    /// When the rule is refused.
    #[track_caller]
    pub fn block_udp_out(&self) {
        self.space.nft(&format!("add rule ip home blocked oifname {WAN} ip protocol udp drop\n"));
    }

    /// Lets nothing out but TCP to this port, and its answers in. Flows that stand are cut, too.
    ///
    /// # Panics
    /// When the rule is refused.
    #[track_caller]
    pub fn only_tcp(&self, port: u16) {
        self.space.nft(&format!(
            "add rule ip home blocked oifname {WAN} tcp dport != {port} drop
             add rule ip home blocked oifname {WAN} ip protocol != tcp drop
             add rule ip home blocked iifname {WAN} tcp sport != {port} drop
             add rule ip home blocked iifname {WAN} ip protocol != tcp drop\n"
        ));
    }

    /// Takes back what was blocked.
    ///
    /// # Panics
    /// When the rules are refused.
    #[track_caller]
    pub fn unblock_udp(&self) {
        self.space.nft("flush chain ip home blocked");
    }
}
