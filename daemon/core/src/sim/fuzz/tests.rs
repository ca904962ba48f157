//! The kept inputs of the fuzz targets, and some like them.

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Runs a target over its kept inputs, and over each of them changed `changes` times.
fn check(target: &str, changes: u32, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fuzz").join(target);
    let files = fs::read_dir(&folder).expect("the corpus").map(|file| file.expect("a file").path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).expect("an input")).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "there are no inputs for {target}");
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for input in &inputs {
        body(input);
        for _ in 0..changes {
            let mut changed = input.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..=changed.len());
                match rng.random_range(0..3) {
                    0 if at < changed.len() => changed[at] = rng.random(),
                    1 => changed.truncate(at),
                    _ => changed.insert(at, rng.random()),
                }
            }
            body(&changed);
        }
    }
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
