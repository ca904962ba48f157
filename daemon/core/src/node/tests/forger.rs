//! Entries as no honest node would write them.

use chat_proto::id::PeerId;
use ed25519_dalek::SigningKey;

use crate::log::entry::{Body, Control, Dep, Entry, Header, Hlc, Incarnation, LogId, Seq, SignedEntry};
use crate::node::tests::kit::{Kit, key, text};

/// Signs entries of a log by hand, as no honest node would.
pub(super) struct Forger {
    pub(super) key: SigningKey,
    pub(super) header: Header,
    /// The admission of the author, on which the first entry of each of its logs depends.
    admission: Option<Dep>,
}

impl Forger {
    /// Begins a log of a peer under an incarnation of its own, after everything the first peer has seen.
    pub(super) fn new(kit: &Kit, n: usize, incarnation: u64) -> Self {
        let key = key(n);
        let author = PeerId::from_bytes(key.verifying_key().to_bytes());
        let header = Header {
            version: 1,
            room: kit.peers[0].node.room(),
            log: LogId { author, incarnation: Incarnation(incarnation) },
            seq: Seq(1),
            backlink: None,
            time: kit.peers[0].node.logs.heads.clock().next().max(Hlc::from_wall(kit.now.wall)),
            deps: Vec::new(),
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let admitted_in = kit.peers[0].node.membership.derived.admitted_in(&author);
        let admission = admitted_in.map(|log| Dep { log, seq: kit.peers[0].node.logs.heads.seq(&log) });
        Self { key, header, admission }
    }

    /// Goes on behind what a peer holds of its log.
    pub(super) fn behind(kit: &Kit, n: usize) -> Self {
        let mut forger = Self::new(kit, n, 0);
        let log = LogId { author: kit.peers[n].id, incarnation: kit.peers[n].incarnation };
        forger.header.log = log;
        if let Some(last) = kit.peers[n].logs.get(&log).and_then(|entries| entries.last()) {
            forger.header.seq = last.seq().next();
            forger.header.backlink = Some(last.hash());
            forger.header.time = Hlc(last.header().time.0 + 1);
        }
        forger
    }

    /// Does not name its admission: its log is void.
    pub(super) fn unadmitted(self) -> Self {
        Self { admission: None, ..self }
    }

    /// The next entry.
    pub(super) fn sign(&mut self, body: Body) -> SignedEntry {
        self.try_sign(body).expect("within bounds")
    }

    /// The next entry, if it is within bounds.
    pub(super) fn try_sign(&mut self, body: Body) -> Option<SignedEntry> {
        let mut header = self.header.clone();
        header.deps.extend(self.admission.filter(|_| header.seq == Seq(1)));
        let entry = Entry::sign(header, body, &self.key).ok()?;
        self.header.seq = self.header.seq.next();
        self.header.backlink = Some(entry.hash());
        self.header.time = Hlc(self.header.time.0.saturating_add(1));
        Some(entry.signed().clone())
    }

    pub(super) fn say(&mut self, what: &str) -> SignedEntry {
        self.sign(Body::Messages(vec![text(what)]))
    }

    pub(super) fn control(&mut self, control: Control) -> SignedEntry {
        self.sign(Body::Control(control))
    }
}
