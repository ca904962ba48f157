//! Networks made of namespaces: machines with public addresses, and homes behind routers that translate addresses.
//!
//! A [`TestNetwork`] is one bridge, the internet, on which every machine and every router has an address in a network of its
//! own; packets to any other address are counted ([`TestNetwork::strays`]) and dropped. Daemons get into a namespace with
//! [`StartDaemon::inside`](crate::daemon::StartDaemon::inside); their API is reached from anywhere on its Unix socket.
//!
//! Namespaces have no names here: each lives as long as a process that waits for the end of its input, which comes when the
//! [`Space`] is dropped and also when this process is killed. So nothing is left behind, and tests run side by side.
//! It takes root, `ip`, `nft` and `nsenter`.

mod cable;
mod router;

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

pub use cable::{Cable, CableAddrs};
pub use router::{Nat, Router};

use crate::process::TestCommand;

/// What every namespace needs before anything else: loopback for the daemon's own parts.
const BEGIN: &str = "link set lo up\n";

/// Where the internet has its exit: packets to an address that is not on the bridge are sent there.
const EXIT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The device of a machine with a public address.
pub const DEVICE: &str = "eth0";

/// Bits of an address that are the same on the whole internet of these tests, the range set aside for benchmarks.
const PREFIX: u8 = 15;

/// Counts and drops packets to addresses that do not exist. A peer that learns a member's address in its home network may
/// try it, since it cannot know that this is not its own home network: such packets are not counted.
const COUNT_STRAYS: &str = "
table ip strays {
    counter strays { }
    chain arriving { type filter hook prerouting priority raw; policy drop; ip daddr 192.168.0.0/16 drop; counter name strays; }
}
";

/// Lets nothing in or out but what stays on the machine.
const SILENCE: &str = "
table inet silence {
    chain arriving { type filter hook input priority -10; policy drop; iifname lo accept; }
    chain leaving { type filter hook output priority -10; policy drop; oifname lo accept; }
}
";

/// A network namespace.
#[derive(Debug)]
pub struct Space {
    keeper: Child,
    ip: Ipv4Addr,
}

impl Space {
    /// An empty namespace, but for loopback.
    #[track_caller]
    fn new(ip: Ipv4Addr) -> Self {
        let mut keeper = std::process::Command::new("unshare");
        keeper.args(["--net", "sh", "-c", "echo ready; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().expect("util-linux is installed");
        let mut line = String::new();
        let said = BufReader::new(keeper.stdout.take().expect("piped")).read_line(&mut line);
        let space = Self { keeper, ip };
        assert!(said.is_ok() && line == "ready\n", "a network namespace takes root");
        space.ip(BEGIN);
        space
    }

    /// Its address.
    pub fn addr(&self) -> Ipv4Addr {
        self.ip
    }

    /// A command inside.
    pub fn command(&self, program: &Path, args: &[&str]) -> TestCommand {
        let mut words = vec![format!("--net=/proc/{}/ns/net", self.keeper.id()), "--".into()];
        words.push(program.to_string_lossy().into_owned());
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        TestCommand::new(Path::new("nsenter"), words)
    }

    /// Runs `ip` inside, a command a line.
    ///
    /// # Panics
    /// When one of them fails.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        self.command(Path::new("ip"), &["-batch", "-"]).input(lines).run().ok();
    }

    /// Runs `nft` inside.
    ///
    /// # Panics
    /// When it refuses the rules.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        self.command(Path::new("nft"), &["-f", "-"]).input(rules).run().ok();
    }

    /// Drops every packet in and out, as if the cable were pulled, without notice to any peer.
    ///
    /// # Panics
    /// When it is silent already.
    #[track_caller]
    pub fn silence(&self) {
        self.nft(SILENCE);
    }

    /// Ends the silence.
    ///
    /// # Panics
    /// When it was not silent.
    #[track_caller]
    pub fn speak(&self) {
        self.nft("delete table inet silence");
    }

    /// A cable from a device here to a new port, called `port`, of a bridge in another namespace.
    #[track_caller]
    fn plug(&self, device: &str, hub: &Self, bridge: &str, port: &str) {
        self.ip(&format!(
            "link add {device} type veth peer name {port} netns {}\nlink set {device} up\n",
            hub.keeper.id()
        ));
        hub.ip(&format!("link set {port} master {bridge} up\n"));
    }

    /// Lets packets for others pass, and writes a setting of the kernel's that need not exist.
    #[track_caller]
    fn forward(&self) {
        let script = "echo 1 > /proc/sys/net/ipv4/ip_forward
            cd /proc/sys/net/bridge 2> /dev/null && echo 0 > bridge-nf-call-iptables || true";
        self.command(Path::new("sh"), &["-c", script]).run().ok();
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // It may have ended already.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Whether this process may make namespaces: without root their tests are left out, with a word on standard error.
#[track_caller]
fn root() -> Option<()> {
    if rustix::process::geteuid().is_root() {
        return Some(());
    }
    assert!(std::env::var_os("CI").is_none(), "network namespaces take root");
    // A closed output does not matter.
    let _ = writeln!(std::io::stderr(), "LEFT OUT: network namespaces take root");
    None
}

/// An internet of namespaces.
#[derive(Debug)]
pub struct TestNetwork {
    world: Arc<Space>,
    sites: u8,
}

impl TestNetwork {
    /// An empty internet, where one can be made: without root it is left out, with a word on standard error.
    ///
    /// # Panics
    /// When it cannot be made though the environment has `CI`, or a tool is missing.
    #[track_caller]
    pub fn new() -> Option<Self> {
        root()?;
        let world = Arc::new(Space::new(EXIT));
        world.ip("link add internet type bridge\nlink set internet up\n");
        world.ip(&format!("addr add {EXIT}/{PREFIX} dev internet\n"));
        world.forward();
        world.nft(COUNT_STRAYS);
        Some(Self { world, sites: 0 })
    }

    /// A machine with a public address.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn machine(&mut self) -> Arc<Space> {
        Arc::new(self.site(DEVICE))
    }

    /// A home behind a router.
    ///
    /// # Panics
    /// When it cannot be made.
    #[track_caller]
    pub fn home(&mut self, nat: Nat) -> Router {
        Router::new(self.site(router::WAN), nat)
    }

    /// Limits what the link of a machine carries, each way, in kbit/s; what waits longer than half a second is dropped.
    ///
    /// # Panics
    /// When `tc` is missing or refuses.
    #[track_caller]
    pub fn limit(&self, machine: &Space, kbit: u32) {
        let [_, _, site, _] = machine.ip.octets();
        for (space, device) in [(machine, DEVICE.to_owned()), (&*self.world, format!("site{site}"))] {
            let rate = format!("{kbit}kbit");
            let queue = ["tbf", "rate", &rate, "burst", "3kb", "latency", "500ms"];
            let args = [&["qdisc", "add", "dev", &device, "root"][..], &queue].concat();
            space.command(Path::new("tc"), &args).run().ok();
        }
    }

    /// Packets that were sent to addresses that are not on this internet.
    ///
    /// # Panics
    /// When they cannot be counted.
    #[track_caller]
    pub fn strays(&self) -> u64 {
        let args = ["-j", "list", "counter", "ip", "strays", "strays"];
        let listed = self.world.command(Path::new("nft"), &args).run().ok();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("-j prints JSON");
        let counters = listed["nftables"].as_array().expect("a list");
        counters.iter().find_map(|entry| entry["counter"]["packets"].as_u64()).expect("the counter was made")
    }

    /// A namespace with an address and a network of its own.
    #[track_caller]
    fn site(&mut self, device: &str) -> Space {
        self.sites += 1;
        let site = Space::new(Ipv4Addr::new(198, 18, self.sites, 2));
        site.plug(device, &self.world, "internet", &format!("site{}", self.sites));
        site.ip(&format!("addr add {}/{PREFIX} dev {device}\nroute add default via {EXIT}\n", site.ip));
        site
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pings(from: &Space, to: Ipv4Addr) -> bool {
        let script = format!("exec 3<>/dev/udp/{to}/9 && echo hello >&3");
        from.command(Path::new("bash"), &["-c", &script]).run().status.success()
    }

    #[test]
    fn what_leaves_for_somewhere_else_is_counted() {
        let Some(mut network) = TestNetwork::new() else { return };
        let (one, other) = (network.machine(), network.machine());
        assert!(pings(&one, other.addr()));
        assert_eq!(network.strays(), 0, "they are on the same internet");
        assert!(pings(&one, Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(network.strays(), 1);
        let home = network.home(Nat::Keeping);
        assert!(pings(&home.machine(), Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(network.strays(), 2, "also what comes from behind a router");
    }

    #[test]
    fn nothing_is_left_behind() {
        let Some(mut network) = TestNetwork::new() else { return };
        let machine = network.machine();
        let place = format!("/proc/{}/ns/net", machine.keeper.id());
        assert!(Path::new(&place).exists());
        drop(machine);
        assert!(!Path::new(&place).exists(), "the keeper has ended, and with it the namespace");
    }
}
