//! The roster: a snapshot of the membership, shared with the gates, the API and the relay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chat_proto::api::peers::{MemberRole, PeerRef};
use chat_proto::id::{PeerId, PeerTag, RoomId};

/// Every peer that was ever admitted, according to the entries held at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The room.
    pub room: Option<RoomId>,
    /// The room's name.
    pub room_name: String,
    /// Whether every knock is admitted.
    pub open: bool,
    /// All peers, former members included: their messages still need a name.
    pub people: BTreeMap<PeerId, Arc<Person>>,
    /// Peers that may be members: those that were when this peer last ran, while control entries on its disk are damaged, and
    /// those of which a newcomer has addresses, until its own membership has arrived. They may connect, so that what is
    /// missing can be fetched from them.
    pub unsure: BTreeSet<PeerId>,
}

/// A peer that was admitted once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Key, shown name and tag. The name carries `~tag` where an earlier member holds a confusable one.
    pub peer: PeerRef,
    /// Whether it is a member now.
    pub active: bool,
    /// What it may do.
    pub role: MemberRole,
    /// Keys to seal direct messages with, once published.
    pub keys: Option<SealingKeys>,
}

/// Keys with which direct messages to a peer are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealingKeys {
    /// Curve25519 identity key.
    pub identity: [u8; 32],
    /// Curve25519 key that opens a session while the peer is away.
    pub fallback: [u8; 32],
    /// How they are sealed.
    pub sealing: Sealing,
}

/// How direct messages to a peer are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// As version 0.1 reads them: no padding, a MAC of eight bytes.
    Plain,
    /// Padded, with a whole MAC.
    Padded,
}

/// Why a name cannot be resolved. The state is unchanged; another spelling may succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such member.
    #[error("no member is called '{0}'")]
    Unknown(String),
    /// The peer has left or was removed.
    #[error("'{0}' is no longer a member")]
    Gone(String),
    /// More than one member matches.
    #[error("'{name}' could be {candidates}, say which with its tag")]
    Ambiguous {
        /// The name given.
        name: String,
        /// The members that match.
        candidates: String,
    },
}

impl Roster {
    /// Whether a peer is a member now: what every gate asks.
    pub fn is_member(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|person| person.active)
    }

    /// All present members.
    pub fn members(&self) -> impl Iterator<Item = &Person> {
        self.people.values().map(Arc::as_ref).filter(|person| person.active)
    }

    /// Whether a peer was a member, and was removed or left.
    pub fn is_former_member(&self, peer: &PeerId) -> bool {
        self.people.get(peer).is_some_and(|person| !person.active)
    }

    /// Whether a peer is the only admin of the room.
    pub fn is_last_admin(&self, peer: &PeerId) -> bool {
        let mut admins = self.members().filter(|person| person.role == MemberRole::Admin);
        admins.next().is_some_and(|admin| admin.peer.id == *peer) && admins.next().is_none()
    }

    /// How a peer is shown; a stranger by its tag.
    pub fn peer_ref(&self, peer: &PeerId) -> PeerRef {
        self.people.get(peer).map_or_else(
            || PeerRef { id: *peer, name: format!("~{}", peer.tag()), tag: peer.tag() },
            |person| person.peer.clone(),
        )
    }

    /// Finds the member that is meant by `bob`, `@bob`, `bob~tag`, a tag or a key, in any case.
    ///
    /// # Errors
    /// Whether no peer, a former member, or several match.
    pub fn resolve(&self, text: &str) -> Result<PeerId, ResolveError> {
        let person = self.find(text)?;
        if person.active { Ok(person.peer.id) } else { Err(ResolveError::Gone(bare(text).to_owned())) }
    }

    /// The same for members and former members: what they wrote is still there. Members come first.
    ///
    /// # Errors
    /// Whether no peer or several match.
    pub fn resolve_ever(&self, text: &str) -> Result<PeerId, ResolveError> {
        self.find(text).map(|person| person.peer.id)
    }

    fn find(&self, text: &str) -> Result<&Person, ResolveError> {
        let given = bare(text);
        if let Ok(id) = given.parse::<PeerId>() {
            return self.people.get(&id).map(Arc::as_ref).ok_or_else(|| ResolveError::Unknown(given.to_owned()));
        }
        let folded = given.to_lowercase();
        let (name, tag) = match folded.rsplit_once('~') {
            Some((name, tag)) => (name, tag.parse::<PeerTag>().ok()),
            None => (folded.as_str(), None),
        };
        let exact = |person: &&Person| person.peer.name.to_lowercase() == folded;
        let tagged = |person: &&Person| {
            let base = base_name(&person.peer.name).to_lowercase();
            tag.as_ref() == Some(&person.peer.tag) && (name.is_empty() || name == base)
        };
        // Where no member is shown under the plain name, several bear it.
        let base = |person: &&Person| base_name(&person.peer.name).to_lowercase() == folded;
        let by_tag = |person: &&Person| folded.parse::<PeerTag>().is_ok_and(|tag| tag == person.peer.tag);
        let shared = Some(self.pick(base)).filter(|people| people.len() > 1).unwrap_or_default();
        // A name may look like the tag of another member.
        let exact_or_tag = self.pick(|person| exact(person) || by_tag(person));
        let found = [exact_or_tag, self.pick(tagged), shared];
        match found.iter().find(|people| !people.is_empty()).map(Vec::as_slice) {
            None => Err(ResolveError::Unknown(given.to_owned())),
            Some([one]) => Ok(one),
            Some(several) => Err(ResolveError::Ambiguous {
                name: given.to_owned(),
                candidates: several.iter().map(|person| with_tag(&person.peer)).collect::<Vec<_>>().join(" or "),
            }),
        }
    }

    fn pick(&self, matches: impl Fn(&&Person) -> bool) -> Vec<&Person> {
        let all: Vec<&Person> = self.people.values().map(Arc::as_ref).filter(&matches).collect();
        let active: Vec<&Person> = all.iter().copied().filter(|person| person.active).collect();
        if active.is_empty() { all } else { active }
    }
}

/// A name with its tag, which means this peer for ever.
pub fn with_tag(peer: &PeerRef) -> String {
    format!("{}~{}", base_name(&peer.name), peer.tag)
}

/// A shown name without its tag.
fn base_name(shown: &str) -> &str {
    shown.split('~').next().unwrap_or(shown)
}

fn bare(text: &str) -> &str {
    text.strip_prefix('@').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(people: &[(u8, &str, bool)]) -> Roster {
        let person = |&(n, name, active): &(u8, &str, bool)| {
            let id = PeerId::from_bytes([n; 32]);
            let peer = PeerRef { id, name: name.into(), tag: id.tag() };
            (id, Arc::new(Person { peer, active, role: MemberRole::Member, keys: None }))
        };
        Roster { people: people.iter().map(person).collect(), ..Roster::default() }
    }

    #[test]
    fn names_tags_and_keys_find_their_member() {
        let bob = PeerId::from_bytes([1; 32]);
        let roster = roster(&[(1, "bob", true), (2, "Zoë", true), (3, "gone", false)]);
        for text in ["bob", "@Bob", &bob.to_string(), &bob.tag().to_string(), &format!("bob~{}", bob.tag())] {
            assert_eq!(roster.resolve(text), Ok(bob), "{text}");
        }
        assert_eq!(roster.resolve("ZOË"), Ok(PeerId::from_bytes([2; 32])));
        assert_eq!(roster.resolve("gone"), Err(ResolveError::Gone("gone".into())));
        assert_eq!(roster.resolve_ever("@gone"), Ok(PeerId::from_bytes([3; 32])));
        assert_eq!(roster.resolve_ever("bob"), Ok(bob));
        assert_eq!(roster.resolve("nobody"), Err(ResolveError::Unknown("nobody".into())));
        assert!(roster.resolve("").is_err());
    }

    #[test]
    fn name_that_is_the_tag_of_another_member_is_ambiguous() {
        let bob = PeerId::from_bytes([1; 32]);
        let tag = bob.tag().to_string();
        let roster = roster(&[(1, "bob", true), (2, &tag, true)]);
        assert!(matches!(roster.resolve(&tag), Err(ResolveError::Ambiguous { .. })));
        assert_eq!(roster.resolve(&format!("~{tag}")), Ok(bob));
    }

    #[test]
    fn a_second_bob_is_reached_by_its_shown_name() {
        let second = PeerId::from_bytes([2; 32]);
        let shown = format!("bob~{}", second.tag());
        let roster = roster(&[(1, "bob", true), (2, &shown, true)]);
        assert_eq!(roster.resolve("bob"), Ok(PeerId::from_bytes([1; 32])));
        assert_eq!(roster.resolve(&shown), Ok(second));
    }
}
