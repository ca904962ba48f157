//! The cost of a quiet room: nothing is relayed between members that are connected directly.

use std::time::Duration;

use chat_tests::scenarios::idle;

/// Time in which all relayed paths are closed: the endpoint gives one up 30 s after the last packet on it.
const SETTLE: Duration = Duration::from_secs(60);

/// For how long the room is watched.
const SPAN: Duration = Duration::from_secs(20);

/// Maximum number of packets over TCP in that time, in and out, that the holder's machine sees for each other member: a few
/// keep-alives of the relay and of watches. Six are usual; with one relayed path for each pair it is above 100.
const OTHER_PACKETS_MAX: u64 = 30;

#[test]
fn holder_of_a_quiet_room_relays_nothing() {
    let report = idle::run(4, SETTLE, SPAN, None).expect("the daemons run on");
    let Some(report) = report else { return };
    let holder = report.members.iter().find(|member| member.holder).expect("there is a holder");
    let others = report.members.len() as u64 - 1;
    assert!(holder.other_packets() <= OTHER_PACKETS_MAX * others, "{report}");
}
