//! Filter of an event stream: by type and by member.

use chat_core::membership::roster::Roster;
use chat_proto::event::Event;
use chat_proto::id::PeerId;

use crate::http::extract::QueryParams;
use crate::http::problem::Refusal;
use crate::store::tables::models::StoredEventKind;

/// Every event type.
pub(crate) const TYPES: [&str; 8] = ["message", "peer", "membership", "rendezvous", "delivery", "knock", "fork", "gap"];

/// Which events a client receives. Every client receives gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EventFilter {
    types: Option<Vec<&'static str>>,
    from: Option<PeerId>,
}

impl EventFilter {
    /// Reads `type` and `from`.
    pub(super) fn of(params: &QueryParams, roster: &Roster) -> Result<Self, Refusal> {
        let types = params.text("type")?.map(types).transpose()?;
        let from = params.text("from")?.map(|text| roster.resolve_ever(text)).transpose()?;
        Ok(Self { types, from })
    }

    /// One type alone.
    #[cfg(test)]
    pub(super) fn only(kind: &'static str) -> Self {
        Self { types: Some(vec![kind]), from: None }
    }

    /// Whether the client receives this event.
    pub(super) fn wants(&self, kind: &StoredEventKind) -> bool {
        let name = match kind {
            StoredEventKind::Message(_) => "message",
            StoredEventKind::Other(event) => event.name(),
        };
        self.types.as_ref().is_none_or(|types| types.contains(&name))
            && self.from.is_none_or(|peer| is_about(kind, peer))
    }
}

fn types(text: &str) -> Result<Vec<&'static str>, Refusal> {
    text.split(',')
        .map(|given| {
            TYPES.into_iter().find(|known| *known == given.trim()).ok_or_else(|| {
                Refusal::bad(format!("'{given}' is not an event type"))
                    .hint(format!("the event types are {}", TYPES.join(", ")))
            })
        })
        .collect()
}

/// Whether an event is about this peer: a message of it, its state, or a change made by it or to it.
fn is_about(kind: &StoredEventKind, peer: PeerId) -> bool {
    match kind {
        StoredEventKind::Message(row) => row.log.author == peer,
        StoredEventKind::Other(event) => match event {
            Event::Message { message } => message.from.id == peer,
            Event::Peer { peer: view } => view.peer.id == peer,
            Event::Membership { change } => change.peer.id == peer || change.by.id == peer,
            Event::Rendezvous { change } => {
                change.to.id == peer || change.from.as_ref().is_some_and(|from| from.id == peer)
            }
            Event::Delivery { delivered, .. } => delivered.iter().any(|to| to.id == peer),
            Event::Knock { .. } => false,
            Event::Fork { peer: author } => author.id == peer,
            Event::Gap { .. } => true,
        },
    }
}
