//! Decides which of several connections between the same two peers is kept.
//!
//! Both may dial at the same moment, and one may have restarted or lost a connection that the other still considers open.
//! The dialler therefore opens its stream with a [`Greeting`]: the number of its process, the number of this dial, and
//! the newest dial that it accepted from the other end, which answers with a [`Welcome`] once it has decided to keep the
//! connection. [`prefer_accepted`] and [`prefer_dialled`] reach the same result on both sides, so exactly one
//! connection remains.

use chat_proto::id::PeerId;

/// Random number of one run of a daemon: another number means that the peer restarted and its old connections are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessId(pub(crate) u64);

/// Number of a dial within one process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DialSeq(pub(crate) u64);

/// First bytes from the dialler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The dialler's process.
    pub(crate) process: ProcessId,
    /// This dial.
    pub(crate) dial: DialSeq,
    /// The newest connection that the dialler accepted from the other end: in which process of it, and its dial.
    pub(crate) accepted: Option<(ProcessId, DialSeq)>,
}

impl Greeting {
    pub(crate) const BYTES: usize = 32;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let (process, dial) = self.accepted.unwrap_or((ProcessId(0), DialSeq(0)));
        let mut raw = [0; Self::BYTES];
        for (field, number) in raw.chunks_exact_mut(8).zip([self.process.0, self.dial.0, process.0, dial.0]) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        raw
    }

    pub(crate) fn decode(raw: [u8; Self::BYTES]) -> Self {
        let mut numbers = [0; 4];
        for (number, field) in numbers.iter_mut().zip(raw.as_chunks::<8>().0) {
            *number = u64::from_be_bytes(*field);
        }
        let [process, dial, accepted_process, accepted_dial] = numbers;
        let accepted = (accepted_dial > 0).then_some((ProcessId(accepted_process), DialSeq(accepted_dial)));
        Self { process: ProcessId(process), dial: DialSeq(dial), accepted }
    }
}

/// Answer of the dialled end when it keeps the connection: its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome(pub(crate) ProcessId);

impl Welcome {
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        self.0.0.to_be_bytes()
    }

    pub(crate) fn decode(raw: [u8; Self::BYTES]) -> Self {
        Self(ProcessId(u64::from_be_bytes(raw)))
    }
}

/// The end that dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialler {
    /// This peer.
    Me,
    /// The other peer.
    Peer,
}

/// A connection that was decided for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Established {
    /// The other end's process.
    pub(crate) process: ProcessId,
    /// The end that dialled.
    pub(crate) dialler: Dialler,
    /// The dialler's number of the dial.
    pub(crate) dial: DialSeq,
}

/// Which of two connections is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// The established one.
    Old,
    /// The one that has just arrived.
    New,
}

/// Whether a connection that the peer dialled replaces the established one.
pub(crate) fn prefer_accepted(
    me: (&PeerId, ProcessId),
    peer: &PeerId,
    established: &Established,
    greeting: &Greeting,
) -> Prefer {
    if established.process != greeting.process {
        return Prefer::New;
    }
    match established.dialler {
        // A peer that dials again has lost its earlier connection; an older dial only arrived late.
        Dialler::Peer if greeting.dial > established.dial => Prefer::New,
        Dialler::Peer => Prefer::Old,
        Dialler::Me => match greeting.accepted {
            // The peer had accepted the established one and still dials: it has lost it.
            Some((process, dial)) if process == me.1 && dial >= established.dial => Prefer::New,
            Some(_) | None => prefer_crossed(me.0, peer, Dialler::Peer),
        },
    }
}

/// Whether a connection that this peer dialled replaces one that was accepted while dialling.
pub(crate) fn prefer_dialled(me: &PeerId, peer: &PeerId, established: &Established, welcome: Welcome) -> Prefer {
    if established.process != welcome.0 { Prefer::New } else { prefer_crossed(me, peer, Dialler::Me) }
}

/// Both dialled at once: the connection dialled by the smaller key is kept.
fn prefer_crossed(me: &PeerId, peer: &PeerId, new: Dialler) -> Prefer {
    let winner = if me < peer { Dialler::Me } else { Dialler::Peer };
    if new == winner { Prefer::New } else { Prefer::Old }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: PeerId = PeerId::from_bytes([1; 32]);
    const HIGH: PeerId = PeerId::from_bytes([2; 32]);
    const MINE: ProcessId = ProcessId(10);
    const THEIRS: ProcessId = ProcessId(20);

    fn established(dialler: Dialler, dial: u64) -> Established {
        Established { process: THEIRS, dialler, dial: DialSeq(dial) }
    }

    fn greeting(process: ProcessId, dial: u64, accepted: Option<u64>) -> Greeting {
        Greeting { process, dial: DialSeq(dial), accepted: accepted.map(|dial| (MINE, DialSeq(dial))) }
    }

    proptest! {
        #[test]
        fn greeting_round_trips(process: u64, dial: u64, accepted in proptest::option::of((0u64.., 1u64..))) {
            let accepted = accepted.map(|(process, dial)| (ProcessId(process), DialSeq(dial)));
            let greeting = Greeting { process: ProcessId(process), dial: DialSeq(dial), accepted };
            prop_assert_eq!(Greeting::decode(greeting.encode()), greeting);
            prop_assert_eq!(Welcome::decode(Welcome(ProcessId(process)).encode()), Welcome(ProcessId(process)));
        }

        /// Both dial at once and both accept: whatever the order, both keep the same connection.
        #[test]
        fn crossed_dials_keep_the_same_connection_on_both_sides(low_first: bool, high_first: bool, low_dial in 1u64..9, high_dial in 1u64..9) {
            // Each side ends with the dial of the low key, whether it accepted before its own dial was welcomed or after.
            let accept_at = |me: PeerId, peer: PeerId, mine: u64, theirs: u64, accepted_first: bool| {
                if accepted_first {
                    let kept = established(Dialler::Peer, theirs);
                    match prefer_dialled(&me, &peer, &kept, Welcome(THEIRS)) {
                        Prefer::New => Dialler::Me,
                        Prefer::Old => Dialler::Peer,
                    }
                } else {
                    let kept = established(Dialler::Me, mine);
                    match prefer_accepted((&me, MINE), &peer, &kept, &greeting(THEIRS, theirs, None)) {
                        Prefer::New => Dialler::Peer,
                        Prefer::Old => Dialler::Me,
                    }
                }
            };
            prop_assert_eq!(accept_at(LOW, HIGH, low_dial, high_dial, low_first), Dialler::Me);
            prop_assert_eq!(accept_at(HIGH, LOW, high_dial, low_dial, high_first), Dialler::Peer);
        }
    }

    #[test]
    fn restarted_peer_replaces_its_dead_connection() {
        for dialler in [Dialler::Me, Dialler::Peer] {
            for (me, peer) in [(LOW, HIGH), (HIGH, LOW)] {
                let new = greeting(ProcessId(21), 1, None);
                assert_eq!(prefer_accepted((&me, MINE), &peer, &established(dialler, 7), &new), Prefer::New);
            }
        }
    }

    #[test]
    fn peer_that_lost_a_connection_replaces_it() {
        for (me, peer) in [(LOW, HIGH), (HIGH, LOW)] {
            let lost_own = greeting(THEIRS, 8, None);
            assert_eq!(prefer_accepted((&me, MINE), &peer, &established(Dialler::Peer, 7), &lost_own), Prefer::New);
            let lost_accepted = greeting(THEIRS, 8, Some(7));
            assert_eq!(prefer_accepted((&me, MINE), &peer, &established(Dialler::Me, 7), &lost_accepted), Prefer::New);
        }
    }

    #[test]
    fn late_dial_changes_nothing() {
        let late = greeting(THEIRS, 6, None);
        assert_eq!(prefer_accepted((&LOW, MINE), &HIGH, &established(Dialler::Peer, 7), &late), Prefer::Old);
    }
}
