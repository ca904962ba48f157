//! What an opening changes in the database, written with the writer's first transaction.
//!
//! An opening itself writes nothing into a database that is up to date: on a full disk it could not be opened even to be
//! read. The run ([`Runs`]) precedes its first event that way. So does the row about the database where it names another
//! incarnation, because the file is a copy or was rolled back, and the disk had no space for it when it was opened.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::store::dm;
use crate::store::open::head_mark::{HeadMark, HeadMarker};
use crate::store::tables::meta::StoreMeta;
use crate::store::tables::runs::Runs;

/// What an opening changes and has not written.
#[derive(Clone, Debug)]
pub(in crate::store) struct Opening {
    runs: Runs,
    /// The row about the database, if it changed and could not be written.
    continued: Option<StoreMeta>,
    path: PathBuf,
}

impl Opening {
    pub(in crate::store) fn new(path: &Path, runs: Runs) -> Self {
        Self { runs, continued: None, path: path.to_owned() }
    }

    /// Writes the row about the database later: the disk is full now.
    pub(in crate::store) fn continue_later(&mut self, meta: StoreMeta) {
        self.continued = Some(meta);
    }

    pub(in crate::store) fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Writes all of it; called within a transaction.
    pub(in crate::store) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(meta) = &self.continued {
            continue_as(connection, meta)?;
        }
        self.runs.write(connection)
    }

    /// Called when that transaction is flushed.
    pub(in crate::store) fn written(self) {
        if let Some(meta) = self.continued {
            HeadMarker::new(&self.path).write(HeadMark::of_new(meta.incarnation));
        }
    }
}

/// Continues the database under another incarnation.
pub(super) fn continue_as(connection: &Connection, meta: &StoreMeta) -> rusqlite::Result<()> {
    // A copy that continued this log elsewhere continued its sessions too.
    dm::retire_sessions(connection)?;
    meta.write(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fixture::{StoreHome, TestAuthor};

    #[tokio::test]
    async fn incarnation_for_which_the_disk_had_no_space_is_written_later() {
        let me = TestAuthor::new(1).id();
        let home = StoreHome::new(me);
        let opened = home.open_in_room().await;
        opened.store.close().await;
        let connection = Connection::open(home.path()).expect("opens");
        let known = StoreMeta::read(&connection).expect("reads").expect("is there");
        let other = StoreMeta::fresh(me, known.file, known.room.clone());
        let mut opening = Opening::new(&home.path(), Runs::begin(&connection).expect("begins"));
        opening.continue_later(other.clone());
        assert_eq!(StoreMeta::read(&connection).expect("reads"), Some(known));

        opening.write(&connection).expect("writes");
        opening.written();
        assert_eq!(StoreMeta::read(&connection).expect("reads"), Some(other.clone()));
        drop(connection);
        assert_eq!(home.open().store.incarnation(), other.incarnation, "the mark agrees with it");
    }
}
