//! Maps numbers to SQLite's signed integers and back, and SQLite's errors to ours.

use chat_core::input::PersistError;
use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_SHMSIZE;

/// Maps an unsigned number to a signed one so that `ORDER BY` and `<` give the same order.
pub(in crate::store) fn ordered(value: u64) -> i64 {
    (value ^ (1 << 63)).cast_signed()
}

/// Undoes [`ordered`].
pub(in crate::store) fn unordered(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

/// Maps a number that counts stored things and therefore stays far below the bound; larger ones are clamped.
pub(in crate::store) fn counted(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Undoes [`counted`].
pub(in crate::store) fn uncounted(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Classifies an error: a full disk is one where the file system has no space for the files or for the shared memory.
pub(in crate::store) fn persist_error(error: &rusqlite::Error) -> PersistError {
    let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHMSIZE);
    if full { PersistError::DiskFull } else { PersistError::Failed }
}

/// Whether an error says that the file is damaged.
pub(in crate::store) fn is_corruption(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ordered_numbers_keep_their_order(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), ordered(a).cmp(&ordered(b)));
            prop_assert_eq!(unordered(ordered(a)), a);
        }
    }
}
