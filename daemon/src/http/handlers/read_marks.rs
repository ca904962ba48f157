//! Where clients left off reading, in a small file of the home beside the database: a mark that is lost or of another room costs
//! no more than a line on a screen in another place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chat_proto::api::readers::READERS_KEPT_MAX;
use chat_proto::id::{MessageId, RoomId};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::wall_clock;
use crate::private_file::{self, Lasting};

/// Name of the file in the home.
const FILE: &str = "readers.json";

/// Maximum length of the file in bytes; a longer one begins anew.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The marks of all readers.
#[derive(Debug)]
pub(crate) struct ReadMarks {
    path: PathBuf,
    kept: Mutex<KeptMarks>,
}

/// What the file has.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeptMarks {
    room: Option<RoomId>,
    readers: BTreeMap<String, KeptMark>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptMark {
    message: MessageId,
    at: Timestamp,
}

impl ReadMarks {
    /// The marks of a home. A file that cannot be read is as good as none.
    pub(crate) fn load(home: &Path) -> Self {
        let path = home.join(FILE);
        let short = fs::metadata(&path).is_ok_and(|about| about.len() <= FILE_BYTES_MAX);
        let text = if short { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        let kept = serde_json::from_slice(&text).unwrap_or_default();
        Self { path, kept: Mutex::new(kept) }
    }

    /// The last message that a reader of the room has read.
    pub(crate) fn get(&self, room: RoomId, name: &str) -> Option<MessageId> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let here = kept.room == Some(room);
        kept.readers.get(name).filter(|_| here).map(|mark| mark.message)
    }

    /// Notes the last message that a reader of the room has read; none forgets the reader.
    ///
    /// # Errors
    /// When the file cannot be written. The mark is kept in memory.
    pub(crate) fn set(&self, room: RoomId, name: &str, message: Option<MessageId>) -> io::Result<()> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.room != Some(room) {
            *kept = KeptMarks { room: Some(room), readers: BTreeMap::new() };
        }
        match message {
            Some(message) => drop(kept.readers.insert(name.to_owned(), KeptMark { message, at: wall_clock() })),
            None => drop(kept.readers.remove(name)),
        }
        if kept.readers.len() > READERS_KEPT_MAX
            && let Some(oldest) = kept.readers.iter().min_by_key(|(_, mark)| mark.at).map(|(name, _)| name.clone())
        {
            kept.readers.remove(&oldest);
        }
        private_file::write(&self.path, &serde_json::to_vec(&*kept)?, Lasting::WhileRunning)
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::id::EntryHash;

    use super::*;

    fn message(number: u8) -> MessageId {
        MessageId { entry: EntryHash::from_bytes([number; 32]), index: 0 }
    }

    #[test]
    fn marks_are_of_one_room_bounded_and_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let room = RoomId::from_bytes([1; 32]);
        let marks = ReadMarks::load(home.path());
        assert_eq!(marks.get(room, "chat"), None);
        for number in 0..=READERS_KEPT_MAX {
            marks.set(room, &format!("reader-{number}"), Some(message(1))).expect("kept");
        }
        marks.set(room, "chat", Some(message(2))).expect("kept");
        let marks = ReadMarks::load(home.path());
        assert_eq!(marks.get(room, "chat"), Some(message(2)));
        assert_eq!(marks.kept.lock().expect("unlocked").readers.len(), READERS_KEPT_MAX);
        let other = RoomId::from_bytes([2; 32]);
        assert_eq!(marks.get(other, "chat"), None);
        marks.set(other, "web", Some(message(3))).expect("kept");
        assert_eq!(marks.get(room, "chat"), None, "the room was left");
        marks.set(other, "web", None).expect("kept");
        assert_eq!(ReadMarks::load(home.path()).get(other, "web"), None);
    }

    #[test]
    fn file_that_is_damaged_begins_anew() {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join(FILE), "{ not json").expect("written");
        let room = RoomId::from_bytes([1; 32]);
        let marks = ReadMarks::load(home.path());
        assert_eq!(marks.get(room, "chat"), None);
        marks.set(room, "chat", Some(message(1))).expect("kept");
        assert_eq!(ReadMarks::load(home.path()).get(room, "chat"), Some(message(1)));
    }
}
