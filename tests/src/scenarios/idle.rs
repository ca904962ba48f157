//! What a quiet room costs its members: real daemons, each on a machine of its own.

use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;

use chat_proto::api::peers::RoleView;
use chat_proto::id::Term;

use crate::cluster::{all_online, view};
use crate::daemon::{Daemon, StartDaemon};
use crate::netns::{DEVICE, TestNetwork};
use crate::usage::{self, Traffic, Usage};

/// What one member of a quiet room used.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it held the role.
    pub holder: bool,
    /// Processor time and resident memory.
    pub usage: Usage,
    /// Packets and bytes, in and out.
    pub traffic: Traffic,
}

impl Member {
    /// Packets that are not datagrams of UDP: what goes over TCP, such as relayed packets.
    pub fn other_packets(&self) -> u64 {
        self.traffic.packets.saturating_sub(self.traffic.datagrams)
    }
}

/// What all of them used.
#[derive(Clone, Debug)]
pub struct IdleReport {
    span: Duration,
    /// The members, the founder first.
    pub members: Vec<Member>,
    /// Term of the role before and after.
    pub terms: [Term; 2],
}

/// A room of `peers`, left alone for `settle` and then observed for `span`, with the link of the founder's machine limited to
/// `kbit` kbit/s each way. `None` where no network can be made.
///
/// # Errors
/// When a daemon ends meanwhile.
///
/// # Panics
/// When a daemon does not start, or they do not meet.
pub fn run(peers: usize, settle: Duration, span: Duration, kbit: Option<u32>) -> io::Result<Option<IdleReport>> {
    let Some(mut network) = TestNetwork::new() else { return Ok(None) };
    let machine = network.machine();
    let founder = StartDaemon::found("peer-0").inside(&machine).start();
    let ticket = founder.ticket();
    let mut room = vec![founder];
    for number in 1..peers {
        room.push(StartDaemon::join(&format!("peer-{number}"), &ticket).inside(&network.machine()).start());
    }
    all_online(&room.iter().collect::<Vec<_>>());
    thread::sleep(settle);
    if let Some(kbit) = kbit {
        network.limit(&machine, kbit);
    }
    let term = view(&room[0]).term;
    let before = room.iter().map(measure).collect::<io::Result<Vec<_>>>()?;
    thread::sleep(span);
    let mut members = room.iter().map(measure).collect::<io::Result<Vec<_>>>()?;
    for (member, before) in members.iter_mut().zip(before) {
        member.usage.cpu = member.usage.cpu.saturating_sub(before.usage.cpu);
        member.traffic.packets -= before.traffic.packets;
        member.traffic.bytes -= before.traffic.bytes;
        member.traffic.datagrams -= before.traffic.datagrams;
    }
    Ok(Some(IdleReport { span, members, terms: [term, view(&room[0]).term] }))
}

fn measure(peer: &Daemon) -> io::Result<Member> {
    let pid = peer.pid();
    Ok(Member {
        name: peer.name().to_owned(),
        holder: peer.api().status().role == RoleView::Holder,
        usage: usage::of(pid)?,
        traffic: usage::traffic(pid, DEVICE)?,
    })
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { span, members, terms: [before, after] } = self;
        let minutes = span.as_secs_f64() / 60.0;
        let row = |f: &mut fmt::Formatter<'_>, what: &str, value: &dyn Fn(&Member) -> f64| {
            let values = || members.iter().map(value);
            let mean = values().sum::<f64>() / members.len() as f64;
            let most = values().fold(0.0, f64::max);
            let holder = members.iter().find(|member| member.holder).map_or(f64::NAN, value);
            writeln!(f, "  {what:<28} {mean:>10.1} {most:>10.1} {holder:>10.1}")
        };
        writeln!(f, "{} members that say nothing for {} s", members.len(), span.as_secs())?;
        writeln!(f, "  {:<28} {:>10} {:>10} {:>10}", "a member, each minute", "mean", "most", "holder")?;
        row(f, "packets, in and out", &|member| member.traffic.packets as f64 / minutes)?;
        row(f, "  of which not UDP", &|member| member.other_packets() as f64 / minutes)?;
        row(f, "KiB, in and out", &|member| member.traffic.bytes as f64 / 1_024.0 / minutes)?;
        row(f, "ms of a processor", &|member| member.usage.cpu.as_secs_f64() * 1_000.0 / minutes)?;
        row(f, "MiB resident", &|member| member.usage.resident_kib as f64 / 1_024.0)?;
        writeln!(f, "  term of the role: {before} before, {after} after")
    }
}
