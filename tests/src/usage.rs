//! What a process uses of its machine, read from its kernel (proc(5)).

use std::fs;
use std::io;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// What a process has used since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors, in user and system mode.
    pub cpu: Duration,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

/// What went over a device of the network namespace that a process lives in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets received and sent.
    pub packets: u64,
    /// Bytes of them, with Ethernet headers.
    pub bytes: u64,
    /// UDP datagrams received and sent, over all devices.
    pub datagrams: u64,
}

/// Resident memory and processor time of a process.
///
/// # Errors
/// When the process has ended.
pub fn of(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| io::Error::other("no times in stat"))?;
    let cpu = Duration::from_millis(ticks * 1_000 / clock_ticks_per_second());
    Ok(Usage { cpu, resident_kib: resident_kib(pid)? })
}

/// `VmRSS` of a process, in KiB.
///
/// # Errors
/// When the process has ended.
pub fn resident_kib(pid: u32) -> io::Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// `RssAnon` of a process, in KiB: its heap and stacks, without the program file and mapped files.
///
/// # Errors
/// When the process has ended.
pub fn anonymous_kib(pid: u32) -> io::Result<u64> {
    status_kib(pid, "RssAnon:")
}

fn status_kib(pid: u32, field: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().split(' ').next()).and_then(|number| number.parse().ok());
    kib.ok_or_else(|| io::Error::other(format!("no {field}")))
}

/// What went over `device` where a process lives.
///
/// # Errors
/// When the process has ended, or has no such device.
pub fn traffic(pid: u32, device: &str) -> io::Result<Traffic> {
    let devices = fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    let mut traffic = counters(&devices, device).ok_or_else(|| io::Error::other(format!("no counters of {device}")))?;
    let (ipv4, ipv6) = (format!("/proc/{pid}/net/snmp"), format!("/proc/{pid}/net/snmp6"));
    // A kernel without IPv6 has no such file.
    traffic.datagrams = datagrams(&fs::read_to_string(ipv4)?, &fs::read_to_string(ipv6).unwrap_or_default());
    Ok(traffic)
}

/// Datagrams in and out: of IPv4 in the columns that the first of two lines names, of IPv6 a line each.
fn datagrams(ipv4: &str, ipv6: &str) -> u64 {
    let mut lines = ipv4.lines().filter_map(|line| line.strip_prefix("Udp: ")).map(str::split_ascii_whitespace);
    let (names, numbers) = (lines.next(), lines.next());
    let columns = names.into_iter().flatten().zip(numbers.into_iter().flatten());
    let counted = columns.filter(|(name, _)| ["InDatagrams", "OutDatagrams"].contains(name));
    let of_ipv6 = ipv6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    let of_ipv6 = of_ipv6.filter(|(name, _)| ["Udp6InDatagrams", "Udp6OutDatagrams"].contains(name));
    counted.chain(of_ipv6).filter_map(|(_, number)| number.trim().parse::<u64>().ok()).sum()
}

/// User and system time of a line of `stat`. The second field, a name in brackets, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Received bytes and packets are the first two of eight columns, sent ones the first two of the next eight.
fn counters(devices: &str, device: &str) -> Option<Traffic> {
    let of = |line: &str| line.trim().strip_prefix(device)?.strip_prefix(':').map(str::to_owned);
    let line = devices.lines().find_map(of)?;
    let numbers: Vec<u64> = line.split_ascii_whitespace().map_while(|number| number.parse().ok()).collect();
    let [received, received_packets, sent, sent_packets] = [0, 1, 8, 9].map(|column| numbers.get(column).copied());
    Some(Traffic { packets: received_packets? + sent_packets?, bytes: received? + sent?, datagrams: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_with_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 1 0 5 1 1";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn counters_of_one_device() {
        let devices = "Inter-| Receive | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0
  eth0: 1000 10 1 2 3 4 5 6 200 3 0 0 0 0 0 0
";
        assert_eq!(counters(devices, "eth0"), Some(Traffic { packets: 13, bytes: 1_200, datagrams: 0 }));
        assert_eq!(counters(devices, "eth"), None);
    }

    #[test]
    fn datagrams_of_both_protocols() {
        let ipv4 = "Ip: Forwarding\nIp: 1\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 7 1 2 5\nUdpLite: InDatagrams\nUdpLite: 9\n";
        let ipv6 = "Ip6InReceives \t 3\nUdp6InDatagrams \t 20\nUdp6NoPorts \t 1\nUdp6OutDatagrams \t 100\n";
        assert_eq!(datagrams(ipv4, ipv6), 132);
        assert_eq!(datagrams("", ""), 0);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = of(std::process::id()).expect("it runs");
        assert!(usage.resident_kib > 100);
        assert!(traffic(std::process::id(), "lo").is_ok());
    }
}
