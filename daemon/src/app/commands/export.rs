//! `chatd export`: the home's room as JSON lines that `chatd verify` checks anywhere.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::PathBuf;

use crate::app::archive::{Archive, ArchiveHeads, ArchiveWriter, Flaw};
use crate::app::home::Home;
use crate::app::home::identity::{self, AbsentKey, IdentityError};
use crate::app::report::exit_error::ExitError;
use crate::app::report::startup_report::talk;
use crate::app::settings::args::ExportArgs;
use crate::clock::wall_clock;
use crate::store::read::export::{ExportError, Snapshot};

/// Why an export ends with an error.
#[derive(Debug, thiserror::Error)]
enum ExportFailed {
    /// The key that signs it cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The earlier export is not sound.
    #[error("{path} cannot be continued", path = .path.display())]
    After {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Flaw,
    },
    /// The earlier export is of another room.
    #[error("{path} is an export of another room", path = .0.display())]
    OtherRoom(PathBuf),
    /// The database cannot be exported.
    #[error(transparent)]
    Store(#[from] ExportError),
    /// The output fails.
    #[error("the export cannot be written")]
    Write(#[from] io::Error),
}

/// Exports the room of a home.
pub(crate) fn run(args: &ExportArgs, home: &Home) -> Result<(), ExitError> {
    match export(args, home) {
        Ok(entries) => {
            talk(&format!("{entries} entries exported; 'chatd verify FILE' checks them anywhere\n"));
            Ok(())
        }
        Err(ExportFailed::Write(error)) => Err(error.into()),
        Err(error) => Err(ExitError::refused(&error)),
    }
}

fn export(args: &ExportArgs, home: &Home) -> Result<u64, ExportFailed> {
    let key = identity::load_or_create(&home.identity(), AbsentKey::Refuse)?;
    let snapshot = Snapshot::open(&home.database())?;
    let room = snapshot.room();
    let after = match &args.after {
        None => ArchiveHeads::default(),
        Some(path) => {
            let unsound = |source| ExportFailed::After { path: path.clone(), source };
            let file = File::open(path).map_err(|error| unsound(error.into()))?;
            let archive = Archive::verify(BufReader::new(file)).map_err(unsound)?;
            if archive.room != room.id {
                return Err(ExportFailed::OtherRoom(path.clone()));
            }
            archive.heads
        }
    };
    let seqs = after.seqs();
    let to = BufWriter::new(io::stdout().lock());
    let mut writer = ArchiveWriter::begin(to, (room.id, &room.name), snapshot.me(), wall_clock(), after)?;
    snapshot.entries(&seqs, |entry| writer.entry(entry).map_err(ExportFailed::from))?;
    Ok(writer.end(&key)?)
}
