//! Observing others: reports to the holder, the rotating sample, probes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use rand::RngExt;

use crate::connectivity::network::outside;
use crate::connectivity::report::ConnectivityReport;
use crate::connectivity::sample::Sampler;
use crate::rendezvous::context::Context;
use crate::rendezvous::events::{FrameChannel, RoleFault, RoleOutput};
use crate::rendezvous::follower::Following;
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::{Opened, SignedBytes};
use crate::rendezvous::state::RoleState;
use crate::types::{ProbeOutcome, RoleRequest};

/// Maximum number of times a report is forwarded: more than a room is wide, so that none runs in circles.
const HOPS_MAX: u8 = 8;

/// How much more often members are probed that were not probed yet.
const FIRST_SAMPLES: u32 = 10;

/// When this peer reports, and when it probes which peer.
#[derive(Debug)]
pub(crate) struct Observer {
    /// Addresses of this peer: its own and those at which others see it.
    pub(crate) addrs: Vec<SocketAddr>,
    sampler: Sampler,
    report_at: Duration,
    sample_at: Duration,
}

impl Observer {
    pub(crate) fn new(cx: &mut Context) -> Self {
        let sampler = Sampler::new(PeerId::from_bytes(cx.rng.random()));
        let sample_at = cx.now.mono + cx.settings.sample.mul_f64(cx.rng.random_range(0.5..1.5));
        Self { addrs: Vec::new(), sampler, report_at: cx.now.mono + cx.settings.report, sample_at }
    }

    /// When there is something to do.
    pub(crate) fn due(&self, state: &RoleState, cx: &Context) -> Option<Duration> {
        let report = match state {
            RoleState::Following(_) => Some(self.report_at),
            RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => None,
        };
        let sample = (cx.members.len() > 1).then_some(self.sample_at);
        [report, sample].into_iter().flatten().min()
    }

    /// Reports and probes when it is time.
    pub(crate) fn run_timers(&mut self, state: &RoleState, cx: &mut Context) {
        let now = cx.now.mono;
        if let RoleState::Following(following) = state
            && now >= self.report_at
        {
            self.report_at = now + cx.report_every().mul_f64(cx.rng.random_range(0.8..1.2));
            send_report(following, cx);
        }
        if now >= self.sample_at && cx.members.len() > 1 {
            self.probe_next(cx);
            let untried = |peer| cx.peers.measure(&peer).is_none_or(|known| known.called.is_none());
            let untried = self.elsewhere(cx).any(untried);
            let every = if untried { cx.settings.sample / FIRST_SAMPLES } else { cx.settings.sample };
            self.sample_at = now + every.mul_f64(cx.rng.random_range(0.8..1.2));
        }
    }

    /// A peer connected: probe soon whether it accepts connections, before that is needed.
    pub(crate) fn sample_soon(&mut self, cx: &mut Context) {
        let soon = (cx.settings.sample / FIRST_SAMPLES).mul_f64(cx.rng.random_range(0.5..1.5));
        self.sample_at = self.sample_at.min(cx.now.mono + soon);
    }

    /// The holder is new and has no reports: report soon, but not all members at once.
    pub(crate) fn report_soon(&mut self, cx: &mut Context) {
        let within = cx.report_every().min(Duration::from_secs(3));
        let first = cx.now.mono + within.mul_f64(cx.rng.random_range(0.1..1.0));
        self.report_at = self.report_at.min(first);
    }

    /// Connected members in other networks.
    fn elsewhere<'a>(&'a self, cx: &'a Context) -> impl Iterator<Item = PeerId> + 'a {
        let links = cx.peers.links().filter(|(_, link)| {
            link.path.direct && link.path.remote.is_some_and(|addr| outside(&self.addrs, addr.ip()) == Some(true))
        });
        links.map(|(peer, _)| *peer).filter(|peer| cx.members.contains(peer))
    }

    /// Probes the next of the sample: a member without a direct connection, or a connected one in another network.
    fn probe_next(&mut self, cx: &mut Context) {
        let direct = |peer: &PeerId| cx.peers.link(peer).is_some_and(|link| link.path.direct);
        let indirect = cx.peers.present().map(|(peer, _)| *peer);
        let indirect: BTreeSet<PeerId> = indirect.filter(|peer| cx.members.contains(peer) && !direct(peer)).collect();
        let elsewhere = self.elsewhere(cx).collect();
        let chosen = self.sampler.next(&indirect, &elsewhere);
        tracing::trace!(?chosen, now = ?cx.now.mono, "probe of the sample");
        cx.out.extend(chosen.map(|peer| RoleOutput::Net(RoleRequest::Probe(peer))));
    }

    /// A probe ended.
    pub(crate) fn receive_probe(&self, state: &mut RoleState, cx: &mut Context, peer: PeerId, outcome: &ProbeOutcome) {
        let (now, addrs) = (cx.now.mono, &self.addrs);
        if !cx.members.contains(&peer) || peer == cx.me {
            return;
        }
        let doubting = match state {
            RoleState::Following(following) if following.doubts(&peer) => Some(following),
            RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => None,
        };
        match (outcome, doubting) {
            (ProbeOutcome::Answered { addr, rtt }, doubting) => {
                if let Some(following) = doubting {
                    following.receive_holder_probe(cx);
                }
                cx.peers.probed(peer, Some(*rtt), outside(addrs, addr.ip()), now);
            }
            // A silent peer that seems gone may still be reachable from outside: nothing is recorded.
            (ProbeOutcome::Unanswered(_), Some(_)) => {}
            (ProbeOutcome::Unanswered(tried), None) => {
                // Only a silent address of another network shows that the peer does not accept connections from outside.
                let outside = tried.iter().any(|addr| outside(addrs, addr.ip()) == Some(true));
                cx.peers.probed(peer, None, Some(outside), now);
            }
        }
    }
}

fn send_report(following: &Following, cx: &mut Context) {
    let rows = cx.report_rows();
    if rows.is_empty() {
        return;
    }
    let report = ConnectivityReport { room: cx.room, reporter: cx.me, term: cx.known.term(), at: cx.now.wall, rows };
    let report = cx.sign(report).raw().clone();
    forward_report(following, cx, 0, report, None);
}

/// Sends a report to the holder, or towards it.
fn forward_report(following: &Following, cx: &mut Context, hops: u8, report: SignedBytes, source: Option<PeerId>) {
    let holder = following.detector.holder;
    let next = if cx.peers.is_linked(&holder) { Some(holder) } else { following.detector.via };
    let Some(next) = next.filter(|next| Some(*next) != source && cx.peers.is_linked(next)) else { return };
    cx.send(vec![next], &RoleFrame::Report { hops, report }, FrameChannel::Stream);
}

/// A report arrived, for this peer or to be forwarded.
pub(crate) fn receive_report(
    state: &mut RoleState,
    cx: &mut Context,
    source: PeerId,
    hops: u8,
    raw: SignedBytes,
) -> Result<(), RoleFault> {
    let opened: Opened<ConnectivityReport> = raw.clone().open(&cx.room)?;
    let (reporter, term) = (opened.value().reporter, opened.value().term);
    if !cx.members.contains(&reporter) || reporter == cx.me || term != cx.known.term() {
        return Ok(());
    }
    match state {
        RoleState::Holding(holding) => {
            let report = opened.verify()?.value().clone();
            holding.reports.keep(report, cx.now.mono);
        }
        RoleState::Following(following) if hops < HOPS_MAX => {
            forward_report(following, cx, hops + 1, raw, Some(source));
        }
        RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Gone => {}
    }
    Ok(())
}
