//! Promise P1: a message acknowledged as stored survives a loss of power.

use chat_tests::scenarios::faults::disk_image::Flushes;
use chat_tests::scenarios::faults::power_loss::{PowerLossPlan, run};

fn plan(losses: usize, flushes: Flushes) -> PowerLossPlan {
    PowerLossPlan { messages: 240, losses, seed: 1, flushes, keep: None }
}

#[test]
fn acknowledged_message_survives_a_loss_of_power() {
    // More of them: cargo run -p chat-tests --bin power-loss -- --losses 1000 --seed 2
    let report = run(&plan(200, Flushes::Honest)).expect("recorded");
    assert!(report.failures.is_empty(), "{report}");
    assert!(report.unflushed > 50 && report.messages > 200, "the losses hit something: {report}");
}

/// The check finds what it looks for: where the disk only says that it has flushed, messages are missing.
#[test]
fn message_on_a_disk_that_does_not_flush_is_found_missing() {
    let report = run(&plan(20, Flushes::Ignored)).expect("recorded");
    assert!(report.failures.iter().any(|failure| failure.contains("is lost")), "{report}");
}
