//! Runs the body of a fuzz target over its kept inputs, in the tests of the crate that has the body.

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Runs a target over its inputs in `corpus`, and over each of them changed `changes` times.
pub(super) fn check(corpus: &Path, target: &str, changes: u32, body: impl Fn(&[u8])) {
    let files = fs::read_dir(corpus.join(target)).expect("the corpus").map(|file| file.expect("a file").path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).expect("an input")).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "there are no inputs for {target}");
    let mut rng = StdRng::seed_from_u64(7);
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
