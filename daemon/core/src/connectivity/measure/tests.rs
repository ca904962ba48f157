//! Tests of measuring.

use super::*;

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
    let mut measure = Measure::new(at(0));
    measure.path(&path(true, 5), at(0));
    for n in 0..20 {
        let now = at(n * 2_000);
        measure.ping(n, now, now);
        if n % 4 != 0 {
            assert!(measure.pong(n, now + at(7)));
        }
    }
    let loss = measure.loss();
    assert!((0.1..0.15).contains(&loss), "a quarter both ways is an eighth each way: {loss}");
    measure.path(&PathInfo { loss: 0.5, ..path(true, 5) }, at(40_000));
    assert_eq!(measure.loss(), loss, "QUIC's figure counts what was overtaken");
    assert!(!measure.pong(3, at(50_000)), "an answer is used once");
}

#[test]
fn interruption_is_not_loss() {
    let mut measure = Measure::new(at(0));
    measure.path(&path(true, 5), at(0));
    let mut heard = at(0);
    for n in 0..40 {
        let now = at(n * 2_000);
        measure.ping(n, heard, now);
        if !(20..30).contains(&n) {
            heard = now + at(7);
            assert!(measure.pong(n, heard));
        }
    }
    assert!(measure.loss() < 0.07, "two are noted behind the first answer: {}", measure.loss());
}

#[test]
fn stalled_peer_records_no_loss() {
    let mut measure = Measure::new(at(0));
    measure.path(&path(true, 5), at(0));
    for n in 0..20 {
        measure.ping(n, at(n * 5_000), at(n * 5_000));
        measure.forgive();
    }
    assert!(measure.loss() < 0.01);
}

#[test]
fn late_answer_of_a_stalled_peer_does_not_change_the_rtt() {
    let mut measure = Measure::new(at(0));
    measure.path(&path(true, 5), at(0));
    let patience = |measure: &Measure| measure.rtt.map(|rtt| rtt.patience());
    let answer = |measure: &mut Measure, nonce: u64, rtt_ms: u64| {
        measure.ping(nonce, at(nonce * 2_000), at(nonce * 2_000));
        assert!(measure.pong(nonce, at(nonce * 2_000 + rtt_ms)));
    };
    for n in 0..10 {
        answer(&mut measure, n, 5);
    }
    let before = patience(&measure);
    for n in [20, 22] {
        measure.ping(n, at(n * 1_000), at(n * 1_000));
    }
    assert!(measure.pong(20, at(22_900)) && measure.pong(22, at(22_900)));
    assert_eq!(patience(&measure), before);
    answer(&mut measure, 12, 5);
    for n in 13..20 {
        answer(&mut measure, n, 700);
    }
    assert!(patience(&measure) > Some(at(700)), "what stays is the path");
}

#[test]
fn estimate_of_a_connection_made_anew_counts_until_the_first_answer() {
    let mut measure = Measure::new(at(0));
    measure.path(&path(false, 900), at(0));
    assert!(measure.rtt.is_some_and(|rtt| rtt.mean() == at(900)));
    measure.path(&path(false, 400), at(100));
    assert!(measure.rtt.is_some_and(|rtt| rtt.mean() == at(400)), "it is replaced by a later one");
    measure.ping(1, at(200), at(200));
    assert!(measure.pong(1, at(205)));
    measure.path(&path(false, 300), at(300));
    assert!(measure.rtt.is_some_and(|rtt| rtt.patience() <= at(15)), "pings measure from then on");
    let mut slept = Measure::new(at(0));
    slept.path(&path(true, 5), at(0));
    slept.ping(1, at(200), at(200));
    assert!(slept.pong(1, at(2_200)));
    assert!(slept.rtt.is_some_and(|rtt| rtt.patience() <= at(15)), "the first answer came late");
}

#[test]
fn only_peers_of_other_networks_observe_inbound_reachability() {
    let mut measure = Measure::new(at(0));
    measure.path(&path(true, 5), at(0));
    measure.probed(None, Some(false), at(1));
    assert_eq!((measure.direct, measure.called), (true, None));
    measure.probed(None, Some(true), at(2));
    assert_eq!((measure.direct, measure.called), (true, Some(false)));
    let mut other = Measure::new(at(3));
    other.probed(None, None, at(3));
    assert_eq!((other.direct, other.called), (false, None));
    other.probed(Some(at(30)), Some(true), at(4));
    assert_eq!((other.direct, other.called), (true, Some(true)));
}
