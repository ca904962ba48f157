//! The parts are being put in place.
fn main() {}
