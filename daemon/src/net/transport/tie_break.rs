//! Which of several connections between the same two peers stays.
//!
//! Both may dial at the same moment, and one may have restarted or lost a connection that the other still believes in.
//! The dialler therefore opens its stream with a [`Greeting`]: the number of its process, the number of this dial, and
//! up to which dial it accepted the other's connections; the other end answers with a [`Welcome`] once it has decided
//! to keep the connection. [`prefer_accepted`] and [`prefer_dialled`] decide alike on both sides, so exactly one
//! connection remains.

use chat_proto::id::PeerId;

/// Random number of one run of a daemon: another number means that the peer restarted and its old connections are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process(pub(crate) u64);

/// Number of a dial within one process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DialSeq(pub(crate) u64);

/// What the dialler says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The dialler's process.
    pub(crate) process: Process,
    /// This dial.
    pub(crate) dial: DialSeq,
    /// The newest connection that the dialler accepted from the other end: in which process of it, and its dial.
    pub(crate) accepted: Option<(Process, DialSeq)>,
}

impl Greeting {
    pub(crate) const BYTES: usize = 32;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let (process, dial) = self.accepted.unwrap_or((Process(0), DialSeq(0)));
        let mut raw = [0; Self::BYTES];
        for (place, number) in raw.chunks_exact_mut(8).zip([self.process.0, self.dial.0, process.0, dial.0]) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        raw
    }

    pub(crate) fn decode(raw: [u8; Self::BYTES]) -> Self {
        let mut numbers = [0; 4];
        for (number, place) in numbers.iter_mut().zip(raw.as_chunks::<8>().0) {
            *number = u64::from_be_bytes(*place);
        }
        let [process, dial, accepted_process, accepted_dial] = numbers;
        let accepted = (accepted_dial > 0).then_some((Process(accepted_process), DialSeq(accepted_dial)));
        Self { process: Process(process), dial: DialSeq(dial), accepted }
    }
}

/// What the dialled end answers when it keeps the connection: its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome(pub(crate) Process);

impl Welcome {
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn encode(self) -> [u8; Self::BYTES] {
        self.0.0.to_be_bytes()
    }

    pub(crate) fn decode(raw: [u8; Self::BYTES]) -> Self {
        Self(Process(u64::from_be_bytes(raw)))
    }
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialler {
    /// This peer.
    Me,
    /// The other one.
    Peer,
}

/// A connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The other end's process.
    pub(crate) process: Process,
    /// Who dialled.
    pub(crate) dialler: Dialler,
    /// The dialler's number of the dial.
    pub(crate) dial: DialSeq,
}

/// Which of two connections stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// The one that stood before.
    Standing,
    /// The one that just came.
    New,
}

/// Whether a connection that the peer dialled takes the place of the one that stands.
pub(crate) fn prefer_accepted(
    me: (&PeerId, Process),
    peer: &PeerId,
    standing: &Standing,
    greeting: &Greeting,
) -> Prefer {
    if standing.process != greeting.process {
        return Prefer::New;
    }
    match standing.dialler {
        // Who dials again has lost what it dialled before; an older dial only arrived late.
        Dialler::Peer if greeting.dial > standing.dial => Prefer::New,
        Dialler::Peer => Prefer::Standing,
        Dialler::Me => match greeting.accepted {
            // The peer had accepted the one that stands, and dials although: it has lost it.
            Some((process, dial)) if process == me.1 && dial >= standing.dial => Prefer::New,
            Some(_) | None => prefer_crossed(me.0, peer, Dialler::Peer),
        },
    }
}

/// Whether a connection that this peer dialled takes the place of one that was accepted while dialling.
pub(crate) fn prefer_dialled(me: &PeerId, peer: &PeerId, standing: &Standing, welcome: Welcome) -> Prefer {
    if standing.process != welcome.0 { Prefer::New } else { prefer_crossed(me, peer, Dialler::Me) }
}

/// Both dialled at once: the connection that the smaller key dialled stays.
fn prefer_crossed(me: &PeerId, peer: &PeerId, new: Dialler) -> Prefer {
    let winner = if me < peer { Dialler::Me } else { Dialler::Peer };
    if new == winner { Prefer::New } else { Prefer::Standing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOW: PeerId = PeerId::from_bytes([1; 32]);
    const HIGH: PeerId = PeerId::from_bytes([2; 32]);
    const MINE: Process = Process(10);
    const THEIRS: Process = Process(20);

    fn standing(dialler: Dialler, dial: u64) -> Standing {
        Standing { process: THEIRS, dialler, dial: DialSeq(dial) }
    }

    fn greeting(process: Process, dial: u64, accepted: Option<u64>) -> Greeting {
        Greeting { process, dial: DialSeq(dial), accepted: accepted.map(|dial| (MINE, DialSeq(dial))) }
    }

    proptest! {
        #[test]
        fn greetings_come_out_as_they_went_in(process: u64, dial: u64, accepted in proptest::option::of((0u64.., 1u64..))) {
            let accepted = accepted.map(|(process, dial)| (Process(process), DialSeq(dial)));
            let greeting = Greeting { process: Process(process), dial: DialSeq(dial), accepted };
            prop_assert_eq!(Greeting::decode(greeting.encode()), greeting);
            prop_assert_eq!(Welcome::decode(Welcome(Process(process)).encode()), Welcome(Process(process)));
        }

        /// Both dial at once and both accept: whatever the order, both keep the same connection.
        #[test]
        fn crossed_dials_end_alike_on_both_sides(low_first: bool, high_first: bool, low_dial in 1u64..9, high_dial in 1u64..9) {
            // Each side ends with the dial of the low key, whether it accepted before its own dial was welcomed or after.
            let accept_at = |me: PeerId, peer: PeerId, mine: u64, theirs: u64, accepted_first: bool| {
                if accepted_first {
                    let kept = standing(Dialler::Peer, theirs);
                    match prefer_dialled(&me, &peer, &kept, Welcome(THEIRS)) {
                        Prefer::New => Dialler::Me,
                        Prefer::Standing => Dialler::Peer,
                    }
                } else {
                    let kept = standing(Dialler::Me, mine);
                    match prefer_accepted((&me, MINE), &peer, &kept, &greeting(THEIRS, theirs, None)) {
                        Prefer::New => Dialler::Peer,
                        Prefer::Standing => Dialler::Me,
                    }
                }
            };
            prop_assert_eq!(accept_at(LOW, HIGH, low_dial, high_dial, low_first), Dialler::Me);
            prop_assert_eq!(accept_at(HIGH, LOW, high_dial, low_dial, high_first), Dialler::Peer);
        }
    }

    #[test]
    fn a_restarted_peer_replaces_its_dead_connection() {
        for dialler in [Dialler::Me, Dialler::Peer] {
            for (me, peer) in [(LOW, HIGH), (HIGH, LOW)] {
                let new = greeting(Process(21), 1, None);
                assert_eq!(prefer_accepted((&me, MINE), &peer, &standing(dialler, 7), &new), Prefer::New);
            }
        }
    }

    #[test]
    fn a_peer_that_lost_a_connection_replaces_it() {
        for (me, peer) in [(LOW, HIGH), (HIGH, LOW)] {
            let lost_own = greeting(THEIRS, 8, None);
            assert_eq!(prefer_accepted((&me, MINE), &peer, &standing(Dialler::Peer, 7), &lost_own), Prefer::New);
            let lost_accepted = greeting(THEIRS, 8, Some(7));
            assert_eq!(prefer_accepted((&me, MINE), &peer, &standing(Dialler::Me, 7), &lost_accepted), Prefer::New);
        }
    }

    #[test]
    fn a_dial_that_arrives_late_changes_nothing() {
        let late = greeting(THEIRS, 6, None);
        assert_eq!(prefer_accepted((&LOW, MINE), &HIGH, &standing(Dialler::Peer, 7), &late), Prefer::Standing);
    }
}
