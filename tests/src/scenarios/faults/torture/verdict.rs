//! Compares what peers hold, and what their streams showed, with what was acknowledged.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use chat_proto::api::messages::Message;
use chat_proto::id::MessageId;

use super::clients::{StreamSeen, TorturePost};
use super::nemesis::Rollback;

/// Maximum number of complaints of a kind that are printed.
const SHOWN_MAX: usize = 10;

/// For how long a reader may still take what its daemon sent before it was killed.
const READER_LAG: Duration = Duration::from_secs(1);

/// A message as a peer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TortureMessage {
    /// Which.
    pub id: MessageId,
    /// Its text.
    pub text: String,
    /// What it answers, as its text says.
    pub answers: Option<MessageId>,
}

impl TortureMessage {
    /// The text of a client's message.
    pub fn text(client: usize, number: usize, answers: Option<MessageId>) -> String {
        let answer = answers.map(|id| format!(" answers {id}")).unwrap_or_default();
        format!("client {client} message {number}{answer}")
    }
}

impl From<Message> for TortureMessage {
    fn from(message: Message) -> Self {
        let answers = message.text.split_once(" answers ").and_then(|(_, id)| id.parse().ok());
        Self { id: message.id, text: message.text, answers }
    }
}

/// What is known at the end.
#[derive(Debug)]
pub struct Evidence {
    /// Names of the peers.
    pub names: Vec<&'static str>,
    /// What clients posted.
    pub attempts: Vec<TorturePost>,
    /// Homes that were rolled back.
    pub rollbacks: Vec<Rollback>,
    /// What each peer holds, in order.
    pub histories: Vec<Vec<TortureMessage>>,
    /// What each peer's reader has seen.
    pub seen: Vec<StreamSeen>,
}

impl Evidence {
    /// Texts of messages whose daemon was rolled back between the moment in which their client saw what they answer and
    /// their acknowledgement: when they were written, their author may not have had that any more.
    fn answers_rolled_back(&self) -> HashSet<&str> {
        let between = |attempt: &&TorturePost| {
            self.rollbacks.iter().filter(|back| back.peer == attempt.peer).any(|back| {
                attempt.begun <= back.put_back + READER_LAG
                    && attempt.acknowledged.is_none_or(|acknowledged| acknowledged.at >= back.put_back)
            })
        };
        self.attempts.iter().filter(between).map(|attempt| attempt.text.as_str()).collect()
    }
}

/// What does not hold.
#[derive(Debug, Default)]
pub struct TortureVerdict {
    /// Acknowledged messages that a peer does not hold.
    pub lost: Vec<String>,
    /// Messages that are there twice.
    pub twice: Vec<String>,
    /// Peers whose histories differ.
    pub order: Vec<String>,
    /// Messages before what they answer.
    pub causality: Vec<String>,
    /// Events that are missing or repeated.
    pub streams: Vec<String>,
    /// Whatever else a daemon did not do.
    pub other: Vec<String>,
    /// Messages that were acknowledged as stored and are gone with a roll-back of their author's disk, which is allowed.
    pub rolled_back: usize,
    /// Messages that are there twice because their keys were rolled back, which is allowed.
    pub repeated: usize,
}

impl TortureVerdict {
    /// The verdict on what is known.
    pub fn of(evidence: &Evidence, complaints: Vec<String>) -> Self {
        let mut verdict = Self { other: complaints, ..Self::default() };
        for (name, history) in evidence.names.iter().zip(&evidence.histories) {
            verdict.completeness(name, history, evidence);
            verdict.causality(name, history, &evidence.answers_rolled_back());
        }
        verdict.order(evidence);
        verdict.streams(evidence);
        let silent = evidence.attempts.iter().filter(|attempt| attempt.acknowledged.is_none());
        verdict
            .other
            .extend(silent.map(|attempt| format!("'{}' was never acknowledged: {}", attempt.text, attempt.refusal)));
        verdict
    }

    /// Whether everything holds.
    pub fn is_good(&self) -> bool {
        self.kinds().iter().all(|(_, complaints)| complaints.is_empty())
    }

    fn kinds(&self) -> [(&'static str, &Vec<String>); 6] {
        let Self { lost, twice, order, causality, streams, other, .. } = self;
        [
            ("lost", lost),
            ("twice", twice),
            ("order differences", order),
            ("causal violations", causality),
            ("missing or repeated stream events", streams),
            ("other", other),
        ]
    }

    fn completeness(&mut self, name: &str, history: &[TortureMessage], evidence: &Evidence) {
        let mut ids: HashSet<MessageId> = HashSet::new();
        let mut texts: HashMap<&str, usize> = HashMap::new();
        for shown in history {
            if !ids.insert(shown.id) {
                self.twice.push(format!("{name} shows '{}' twice under one id", shown.text));
            }
            *texts.entry(&shown.text).or_default() += 1;
        }
        for attempt in &evidence.attempts {
            let Some(acknowledged) = attempt.acknowledged else { continue };
            let mut rollbacks = evidence.rollbacks.iter().filter(|rollback| rollback.peer == attempt.peer);
            if !ids.contains(&acknowledged.id) {
                let gone = rollbacks.any(|back| (back.copied..back.put_back).contains(&acknowledged.at));
                if gone && !acknowledged.replicated {
                    self.rolled_back += 1;
                } else {
                    self.lost.push(format!("{name} does not hold '{}' ({})", attempt.text, acknowledged.id));
                }
            } else if texts.get(attempt.text.as_str()).is_some_and(|count| *count > 1) {
                if rollbacks.any(|back| back.put_back >= attempt.begun && back.copied <= acknowledged.at) {
                    self.repeated += 1;
                } else {
                    self.twice.push(format!("{name} shows '{}' twice", attempt.text));
                }
            }
        }
    }

    fn causality(&mut self, name: &str, history: &[TortureMessage], excused: &HashSet<&str>) {
        let mut before = HashSet::new();
        let all: HashSet<MessageId> = history.iter().map(|shown| shown.id).collect();
        for shown in history {
            // What was rolled back before any other peer had it is gone.
            if let Some(answered) = shown.answers.filter(|answered| all.contains(answered))
                && !before.contains(&answered)
                && !excused.contains(shown.text.as_str())
            {
                self.causality.push(format!("{name} has '{}' before what it answers", shown.text));
            }
            before.insert(shown.id);
        }
    }

    fn order(&mut self, evidence: &Evidence) {
        let [first, others @ ..] = evidence.histories.as_slice() else { return };
        for (name, other) in evidence.names.iter().skip(1).zip(others) {
            if first == other {
                continue;
            }
            let at = first.iter().zip(other).position(|(one, two)| one != two);
            let at = at.unwrap_or(first.len().min(other.len()));
            let lengths = (first.len(), other.len());
            let text = |history: &[TortureMessage]| history.get(at).map(|shown| shown.text.clone());
            self.order.push(format!(
                "{} and {name} differ from message {at} on ({lengths:?}): {:?} and {:?}",
                evidence.names[0],
                text(first),
                text(other)
            ));
        }
    }

    fn streams(&mut self, evidence: &Evidence) {
        for ((name, history), seen) in evidence.names.iter().zip(&evidence.histories).zip(&evidence.seen) {
            self.streams.extend(seen.complaints.iter().map(|complaint| format!("{name}: {complaint}")));
            let (excused, held) = (evidence.answers_rolled_back(), history.iter().map(|shown| shown.id));
            let held: HashSet<MessageId> = held.collect();
            let early = seen.early.iter().filter(|shown| {
                shown.answers.is_some_and(|answered| held.contains(&answered)) && !excused.contains(shown.text.as_str())
            });
            self.streams.extend(
                early.map(|shown| format!("{name}: the stream showed '{}' before what it answers", shown.text)),
            );
            let missing = history.iter().filter(|shown| !seen.messages.contains(&shown.id));
            self.streams.extend(missing.map(|shown| format!("{name}: the stream did not show '{}'", shown.text)));
        }
    }
}

impl fmt::Display for TortureVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            self.kinds().iter().map(|(kind, complaints)| format!("{} {kind}", complaints.len())).collect();
        write!(f, "{}; allowed: {} rolled back, {} repeated", counts.join(", "), self.rolled_back, self.repeated)?;
        for (kind, complaints) in self.kinds() {
            for complaint in complaints.iter().take(SHOWN_MAX) {
                write!(f, "\n{kind}: {complaint}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::scenarios::faults::torture::clients::Acknowledgement;

    fn id(number: u8) -> MessageId {
        MessageId { entry: chat_proto::id::EntryHash::from_bytes([number; 32]), index: 0 }
    }

    fn shown(number: u8, answers: Option<u8>) -> TortureMessage {
        TortureMessage { id: id(number), text: format!("text {number}"), answers: answers.map(id) }
    }

    fn attempt(number: u8, replicated: bool) -> TorturePost {
        let begun = Instant::now();
        let acknowledged = Some(Acknowledgement { id: id(number), replicated, at: begun });
        TorturePost {
            text: format!("text {number}"),
            peer: 0,
            begun,
            acknowledged,
            refusals: 0,
            refusal: String::new(),
        }
    }

    fn evidence(histories: Vec<Vec<TortureMessage>>) -> Evidence {
        let seen = histories.iter().map(|history| {
            let mut seen = StreamSeen::default();
            history.iter().for_each(|shown| seen.take(shown));
            seen
        });
        let seen = seen.collect();
        let attempts = vec![attempt(1, true), attempt(2, false)];
        let names = vec!["alice", "bob"];
        Evidence { names, attempts, rollbacks: Vec::new(), histories, seen }
    }

    fn counts(evidence: &Evidence) -> [usize; 6] {
        TortureVerdict::of(evidence, Vec::new()).kinds().map(|(_, complaints)| complaints.len())
    }

    #[test]
    fn sound_evidence_is_good() {
        let history = vec![shown(1, None), shown(2, Some(1))];
        let evidence = evidence(vec![history.clone(), history]);
        assert!(TortureVerdict::of(&evidence, Vec::new()).is_good());
    }

    #[test]
    fn each_violation_is_found() {
        let whole = vec![shown(1, None), shown(2, None)];
        assert_eq!(counts(&evidence(vec![whole.clone(), whole[..1].to_vec()])), [1, 0, 1, 0, 0, 0], "lost");
        let swapped = vec![shown(2, None), shown(1, None)];
        assert_eq!(counts(&evidence(vec![whole.clone(), swapped])), [0, 0, 1, 0, 0, 0], "order");
        let early = vec![shown(1, Some(2)), shown(2, None)];
        assert_eq!(counts(&evidence(vec![early.clone(), early])), [0, 0, 0, 2, 2, 0], "causality, in streams, too");
        let again = vec![shown(1, None), shown(2, None), TortureMessage { text: "text 1".into(), ..shown(3, None) }];
        assert_eq!(counts(&evidence(vec![again.clone(), again])), [0, 2, 0, 0, 0, 0], "twice");
        let mut missing = evidence(vec![whole.clone(), whole.clone()]);
        missing.seen[1] = StreamSeen::default();
        assert_eq!(counts(&missing), [0, 0, 0, 0, 2, 0], "missing in a stream");
        let mut repeated = evidence(vec![whole.clone(), whole]);
        repeated.seen[0].take(&shown(1, None));
        assert_eq!(counts(&repeated), [0, 0, 0, 0, 1, 0], "twice in a stream");
    }

    #[test]
    fn roll_back_excuses_the_author_for_what_was_only_stored() {
        let mut evidence = evidence(vec![Vec::new(), Vec::new()]);
        let at = evidence.attempts[1].begun;
        let second = Duration::from_secs(1);
        evidence.rollbacks = vec![Rollback { peer: 0, copied: at - second, put_back: at + second }];
        let verdict = TortureVerdict::of(&evidence, Vec::new());
        assert_eq!((verdict.lost.len(), verdict.rolled_back), (2, 2), "the replicated one is lost at both peers");
        evidence.rollbacks[0].copied = at + second / 2;
        assert_eq!(TortureVerdict::of(&evidence, Vec::new()).lost.len(), 4, "the copy holds it");
    }
}
