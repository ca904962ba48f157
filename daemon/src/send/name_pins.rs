//! Name pins: the member that this peer last wrote to under each name.
//!
//! Names move: a member takes another name, and a second one takes the first. A direct message to a name that another
//! member bears by now is refused until the caller says which of the two it means: by `name~tag`, a tag or a key, or with
//! `chat trust NAME`. Either pins the name anew.
//!
//! The pins are in a small file of the home beside the database, written before the message is sealed, and only when a pin
//! changes. A file that is lost costs no message: the first message to each name pins it again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_core::membership::roster::{Roster, with_tag};
use chat_proto::api::peers::PeerRef;
use chat_proto::id::{PeerId, RoomId};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::wall_clock;
use crate::private_file::{self, Lasting};

/// Name of the file in the home.
const FILE: &str = "pins.json";

/// Maximum number of pinned names; beyond it, the pin that was made first is dropped. A room has as many members at most
/// in practice.
const PINS_MAX: usize = 5_000;

/// Maximum length of the file in bytes, which fits [`PINS_MAX`] of the longest names; a longer one begins anew.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Another member bears a name than the one that this peer last wrote to under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is another member now, {}: you last wrote to {} under this name", with_tag(now), with_tag(before))]
pub(crate) struct NameMoved {
    /// The name.
    pub(crate) name: String,
    /// The member that bears it.
    pub(crate) now: PeerRef,
    /// The member that this peer last wrote to under it.
    pub(crate) before: PeerRef,
    /// Whether that one is still a member.
    pub(crate) before_is_member: bool,
}

impl NameMoved {
    /// What to do next.
    pub(crate) fn hint(&self) -> String {
        let (name, now) = (&self.name, with_tag(&self.now));
        let before = with_tag(&self.before);
        let former = match self.before_is_member {
            true => format!("'@{before}' writes to the one before"),
            false => format!("{before} is no longer a member"),
        };
        format!("'@{now}' or 'chat trust {name}' accepts the new one; {former}")
    }
}

/// The pins of one home.
#[derive(Debug)]
pub(crate) struct NamePins {
    path: PathBuf,
    kept: Mutex<KeptPins>,
    /// Held while the file is written.
    writing: Mutex<()>,
}

/// What the file has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct KeptPins {
    room: Option<RoomId>,
    names: BTreeMap<String, KeptPin>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptPin {
    peer: PeerId,
    at: Timestamp,
}

impl NamePins {
    /// The pins of a home. A file that cannot be read is as good as none.
    pub(crate) fn load(home: &Path) -> Self {
        let path = home.join(FILE);
        let kept = match fs::metadata(&path) {
            Ok(about) if about.len() <= FILE_BYTES_MAX => read(&path),
            Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(KeptPins::default()),
            Err(error) => Err(error),
        };
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "the pinned names cannot be read: each is pinned again when it is written to");
            KeptPins::default()
        });
        Self { path, kept: Mutex::new(kept), writing: Mutex::default() }
    }

    /// Checks that the name which a caller gave for `peer` means the same member as when this peer last wrote to it. A tag
    /// or a key always passes.
    ///
    /// # Errors
    /// [`NameMoved`].
    pub(crate) fn check(&self, roster: &Roster, given: &str, peer: PeerId) -> Result<(), Box<NameMoved>> {
        let now = roster.peer_ref(&peer);
        let Some(name) = plain_name(&now) else { return Ok(()) };
        if given.strip_prefix('@').unwrap_or(given).to_lowercase() != name {
            return Ok(());
        }
        match self.pinned(roster.room, &name) {
            Some(before) if before != peer => Err(Box::new(NameMoved {
                name: now.name.clone(),
                now,
                before: roster.peer_ref(&before),
                before_is_member: roster.is_member(&before),
            })),
            Some(_) | None => Ok(()),
        }
    }

    /// The pins that writing to these peers makes: their names, where they bear them alone and are not pinned to them yet.
    pub(crate) fn changes(&self, roster: &Roster, peers: impl Iterator<Item = PeerId>) -> Vec<(String, PeerId)> {
        let named = peers.filter_map(|peer| Some((plain_name(&roster.peer_ref(&peer))?, peer)));
        named.filter(|(name, peer)| self.pinned(roster.room, name) != Some(*peer)).collect()
    }

    /// Pins names. Blocks until they are on disk.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is pinned then.
    pub(crate) fn pin(&self, room: Option<RoomId>, pins: Vec<(String, PeerId)>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = self.kept().clone();
        if kept.room != room {
            kept = KeptPins { room, names: BTreeMap::new() };
        }
        let at = wall_clock();
        kept.names.extend(pins.into_iter().map(|(name, peer)| (name, KeptPin { peer, at })));
        while kept.names.len() > PINS_MAX
            && let Some(oldest) = kept.names.iter().min_by_key(|(_, pin)| pin.at).map(|(name, _)| name.clone())
        {
            kept.names.remove(&oldest);
        }
        private_file::write(&self.path, &serde_json::to_vec(&kept)?, Lasting::Forever)?;
        *self.kept() = kept;
        Ok(())
    }

    fn pinned(&self, room: Option<RoomId>, name: &str) -> Option<PeerId> {
        let kept = self.kept();
        kept.names.get(name).filter(|_| kept.room == room).map(|pin| pin.peer)
    }

    fn kept(&self) -> MutexGuard<'_, KeptPins> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<KeptPins> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// The name by which a peer alone is meant, as it is pinned; none where others bear it, too, and its tag is part of it.
fn plain_name(peer: &PeerRef) -> Option<String> {
    (!peer.name.contains('~')).then(|| peer.name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chat_core::membership::roster::Person;
    use chat_proto::api::peers::MemberRole;

    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::from_bytes([n; 32])
    }

    fn roster(names: &[(u8, &str)]) -> Roster {
        let person = |&(n, name): &(u8, &str)| {
            let reference = PeerRef { id: peer(n), name: name.into(), tag: peer(n).tag() };
            (peer(n), Arc::new(Person { peer: reference, active: true, role: MemberRole::Member, keys: None }))
        };
        let room = Some(RoomId::from_bytes([1; 32]));
        Roster { room, people: names.iter().map(person).collect(), ..Roster::default() }
    }

    fn write_to(pins: &NamePins, roster: &Roster, n: u8) {
        let changes = pins.changes(roster, [peer(n)].into_iter());
        pins.pin(roster.room, changes).expect("kept");
    }

    #[test]
    fn name_that_moved_is_refused_until_its_bearer_is_written_to_by_tag() {
        let home = tempfile::tempdir().expect("a directory");
        let (before, after) = (roster(&[(1, "Bob"), (2, "eve")]), roster(&[(1, "rob"), (2, "bob")]));
        let pins = NamePins::load(home.path());
        assert_eq!(pins.check(&after, "bob", peer(2)), Ok(()), "it was never written to");
        write_to(&pins, &before, 1);

        let pins = NamePins::load(home.path());
        let moved = pins.check(&after, "@BOB", peer(2)).expect_err("it is another one");
        assert_eq!((moved.now.id, moved.before.id, moved.before_is_member), (peer(2), peer(1), true));
        let (tag, key) = (format!("bob~{}", peer(2).tag()), peer(2).to_string());
        for explicit in [tag.as_str(), key.as_str(), "rob"] {
            assert_eq!(pins.check(&after, explicit, if explicit == "rob" { peer(1) } else { peer(2) }), Ok(()));
        }
        write_to(&pins, &after, 2);
        assert_eq!(pins.check(&after, "bob", peer(2)), Ok(()));
        assert!(pins.check(&before, "bob", peer(1)).is_err(), "and back again");
    }

    #[test]
    fn pins_are_of_one_room_and_bounded() {
        let home = tempfile::tempdir().expect("a directory");
        let pins = NamePins::load(home.path());
        let room = Some(RoomId::from_bytes([1; 32]));
        let many = (0..PINS_MAX).map(|n| (format!("{n:032}"), peer(1))).collect();
        pins.pin(room, many).expect("kept");
        pins.pin(room, vec![("zoe".into(), peer(2))]).expect("kept");
        let pins = NamePins::load(home.path());
        assert_eq!(pins.kept().names.len(), PINS_MAX);
        assert_eq!(pins.pinned(room, "zoe"), Some(peer(2)));
        assert_eq!(pins.pinned(Some(RoomId::from_bytes([2; 32])), "zoe"), None);
        pins.pin(Some(RoomId::from_bytes([2; 32])), vec![("ann".into(), peer(3))]).expect("kept");
        assert_eq!(pins.pinned(room, "zoe"), None);
    }

    #[test]
    fn name_that_others_bear_is_not_pinned() {
        let home = tempfile::tempdir().expect("a directory");
        let pins = NamePins::load(home.path());
        let shown = format!("bob~{}", peer(2).tag());
        let both = roster(&[(1, "bob"), (2, &shown)]);
        write_to(&pins, &both, 1);
        write_to(&pins, &both, 2);
        assert_eq!(pins.check(&both, "bob", peer(1)), Ok(()));
        assert_eq!(pins.check(&both, &shown, peer(2)), Ok(()));
    }
}
