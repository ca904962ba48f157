//! The kept inputs of the fuzz targets, and some like them.

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};

/// Runs a target over its kept inputs, and over each of them changed 100 times.
fn check(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz").join(target);
    let files = fs::read_dir(&folder).expect("the corpus").map(|file| file.expect("a file").path());
    let mut inputs: Vec<Vec<u8>> = files.map(|path| fs::read(path).expect("an input")).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "there are no inputs for {target}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(7);
    for input in &inputs {
        body(input);
        for _ in 0..100 {
            let mut changed = input.clone();
            let at = rng.random_range(0..=changed.len());
            match rng.random_range(0..3) {
                0 if at < changed.len() => changed[at] = rng.random(),
                1 => changed.truncate(at),
                _ => changed.insert(at, rng.random()),
            }
            body(&changed);
        }
    }
}

#[test]
fn kept_inputs_of_strangers_are_read() {
    check("ticket", super::ticket);
    check("hello", super::hello);
    check("greeting", super::greeting);
}

#[test]
fn kept_inputs_of_this_machine_are_read() {
    check("cursor", super::cursor);
    check("config", super::config);
    check("api_body", super::api_body);
}
