//! The file `room.json` beside the database: which room to return to when the database is lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chat_core::peers::addrs::AddrRecord;
use chat_proto::id::RoomId;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::store::tables::models::Room;

/// Most address records that are kept: enough to find somebody who knows the rest.
pub(in crate::store) const ADDRS_MAX: usize = 256;

/// Largest file that is looked at: a full one has about 300 KiB.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What survives the loss of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Sidecar {
    room: RoomId,
    room_name: String,
    open: bool,
    /// Whether the database failed in a way that calls for a thorough check at the next start.
    #[serde(default)]
    pub(in crate::store) suspect: bool,
    pub(in crate::store) addrs: Vec<AddrRecord>,
}

impl Sidecar {
    pub(in crate::store) fn new(room: &Room, mut addrs: Vec<AddrRecord>) -> Self {
        addrs.sort_by_key(|record| std::cmp::Reverse(record.time));
        addrs.truncate(ADDRS_MAX);
        Self { room: room.id, room_name: room.name.clone(), open: room.open, suspect: false, addrs }
    }

    pub(in crate::store) fn room(&self) -> Room {
        Room { id: self.room, name: self.room_name.clone(), open: self.open }
    }

    /// Reads the file beside a database. One that cannot be read counts as none: it only helps.
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
            Ok(sidecar) => {
                let (addrs, bad): (Vec<_>, Vec<_>) = sidecar.addrs.into_iter().partition(AddrRecord::verify);
                if !bad.is_empty() {
                    warn!(path = %path.display(), records = bad.len(), "address records that do not hold are left out");
                }
                Some(Self { addrs, ..sidecar })
            }
            Err(error) => {
                warn!(path = %path.display(), %error, "room file cannot be read and is not used");
                None
            }
        }
    }

    /// Writes the file beside a database so that at every moment either the old or the new one is there.
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

    fn sidecar() -> Sidecar {
        let record = |n: u8| {
            let addr = std::net::SocketAddr::from(([192, 0, 2, n], 24283));
            AddrRecord::sign(vec![addr], Timestamp::from_ms(n.into()), &SigningKey::from_bytes(&[n; 32]))
        };
        let room = Room { id: RoomId::from_bytes([7; 32]), name: "lab".into(), open: true };
        Sidecar::new(&room, vec![record(1), record(3), record(2)])
    }

    #[test]
    fn what_is_written_is_read_and_is_for_its_owner_alone() {
        let home = tempfile::tempdir().expect("a directory");
        let database = home.path().join("room.db");
        assert_eq!(Sidecar::read(&database), None);
        sidecar().write(&database).expect("writes");
        assert_eq!(Sidecar::read(&database), Some(sidecar()));
        let mode = fs::metadata(home.path().join("room.json")).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn forged_addresses_are_left_out() {
        let home = tempfile::tempdir().expect("a directory");
        let database = home.path().join("room.db");
        let mut forged = sidecar();
        forged.addrs[0].addrs.push(std::net::SocketAddr::from(([192, 0, 2, 66], 1)));
        forged.write(&database).expect("writes");
        assert_eq!(Sidecar::read(&database).expect("reads").addrs, sidecar().addrs[1..]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_content_panics(raw: Vec<u8>) {
            let home = tempfile::tempdir().expect("a directory");
            fs::write(home.path().join("room.json"), raw).expect("writes");
            prop_assert_eq!(Sidecar::read(&home.path().join("room.db")), None);
        }
    }
}
