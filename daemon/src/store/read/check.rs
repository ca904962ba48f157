//! Verifies a whole database without a store: its pages and every entry. Changes nothing.

use std::path::Path;

use chat_core::log::entry::{LogId, Seq};

use crate::store::error::ReadError;
use crate::store::open::connection::{open_reader, page_problems};
use crate::store::tables::damage;

/// Maximum number of damaged pages that are named.
const PROBLEMS_MAX: u32 = 20;

/// What was found in a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of entries that were checked.
    pub entries: u64,
    /// Number of entries whose texts are no longer kept.
    pub without_text: u64,
    /// Entries that are not what their authors signed.
    pub damaged: Vec<(LogId, Seq)>,
    /// Damage to the pages of the file, in SQLite's words; at most 20.
    pub problems: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.problems.is_empty()
    }
}

/// Verifies a database. A daemon may be running on it.
///
/// # Errors
/// [`ReadError::Database`] where it cannot be read at all.
pub fn check(path: &Path) -> Result<CheckReport, ReadError> {
    let connection = open_reader(path)?;
    let problems = page_problems(&connection, PROBLEMS_MAX)?;
    let mut report = CheckReport { problems, ..CheckReport::default() };
    let mut row = 0;
    loop {
        let checked = damage::check_some(&connection, row)?;
        report.entries += checked.count;
        report.without_text += checked.without_body;
        report.damaged.extend(checked.damaged);
        match checked.last {
            Some(last) => row = last,
            None => return Ok(report),
        }
    }
}
