//! Tests of measuring.

use super::*;

fn peer(n: u8) -> PeerId {
    PeerId::from_bytes([n; 32])
}

fn path(direct: bool, rtt_ms: u64) -> PathInfo {
    PathInfo { direct, rtt: Duration::from_millis(rtt_ms), loss: 0.0, remote: None, inbound: false }
}

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn rtt_is_smoothed_and_deviation_widens_patience() {
    let mut steady = Rtt::first(at(10));
    let mut jittery = Rtt::first(at(10));
    for n in 0..100 {
        steady.add(at(10));
        jittery.add(at(if n % 2 == 0 { 2 } else { 18 }));
    }
    assert_eq!(steady.mean(), at(10));
    assert!(steady.patience() < at(11), "{:?}", steady.patience());
    assert!(jittery.patience() > at(25), "{:?}", jittery.patience());
}

#[test]
fn unanswered_ping_is_lost_after_its_time() {
    let mut measures = Measures::default();
    measures.path(peer(1), &path(true, 5), at(0));
    for n in 0..20 {
        let now = at(n * 2_000);
        measures.ping(&peer(1), n, now);
        if n % 4 != 0 {
            assert!(measures.pong(&peer(1), n, now + at(7)));
        }
    }
    let loss = measures.get(&peer(1)).expect("measured").loss();
    assert!((0.2..0.3).contains(&loss), "{loss}");
    assert!(!measures.pong(&peer(1), 3, at(50_000)), "an answer is used once");
}

#[test]
fn stalled_peer_records_no_loss() {
    let mut measures = Measures::default();
    measures.path(peer(1), &path(true, 5), at(0));
    for n in 0..20 {
        measures.ping(&peer(1), n, at(n * 5_000));
        measures.forgive();
    }
    assert!(measures.get(&peer(1)).expect("measured").loss() < 0.01);
}

#[test]
fn late_answer_of_a_stalled_peer_does_not_change_the_rtt() {
    let mut measures = Measures::default();
    measures.path(peer(1), &path(true, 5), at(0));
    let patience = |measures: &Measures| measures.get(&peer(1)).and_then(|m| m.rtt).map(|rtt| rtt.patience());
    for n in 0..10 {
        measures.path(peer(1), &path(true, 5), at(n * 2_000));
    }
    let before = patience(&measures);
    for n in [20, 22] {
        measures.ping(&peer(1), n, at(n * 1_000));
    }
    assert!(measures.pong(&peer(1), 20, at(22_900)) && measures.pong(&peer(1), 22, at(22_900)));
    measures.path(peer(1), &path(true, 700), at(23_000));
    assert_eq!(patience(&measures), before);
    measures.path(peer(1), &path(true, 5), at(24_000));
    for n in 13..20 {
        measures.path(peer(1), &path(true, 700), at(n * 2_000));
    }
    assert!(patience(&measures) > Some(at(700)), "what stays is the path");
}

#[test]
fn only_peers_of_other_networks_observe_inbound_reachability() {
    let mut measures = Measures::default();
    measures.path(peer(1), &path(true, 5), at(0));
    measures.probed(peer(1), None, Some(false), at(1));
    assert_eq!(measures.get(&peer(1)).map(|m| (m.direct, m.called)), Some((true, None)));
    measures.probed(peer(1), None, Some(true), at(2));
    assert_eq!(measures.get(&peer(1)).map(|m| (m.direct, m.called)), Some((true, Some(false))));
    measures.probed(peer(2), None, None, at(3));
    assert_eq!(measures.get(&peer(2)).map(|m| (m.direct, m.called)), Some((false, None)));
    measures.probed(peer(2), Some(at(30)), Some(true), at(4));
    assert_eq!(measures.get(&peer(2)).map(|m| (m.direct, m.called)), Some((true, Some(true))));
}

#[test]
fn measurements_are_bounded_and_keep_connected_peers() {
    let mut measures = Measures::default();
    let wide = |n: u32| {
        let mut raw = [0; 32];
        raw[..4].copy_from_slice(&n.to_be_bytes());
        PeerId::from_bytes(raw)
    };
    measures.path(wide(0), &path(true, 5), at(0));
    for n in 1..3_000 {
        measures.probed(wide(n), Some(at(5)), None, at(u64::from(n)));
    }
    assert_eq!(measures.of.len(), MEASURES_MAX);
    assert!(measures.get(&wide(0)).is_some());
    assert!(measures.get(&wide(1)).is_none());
    assert!(measures.get(&wide(2_999)).is_some());
}
