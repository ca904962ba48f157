//! What a home remembers about rooms beside the database, so that it never founds another room by itself.
//!
//! `home.json` ([`RoomMark`]) says that the home is or was in a room, and which. It is written when a room has been opened,
//! and removed when the peer leaves for good. `join.json` ([`JoinWish`]) says which room the home asks to be admitted to:
//! it is written before the first knock, so that a start after a crash asks again, and removed when a member has admitted
//! this peer, when the peer leaves, or when another room is named. Both survive a power failure.
//!
//! A file that cannot be read still says that there was a room, or a wish.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chat_proto::id::RoomId;
use serde::{Deserialize, Serialize};

use crate::app::home::Home;
use crate::private_file::{self, Lasting, ignore_missing};

/// The room that a home is or was in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoomMark {
    /// Which, if that is known.
    pub(crate) room: Option<RoomId>,
    /// Its name; empty if it is not known.
    pub(crate) room_name: String,
}

impl RoomMark {
    /// The mark of a home; `None` if it never was in a room.
    pub(crate) fn read(home: &Home) -> Option<Self> {
        let path = home.root().join("home.json");
        path.exists().then(|| read(&path).unwrap_or_default())
    }

    /// Writes the mark, unless the home has it already.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn write(&self, home: &Home) -> io::Result<()> {
        if Self::read(home).as_ref() == Some(self) {
            return Ok(());
        }
        write(&home.root().join("home.json"), self)
    }

    /// Removes the mark: the peer has left its room for good.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn remove(home: &Home) -> io::Result<()> {
        ignore_missing(fs::remove_file(home.root().join("home.json")))
    }

    /// The mark of a home whose database holds no room although it held one: as written, or as earlier versions leave it
    /// to be inferred from the files around the database. `None` if the home never was in a room.
    pub(crate) fn of_lost_room(home: &Home, set_aside: Option<&Path>) -> Option<Self> {
        let inferred =
            || set_aside.is_some() || home.root().join("room.json").exists() || has_only_damaged(home.root());
        Self::read(home).or_else(|| inferred().then(Self::default))
    }
}

/// Whether a database was once set aside as damaged, and none because the peer left.
fn has_only_damaged(root: &Path) -> bool {
    let names: Vec<_> = fs::read_dir(root)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect())
        .unwrap_or_default();
    let any = |start: &str| names.iter().any(|name| name.to_string_lossy().starts_with(start));
    any("room.db.corrupt-") && !any("room.db.left-")
}

/// Whether the home holds or held a room, as far as its files show.
pub(crate) fn holds_room(home: &Home) -> bool {
    let database = fs::metadata(home.database()).is_ok_and(|metadata| metadata.len() > 0);
    database || ["room.json", "home.json"].iter().any(|name| home.root().join(name).exists())
}

/// The wish of a home to be admitted to a room. The target may be a ticket, which is a secret: the file is private.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoinWish {
    /// A ticket or an address, as `--join` takes it.
    pub(crate) target: String,
    /// The name asked for.
    pub(crate) name: String,
    /// Why a member refused; the home does not ask again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) denied: Option<String>,
}

impl std::fmt::Debug for JoinWish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinWish").field("name", &self.name).field("denied", &self.denied).finish_non_exhaustive()
    }
}

impl JoinWish {
    /// The wish of a home, if it has one.
    ///
    /// # Errors
    /// The path of a file that cannot be read.
    pub(crate) fn read(home: &Home) -> Result<Option<Self>, PathBuf> {
        let path = home.root().join("join.json");
        if path.exists() { read(&path).map(Some).ok_or(path) } else { Ok(None) }
    }

    /// Writes the wish.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn write(&self, home: &Home) -> io::Result<()> {
        write(&home.root().join("join.json"), self)
    }

    /// Removes the wish.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn remove(home: &Home) -> io::Result<()> {
        ignore_missing(fs::remove_file(home.root().join("join.json")))
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    let read = fs::read(path).and_then(|content| Ok(serde_json::from_slice(&content)?));
    read.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a file of the home cannot be read")).ok()
}

fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(content)?;
    text.push(b'\n');
    private_file::write(path, &text, Lasting::Forever)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = Home::locate(Some(directory.path()), |_| None).expect("known");
        (directory, home)
    }

    #[test]
    fn mark_of_a_room_survives_damage_to_its_file() {
        let (_directory, home) = home();
        assert_eq!(RoomMark::read(&home), None);
        let mark = RoomMark { room: Some(RoomId::from_bytes([1; 32])), room_name: "lab".into() };
        mark.write(&home).expect("written");
        assert_eq!(RoomMark::read(&home), Some(mark));
        fs::write(home.root().join("home.json"), "{").expect("written");
        assert_eq!(RoomMark::read(&home), Some(RoomMark::default()), "there was a room");
        RoomMark::remove(&home).expect("removed");
        assert_eq!(RoomMark::of_lost_room(&home, None), None);
    }

    #[test]
    fn home_of_an_earlier_version_is_known_by_the_files_around_its_database() {
        let (_directory, home) = home();
        assert!(RoomMark::of_lost_room(&home, Some(Path::new("/h/room.db.corrupt-1"))).is_some());
        fs::write(home.root().join("room.db.corrupt-1"), "x").expect("written");
        assert!(RoomMark::of_lost_room(&home, None).is_some());
        fs::write(home.root().join("room.db.left-2"), "x").expect("written");
        assert_eq!(RoomMark::of_lost_room(&home, None), None, "the peer left on purpose");
        fs::write(home.root().join("room.json"), "{").expect("written");
        assert!(RoomMark::of_lost_room(&home, None).is_some());
    }

    #[test]
    fn wish_is_kept_until_it_is_removed() {
        let (_directory, home) = home();
        assert_eq!(JoinWish::read(&home), Ok(None));
        let wish = JoinWish { target: "192.0.2.7:24283".into(), name: "bob".into(), denied: None };
        wish.write(&home).expect("written");
        assert_eq!(JoinWish::read(&home), Ok(Some(wish)));
        fs::write(home.root().join("join.json"), "{").expect("written");
        assert_eq!(JoinWish::read(&home), Err(home.root().join("join.json")));
        JoinWish::remove(&home).expect("removed");
        assert_eq!(JoinWish::read(&home), Ok(None));
    }
}
