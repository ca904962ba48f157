//! A fuzz target: the function that has the name of this binary.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let target: fn(&[u8]) = match env!("CARGO_BIN_NAME") {
        "frame" => chat_core::sim::fuzz::frame,
        "entry" => chat_core::sim::fuzz::entry,
        "room" => chat_core::sim::fuzz::room,
        "ticket" => chatd::fuzz::ticket,
        "hello" => chatd::fuzz::hello,
        "greeting" => chatd::fuzz::greeting,
        "cursor" => chatd::fuzz::cursor,
        "config" => chatd::fuzz::config,
        "api_body" => chatd::fuzz::api_body,
        other => panic!("there is no target {other}"),
    };
    target(data);
});
