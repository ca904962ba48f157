//! Takes the holder of the rendezvous role away, again and again, while all peers talk, and measures what the others
//! notice of it.

pub mod busy;
mod listening;
mod stage;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use chat_proto::api::messages::Message;
use chat_proto::id::MessageId;

use crate::cluster::TestRoom;
use crate::eventually::{SOON, eventually};
pub use crate::scenarios::failover::listening::Heard;
use crate::scenarios::failover::stage::FailoverStage;

/// How the holder is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// SIGKILL.
    Kill,
    /// SIGSTOP; it wakes again after the round.
    Suspend,
    /// `chatd stop`.
    Leave,
    /// Every packet from and to it is dropped; they pass again after the round. Each peer has a network namespace of its
    /// own for that, which takes root.
    Drop,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
pub struct FailoverPlan {
    /// Peers in the room, 2 to 26.
    pub peers: usize,
    /// How often the holder is taken away.
    pub rounds: usize,
    /// How.
    pub way: Way,
}

/// Network namespaces cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dropping the packets of a single peer takes root: run it as root, or take the holder away in another way")]
pub struct NoNetwork;

/// What was seen.
#[derive(Clone, Debug)]
pub struct FailoverReport {
    plan: FailoverPlan,
    /// Per round: from the signal that ended the holder until the last of the others had an event with the next one.
    known: Vec<Duration>,
    /// Per round: the longest time a message between the living was on its way.
    stalls: Vec<Duration>,
    /// How long every single message between the living was on its way.
    ways: Vec<Duration>,
    /// What became of what was said.
    pub kept: MessageFate,
}

/// What became of the messages that were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageFate {
    /// How many there are.
    pub acknowledged: usize,
    /// Of those, missing in some log.
    pub lost: usize,
    /// Shown twice in some log or by some stream.
    pub repeated: usize,
    /// Places at which some log differs from the first.
    pub reordered: usize,
}

/// Runs it; `tell` receives the result of every round.
///
/// # Errors
/// [`NoNetwork`] when packets are to be dropped and this process may not.
///
/// # Panics
/// When a daemon does not start, or the room does not agree on a holder before a round.
pub fn run(plan: FailoverPlan, mut tell: impl FnMut(usize, &Heard)) -> Result<FailoverReport, NoNetwork> {
    let mut stage = FailoverStage::new(plan)?;
    let mut report =
        FailoverReport { plan, known: Vec::new(), stalls: Vec::new(), ways: Vec::new(), kept: MessageFate::default() };
    let mut acknowledged = Vec::new();
    for round in 0..plan.rounds {
        let heard = stage.play(round);
        tell(round, &heard);
        report.known.push(heard.known);
        report.stalls.push(heard.stall());
        report.kept.repeated += heard.repeated;
        report.ways.extend(heard.ways);
        acknowledged.extend(heard.acknowledged);
        stage.come_back();
    }
    check(&stage.room, &acknowledged, &mut report.kept);
    Ok(report)
}

/// Every acknowledged message is in every log, once, in the same order.
fn check(room: &TestRoom, acknowledged: &[MessageId], kept: &mut MessageFate) {
    kept.acknowledged = acknowledged.len();
    eventually(SOON * 4, "every daemon holds as much as the others", || {
        let counts: Vec<u64> = room.peers.iter().map(|peer| peer.api().status().messages).collect();
        if counts.iter().all(|count| *count == counts[0] && *count >= acknowledged.len() as u64) {
            return Ok(());
        }
        Err(format!("{counts:?}, {} acknowledged", acknowledged.len()))
    });
    let logs: Vec<Vec<Message>> =
        room.peers.iter().map(|peer| peer.chat(&["log", "--all", "--json"]).json::<Message>()).collect();
    for log in &logs {
        let ids: HashSet<MessageId> = log.iter().map(|message| message.id).collect();
        kept.repeated += log.len() - ids.len();
        kept.lost += acknowledged.iter().filter(|id| !ids.contains(id)).count();
        kept.reordered += log.iter().zip(&logs[0]).filter(|(one, two)| one.id != two.id).count();
    }
}

/// The value that such a share of them does not exceed.
fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(index.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

pub(super) fn line(spans: &[Duration]) -> String {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let seconds = |share: f64| match at(&sorted, share) {
        Duration::MAX => "never".to_owned(),
        span => format!("{:.3} s", span.as_secs_f64()),
    };
    format!("p50 {}, p95 {}, max {}", seconds(0.5), seconds(0.95), seconds(1.0))
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailoverPlan { peers, rounds, way } = self.plan;
        writeln!(f, "{rounds} times {way:?} of the holder among {peers} peers that all talk")?;
        writeln!(f, "  a new holder is known to all after:   {}", line(&self.known))?;
        writeln!(f, "  longest way between the living, by round: {}", line(&self.stalls))?;
        writeln!(f, "  the {} ways between the living: {}", self.ways.len(), line(&self.ways))?;
        write!(f, "  {}", self.kept)
    }
}

impl fmt::Display for MessageFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, lost, repeated, reordered } = self;
        write!(f, "{acknowledged} messages acknowledged; lost {lost}, repeated {repeated}, reordered {reordered}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_spans_are_counted_from_the_shortest() {
        let spans: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(line(&spans), "p50 0.050 s, p95 0.095 s, max 0.100 s");
        assert_eq!(line(&[Duration::MAX]), "p50 never, p95 never, max never");
        assert_eq!(line(&[]), "p50 0.000 s, p95 0.000 s, max 0.000 s");
    }
}
