//! Cuts a room of five in two, lets both halves talk, heals the cut, and measures how soon the room is one again.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{all_miss, all_online, one_of_them_holds, same_history};
use crate::daemon::{Daemon, StartDaemon};
use crate::eventually::SOON;
use crate::netns::{Space, TestNetwork};

/// How many of the five are cut off from the others.
const SMALLER: usize = 2;

/// What was seen.
#[derive(Clone, Debug)]
pub struct SplitReport {
    /// Who held the role in each half when it had settled.
    pub holders: [String; 2],
    /// Messages said together, and in each half.
    pub messages: [usize; 3],
    /// From the end of the cut until every log showed the same.
    pub one_history: Duration,
    /// Until all knew one holder.
    pub one_holder: Duration,
    /// Until all peers saw each other online.
    pub one_roster: Duration,
}

/// Cuts the room, lets every peer send `rounds` messages, `pause` apart, and heals it. `None` where no network can be made.
///
/// # Panics
/// When the halves do not go on, or do not become one again.
pub fn run(rounds: usize, pause: Duration) -> Option<SplitReport> {
    let mut network = TestNetwork::new()?;
    let spaces: Vec<Arc<Space>> = (0..5).map(|_| network.machine()).collect();
    let alice = StartDaemon::found("alice").inside(&spaces[0]).start();
    let ticket = alice.ticket();
    let join = |(name, space): (&&str, &Arc<Space>)| StartDaemon::join(name, &ticket).inside(space).start();
    let others: Vec<Daemon> = ["bob", "carol", "dave", "erin"].iter().zip(&spaces[1..]).map(join).collect();
    let all: Vec<&Daemon> = [&alice].into_iter().chain(&others).collect();
    all_online(&all);
    one_of_them_holds(&all);
    alice.api().send("together");
    same_history(&all, 1, SOON);

    let halves = all.split_at(SMALLER);
    let addrs: Vec<Ipv4Addr> = spaces.iter().map(|space| space.addr()).collect();
    for (number, space) in spaces.iter().enumerate() {
        part(space, if number < SMALLER { &addrs[SMALLER..] } else { &addrs[..SMALLER] });
    }
    let holders = [halves, (halves.1, halves.0)].map(|(half, gone)| {
        let (holder, _) = one_of_them_holds(half);
        for peer in gone {
            all_miss(half, peer.name());
        }
        holder
    });
    talk(&all, rounds, pause);
    let messages = [1, rounds * halves.0.len(), rounds * halves.1.len()];
    same_history(halves.0, messages[0] + messages[1], SOON);
    same_history(halves.1, messages[0] + messages[2], SOON);

    let healed = Instant::now();
    for space in &spaces {
        space.nft("delete table ip split");
    }
    let (one_history, one_holder, one_roster) = thread::scope(|scope| {
        let history = scope.spawn(|| {
            same_history(&all, messages.iter().sum(), SOON);
            healed.elapsed()
        });
        let roster = scope.spawn(|| {
            all_online(&all);
            healed.elapsed()
        });
        one_of_them_holds(&all);
        let holder = healed.elapsed();
        (history.join(), holder, roster.join())
    });
    let seen = "whoever looked has seen it";
    Some(SplitReport {
        holders,
        messages,
        one_history: one_history.expect(seen),
        one_holder,
        one_roster: one_roster.expect(seen),
    })
}

/// Every peer sends a message, `rounds` times.
fn talk(peers: &[&Daemon], rounds: usize, pause: Duration) {
    for number in 0..rounds {
        for peer in peers {
            peer.api().send(&format!("{} {number}", peer.name()));
        }
        thread::sleep(pause);
    }
}

/// Drops every packet between a machine and these others.
fn part(space: &Space, others: &[Ipv4Addr]) {
    let others: Vec<String> = others.iter().map(Ipv4Addr::to_string).collect();
    let others = others.join(", ");
    space.nft(&format!(
        "table ip split {{
            chain arriving {{ type filter hook input priority -10; ip saddr {{ {others} }} drop; }}
            chain leaving {{ type filter hook output priority -10; ip daddr {{ {others} }} drop; }}
        }}"
    ));
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holders: [one, other], messages, one_history, one_holder, one_roster } = self;
        let [_, two, three] = messages;
        writeln!(f, "five peers cut in two: {one} held the role among two, {other} among three")?;
        writeln!(f, "  said meanwhile: {two} messages by the two, {three} by the three")?;
        writeln!(f, "  healed: the same log everywhere after {:.2} s", one_history.as_secs_f64())?;
        writeln!(f, "          one holder, known to all, after {:.2} s", one_holder.as_secs_f64())?;
        writeln!(f, "          everybody online to everybody after {:.2} s", one_roster.as_secs_f64())
    }
}
