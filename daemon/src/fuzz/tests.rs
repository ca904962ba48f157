//! The kept inputs of the fuzz targets, and some like them.

use std::path::Path;

#[path = "../../../tests/fuzz/kept.rs"]
mod kept;

/// Runs a target over its kept inputs, and over each of them changed 100 times.
fn check(target: &str, body: impl Fn(&[u8])) {
    kept::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz"), target, 100, body);
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
