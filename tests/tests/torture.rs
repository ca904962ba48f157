//! Promises P1, P2, P8 and P9 under every fault at once.

use std::time::Duration;

use chat_tests::scenarios::faults::torture::{TorturePlan, run};

#[test]
fn messages_and_streams_survive_every_fault_at_once() {
    // For longer: cargo run -p chat-tests --bin torture -- --minutes 30 --seed 2
    let report = run(TorturePlan { span: Duration::from_secs(40), seed: 1 });
    assert!(report.verdict.is_good() && report.settled.is_some(), "{report}");
    assert!(report.faults.iter().all(|(_, count)| *count > 0), "all faults struck: {report}");
    assert!(report.replicated > 20 && report.events > 500, "there was something to lose: {report}");
}
