//! The file `room.json` beside the database: the room to return to when the database is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chat_core::peers::addrs::AddrRecord;
use chat_proto::id::RoomId;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::store::tables::models::RoomRecord;

/// Maximum number of address records in the file: enough to reach a member that has the rest.
pub(in crate::store) const ADDRS_MAX: usize = 256;

/// Maximum size of a file that is read; a full one has about 300 KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Content of the file: what survives the loss of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct RoomFile {
    room: RoomId,
    room_name: String,
    open: bool,
    /// Whether SQLite found the database damaged, so that the next start checks all of it.
    #[serde(default)]
    pub(in crate::store) suspect: bool,
    pub(in crate::store) addrs: Vec<AddrRecord>,
}

impl RoomFile {
    pub(in crate::store) fn new(room: &RoomRecord, mut addrs: Vec<AddrRecord>) -> Self {
        addrs.sort_by_key(|record| std::cmp::Reverse(record.time));
        addrs.truncate(ADDRS_MAX);
        Self { room: room.id, room_name: room.name.clone(), open: room.open, suspect: false, addrs }
    }

    pub(in crate::store) fn room(&self) -> RoomRecord {
        RoomRecord { id: self.room, name: self.room_name.clone(), open: self.open }
    }

    /// Reads the file beside a database. One that cannot be read is ignored, as it is only a help.
    pub(in crate::store) fn read(database: &Path) -> Option<Self> {
        let path = path(database);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= FILE_BYTES_MAX => {}
            Ok(_) => {
                warn!(path = %path.display(), "room file is too long and is not used");
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!(path = %path.display(), %error, "room file cannot be read and is not used");
                return None;
            }
        }
        let read = fs::read(&path).and_then(|raw| serde_json::from_slice::<Self>(&raw).map_err(io::Error::other));
        match read {
            Ok(room_file) => {
                let (addrs, bad): (Vec<_>, Vec<_>) = room_file.addrs.into_iter().partition(AddrRecord::verify);
                if !bad.is_empty() {
                    warn!(path = %path.display(), records = bad.len(), "address records with a wrong signature are left out");
                }
                Some(Self { addrs, ..room_file })
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "room file cannot be read and is not used");
                None
            }
        }
    }

    /// Replaces the file beside a database atomically.
    pub(in crate::store) fn write(&self, database: &Path) -> io::Result<()> {
        let path = path(database);
        let fresh = path.with_extension("json.new");
        let raw = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&raw)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        match path.parent() {
            Some(home) if !home.as_os_str().is_empty() => File::open(home)?.sync_all(),
            Some(_) | None => Ok(()),
        }
    }
}

fn path(database: &Path) -> PathBuf {
    database.with_file_name("room.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat_proto::time::Timestamp;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn room_file() -> RoomFile {
        let record = |n: u8| {
            let addr = std::net::SocketAddr::from(([192, 0, 2, n], 24283));
            AddrRecord::sign(vec![addr], Timestamp::from_ms(n.into()), &SigningKey::from_bytes(&[n; 32]))
        };
        let room = RoomRecord { id: RoomId::from_bytes([7; 32]), name: "lab".into(), open: true };
        RoomFile::new(&room, vec![record(1), record(3), record(2)])
    }

    #[test]
    fn written_file_is_read_back_and_private() {
        let home = tempfile::tempdir().expect("a directory");
        let database = home.path().join("room.db");
        assert_eq!(RoomFile::read(&database), None);
        room_file().write(&database).expect("writes");
        assert_eq!(RoomFile::read(&database), Some(room_file()));
        let mode = fs::metadata(home.path().join("room.json")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn forged_address_records_are_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let database = home.path().join("room.db");
        let mut forged = room_file();
        forged.addrs[0].addrs.push(std::net::SocketAddr::from(([192, 0, 2, 66], 1)));
        forged.write(&database).expect("writes");
        assert_eq!(RoomFile::read(&database).expect("reads").addrs, room_file().addrs[1..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_content_panics(raw: Vec<u8>) {
            let home = tempfile::tempdir().expect("a directory");
            fs::write(home.path().join("room.json"), raw).expect("writes");
            prop_assert_eq!(RoomFile::read(&home.path().join("room.db")), None);
        }
    }
}
