//! Observing others: reports to the holder, the rotating sample, probes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chat_proto::id::PeerId;
use rand::RngExt;

use crate::connectivity::network::outside;
use crate::connectivity::report::{ConnectivityReport, ReportRow, rows};
use crate::connectivity::sample::Sampler;
use crate::rendezvous::Rendezvous;
use crate::rendezvous::events::{Delivery, RoleFault, RoleOutput};
use crate::rendezvous::protocol::frames::RoleFrame;
use crate::rendezvous::protocol::signed::{Opened, SignedBytes};
use crate::rendezvous::state::context::Context;
use crate::rendezvous::state::{Following, RoleState};
use crate::types::{ProbeOutcome, RoleRequest};

/// Maximum number of times a report is forwarded: more than a room is wide, so that none runs in circles.
const HOPS_MAX: u8 = 8;

/// How much more often members are probed that were not probed yet.
const FIRST_SAMPLES: u32 = 10;

/// Minimum time between two reports of a member, per member of the room: the holder gets about ten reports a second.
const REPORT_PER_MEMBER: Duration = Duration::from_millis(100);

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
            following.send_report(cx);
        }
        if now >= self.sample_at && cx.members.len() > 1 {
            self.probe_next(cx);
            let untried = |peer| cx.measures.get(&peer).is_none_or(|known| known.called.is_none());
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
        let links = cx.neighbours.iter().filter(|(_, link)| {
            link.path.direct && link.path.remote.is_some_and(|addr| outside(&self.addrs, addr.ip()) == Some(true))
        });
        links.map(|(peer, _)| *peer).filter(|peer| cx.members.contains(peer))
    }

    /// Probes the next of the sample: a member without a direct connection, or a connected one in another network.
    fn probe_next(&mut self, cx: &mut Context) {
        let direct = |peer: &PeerId| cx.neighbours.get(peer).is_some_and(|link| link.path.direct);
        let indirect = cx.members.online.keys().chain(cx.neighbours.peers()).copied();
        let indirect: BTreeSet<PeerId> = indirect.filter(|peer| cx.members.contains(peer) && !direct(peer)).collect();
        let elsewhere = self.elsewhere(cx).collect();
        let chosen = self.sampler.next(&indirect, &elsewhere);
        tracing::trace!(?chosen, now = ?cx.now.mono, "probe of the sample");
        cx.out.extend(chosen.map(|peer| RoleOutput::Net(RoleRequest::Probe(peer))));
    }
}

impl Context {
    /// Time between two reports of a member.
    pub(crate) fn report_every(&self) -> Duration {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.settings.report.max(REPORT_PER_MEMBER.saturating_mul(members))
    }

    /// What this peer measured, candidates for the role first.
    pub(crate) fn report_rows(&self) -> Vec<ReportRow> {
        let succession = self.known.succession();
        let ranked = succession.map(|succession| succession.rows.iter().take(8).map(|row| row.peer));
        let listed = succession.map(|succession| succession.list.iter().copied());
        let candidates: BTreeSet<PeerId> =
            ranked.into_iter().flatten().chain(listed.into_iter().flatten()).chain(self.known.holder()).collect();
        let mut rows = rows(&self.measures, &candidates, self.now.mono);
        rows.retain(|row| row.peer != self.me);
        rows
    }
}

impl Following {
    fn send_report(&self, cx: &mut Context) {
        let rows = cx.report_rows();
        if rows.is_empty() {
            return;
        }
        let report =
            ConnectivityReport { room: cx.room, reporter: cx.me, term: cx.known.term(), at: cx.now.wall, rows };
        let report = cx.sign(report).raw().clone();
        self.forward_report(cx, 0, report, None);
    }

    /// Sends a report to the holder, or towards it.
    fn forward_report(&self, cx: &mut Context, hops: u8, report: SignedBytes, source: Option<PeerId>) {
        let holder = self.detector.holder;
        let next = if cx.neighbours.contains(&holder) { Some(holder) } else { self.detector.via };
        let Some(next) = next.filter(|next| Some(*next) != source && cx.neighbours.contains(next)) else { return };
        cx.send(vec![next], &RoleFrame::Report { hops, report }, Delivery::Stream);
    }
}

impl Rendezvous {
    /// A report arrived, for this peer or to be forwarded.
    pub(super) fn receive_report(&mut self, source: PeerId, hops: u8, raw: SignedBytes) -> Result<(), RoleFault> {
        let cx = &mut self.cx;
        let opened: Opened<ConnectivityReport> = raw.clone().open(&cx.room)?;
        let (reporter, term) = (opened.value().reporter, opened.value().term);
        if !cx.members.contains(&reporter) || reporter == cx.me || term != cx.known.term() {
            return Ok(());
        }
        match &mut self.state {
            RoleState::Holding(holding) => {
                let report = opened.verify()?.value().clone();
                holding.reports.keep(report, cx.now.mono);
            }
            RoleState::Following(following) if hops < HOPS_MAX => {
                following.forward_report(cx, hops + 1, raw, Some(source));
            }
            RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Gone => {}
        }
        Ok(())
    }

    /// A probe ended.
    pub(super) fn receive_probe(&mut self, peer: PeerId, outcome: &ProbeOutcome) {
        let cx = &mut self.cx;
        let (now, addrs) = (cx.now.mono, &self.observer.addrs);
        if !cx.members.contains(&peer) || peer == cx.me {
            return;
        }
        let doubting = match &mut self.state {
            RoleState::Following(following) if following.doubts(&peer) => Some(following),
            RoleState::Following(_) | RoleState::Seeking(_) | RoleState::Holding(_) | RoleState::Gone => None,
        };
        match (outcome, doubting) {
            (ProbeOutcome::Answered { addr, rtt }, doubting) => {
                if let Some(following) = doubting {
                    following.receive_holder_probe(cx);
                }
                cx.measures.probed(peer, Some(*rtt), outside(addrs, addr.ip()), now);
            }
            // A silent peer that seems gone may still be reachable from outside: nothing is recorded.
            (ProbeOutcome::Unanswered(_), Some(_)) => {}
            (ProbeOutcome::Unanswered(tried), None) => {
                // Only a silent address of another network shows that the peer does not accept connections from outside.
                let outside = tried.iter().any(|addr| outside(addrs, addr.ip()) == Some(true));
                cx.measures.probed(peer, None, Some(outside), now);
            }
        }
    }
}
