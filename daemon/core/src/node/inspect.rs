//! What simulations inspect.

use std::collections::BTreeMap;

use chat_proto::id::{InviteId, PeerId, Term};

use crate::log::entry::{Dep, LogId, Seq};
use crate::membership::derive::InviteState;
use crate::node::Node;

/// A look into a node.
pub(crate) struct Inspect<'a>(&'a Node);

impl Node {
    pub(crate) fn inspect(&self) -> Inspect<'_> {
        Inspect(self)
    }
}

impl Inspect<'_> {
    /// The last valid sequence number of a log, where it is cut.
    pub(crate) fn cut(&self, log: &LogId) -> Option<Seq> {
        self.0.logs.heads.cut(log)
    }

    /// The holder of the role, as this node believes.
    pub(crate) fn holder(&self) -> Option<PeerId> {
        self.0.role.query().and_then(|role| role.holder()).map(|(holder, _)| holder)
    }

    /// The newest term that this node knows.
    pub(crate) fn term(&self) -> Option<Term> {
        self.0.role.query().map(|role| role.term())
    }

    pub(crate) fn invites(&self) -> Vec<(InviteId, InviteState)> {
        self.0.membership.derived.invites().iter().map(|(id, invite)| (*id, invite.clone())).collect()
    }

    /// How far each log is held, where it is cut, where it ends before a fork, and what waits of it.
    pub(crate) fn logs(&self) -> BTreeMap<LogId, String> {
        let logs = &self.0.logs;
        let row = |log: &LogId| {
            let (held, cut, end, reach) =
                (logs.heads.seq(log).0, logs.heads.cut(log), logs.heads.end(log), logs.reach(log).0);
            let bodies = (1..=held).filter(|seq| logs.bodies.lacks(&Dep { log: *log, seq: Seq(*seq) })).count();
            let waiting = format!("with what waits to {reach}, without {bodies} bodies");
            (*log, format!("held to {held}, {waiting}, cut {cut:?}, fork after {end:?}"))
        };
        logs.heads.logs().map(row).collect()
    }

    /// Unfinished work, by name: none once a room has settled.
    pub(crate) fn work_left(&self) -> Vec<(&'static str, usize)> {
        let node = self.0;
        let sync = node.delivery.sync.sizes();
        let mut left = vec![
            ("entries that wait", node.logs.pending.len()),
            ("missing entries", usize::from(node.delivery.sync.missing(&node.logs, &node.peers.connections) > 0)),
            ("drafts", node.delivery.drafts.len()),
            ("waits", node.delivery.receipts.waits()),
            ("outputs", node.cx.out.len()),
        ];
        left.extend(sync);
        left.push(("suspects", node.logs.forks.suspects()));
        left.retain(|(_, count)| *count > 0);
        left
    }
}
