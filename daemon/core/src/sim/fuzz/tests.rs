//! The kept inputs of the fuzz targets, and some like them.

use std::path::Path;

#[path = "../../../../../tests/fuzz/kept.rs"]
mod kept;

/// Runs a target over its kept inputs, and over each of them changed `changes` times.
fn check(target: &str, changes: u32, body: impl Fn(&[u8])) {
    kept::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fuzz"), target, changes, body);
}

#[test]
fn kept_frames_are_read() {
    check("frame", 200, super::frame);
}

#[test]
fn kept_entries_are_read() {
    check("entry", 200, super::entry);
}

#[test]
fn kept_rooms_with_hostile_members_keep_their_promises() {
    check("room", 0, super::room);
}
