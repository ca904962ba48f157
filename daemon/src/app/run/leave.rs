//! Leaves a room for good: the other members learn of it, and the room's files are set aside, not deleted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chat_core::input::Command;
use chat_core::log::entry::LogId;
use chat_core::output::{CommandError, Reply};
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;
use tokio::time::{Instant, sleep};

use crate::node::handle::NodeHandle;
use crate::private_file::ignore_missing;
use crate::store::Store;

/// Timeout for another member to hold the entry with which this peer left; offline members get it from there.
const SPREAD_MAX: Duration = Duration::from_secs(2);

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Files that belong to a room, in the order in which they are renamed: the one that names the room goes first, since the
/// database names it as well should the rest fail.
const ROOM_FILES: [&str; 5] = ["room.json", "head.mark", "room.db-wal", "room.db-shm", "room.db"];

/// Leaves the room and waits until another member knows, [`SPREAD_MAX`] at most.
///
/// # Errors
/// When the room refuses; this peer is still a member.
pub(crate) async fn leave(node: &NodeHandle, store: &Store, me: PeerId) -> Result<(), CommandError> {
    let others = others_online(node).await?;
    node.command(Command::Leave).await?;
    if !(others && is_spread(node, store, me).await) {
        tracing::warn!("this peer left, but no other member could be notified");
    }
    Ok(())
}

/// Waits until another member holds this peer's newest entry. A member that holds it closes its connections to a peer that
/// left, so no online member means that they know as well.
async fn is_spread(node: &NodeHandle, store: &Store, me: PeerId) -> bool {
    let log = LogId { author: me, incarnation: store.incarnation() };
    let heads = match store.restore().await {
        Ok(restored) => restored.map(|restored| restored.heads).unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "the newest entry cannot be found");
            return false;
        }
    };
    let Some(head) = heads.into_iter().find(|head| head.log == log) else {
        return false;
    };
    let deadline = Instant::now() + SPREAD_MAX;
    while Instant::now() < deadline {
        let held = match node.command(Command::Holders(log, head.seq)).await {
            Ok(Reply::Holders(holders)) => holders.iter().any(|holder| *holder != me),
            Ok(_) | Err(_) => return false,
        };
        if held || !others_online(node).await.unwrap_or(false) {
            return true;
        }
        sleep(LOOK_EVERY).await;
    }
    false
}

async fn others_online(node: &NodeHandle) -> Result<bool, CommandError> {
    let reply = node.command(Command::Status).await?;
    Ok(matches!(reply, Reply::Status(status) if status.online > 1))
}

/// Files of a room that were set aside.
#[derive(Debug)]
pub(crate) struct SetAside(Vec<(PathBuf, PathBuf)>);

/// Renames a room's files, so that the home is in no room. The store must be closed.
///
/// # Errors
/// When a file cannot be renamed; those already renamed are put back.
pub(crate) fn set_aside(root: &Path, now: Timestamp) -> io::Result<SetAside> {
    let time: String = now.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    let mut renamed = SetAside(Vec::new());
    for name in ROOM_FILES {
        let (from, to) = (root.join(name), root.join(aside(name, &time)));
        match fs::rename(&from, &to) {
            Ok(()) => renamed.0.push((from, to)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                renamed.put_back()?;
                return Err(error);
            }
        }
    }
    Ok(renamed)
}

/// SQLite finds the write-ahead log by the database's name: `room.db-wal` becomes `room.db.left-….-wal`.
fn aside(name: &str, time: &str) -> String {
    match name.strip_prefix("room.db") {
        Some(suffix) => format!("room.db.left-{time}{suffix}"),
        None => format!("{name}.left-{time}"),
    }
}

impl SetAside {
    /// Puts the files back after the next room could not be opened. What that one left is removed, since SQLite would take
    /// its write-ahead log for this room's.
    ///
    /// # Errors
    /// When a file cannot be renamed.
    pub(crate) fn undo(self) -> io::Result<()> {
        if let Some(root) = self.0.first().and_then(|(from, _)| from.parent()) {
            for name in ROOM_FILES {
                ignore_missing(fs::remove_file(root.join(name)))?;
            }
        }
        self.put_back()
    }

    fn put_back(self) -> io::Result<()> {
        self.0.into_iter().rev().try_for_each(|(from, to)| fs::rename(to, from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root).expect("readable");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_set_aside_are_kept_and_can_be_put_back() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path();
        for name in ["room.json", "room.db", "room.db-wal", "identity.key"] {
            fs::write(root.join(name), name).expect("written");
        }
        let aside = set_aside(root, Timestamp::from_ms(0)).expect("set aside");
        assert_eq!(
            names(root),
            [
                "identity.key",
                "room.db.left-19700101T000000000Z",
                "room.db.left-19700101T000000000Z-wal",
                "room.json.left-19700101T000000000Z"
            ]
        );
        fs::write(root.join("room.db"), "of the new room").expect("written");
        aside.undo().expect("undone");
        assert_eq!(names(root), ["identity.key", "room.db", "room.db-wal", "room.json"]);
        assert_eq!(fs::read(root.join("room.db")).expect("readable"), b"room.db");
    }

    #[test]
    fn failed_rename_puts_all_files_back() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let root = directory.path();
        for name in ["room.json", "room.db"] {
            fs::write(root.join(name), name).expect("written");
        }
        fs::create_dir(root.join("room.db.left-19700101T000000000Z")).expect("a directory in the way");
        set_aside(root, Timestamp::from_ms(0)).expect_err("cannot be renamed over a directory");
        assert_eq!(names(root), ["room.db", "room.db.left-19700101T000000000Z", "room.json"]);
        assert_eq!(fs::read(root.join("room.db")).expect("readable"), b"room.db");
    }

    #[test]
    fn home_without_a_room_is_unchanged() {
        let directory = tempfile::tempdir().expect("temporary directory");
        set_aside(directory.path(), Timestamp::from_ms(0)).expect("nothing to do").undo().expect("nothing to undo");
        assert!(names(directory.path()).is_empty());
    }
}
