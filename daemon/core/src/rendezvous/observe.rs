//! Observing others: reports to the holder, the sample, probes.

use std::collections::BTreeSet;
use std::time::Duration;

use chat_proto::id::PeerId;
use rand::RngExt;

use super::Rendezvous;
use super::frames::RoleFrame;
use super::io::{Delivery, RoleFault, RoleOutput};
use super::part::Part;
use super::signed::{Opened, Signed, SignedBytes};
use crate::connectivity::network::outside;
use crate::connectivity::report::{Report, ReportRow, rows};
use crate::input::Now;
use crate::types::{ProbeOutcome, RoleRequest};

/// How often a report is passed on at most: more than a room is wide, so that none runs in circles.
const HOPS_MAX: u8 = 8;

/// How much more often members that were not tried yet are probed.
const FIRST_SAMPLES: u32 = 10;

/// In large rooms each member reports so much less often that the holder gets about ten reports a second.
const REPORT_PER_MEMBER: Duration = Duration::from_millis(100);

impl Rendezvous {
    pub(super) fn observe_due(&self) -> Option<Duration> {
        let report = match &self.part {
            Part::Following(_) => Some(self.report_at),
            Part::Seeking { .. } | Part::Holding(_) | Part::Gone => None,
        };
        let sample = (self.members.len() > 1).then_some(self.sample_at);
        [report, sample].into_iter().flatten().min()
    }

    /// Reports and probes when it is time.
    pub(super) fn observe(&mut self, now: Now) {
        if now.mono >= self.report_at && matches!(self.part, Part::Following(_)) {
            self.report_at = now.mono + self.report_every().mul_f64(self.rng.random_range(0.8..1.2));
            self.report(now);
        }
        if now.mono >= self.sample_at && self.members.len() > 1 {
            self.sample(now.mono);
            let untried =
                self.elsewhere().any(|peer| self.measures.get(&peer).is_none_or(|known| known.called.is_none()));
            let every = if untried { self.settings.sample / FIRST_SAMPLES } else { self.settings.sample };
            self.sample_at = now.mono + every.mul_f64(self.rng.random_range(0.8..1.2));
        }
    }

    /// Somebody came: whether others can call it is worth knowing soon, before it is needed.
    pub(super) fn sample_soon(&mut self, now: Duration) {
        let soon = (self.settings.sample / FIRST_SAMPLES).mul_f64(self.rng.random_range(0.5..1.5));
        self.sample_at = self.sample_at.min(now + soon);
    }

    /// Connected members in other networks.
    fn elsewhere(&self) -> impl Iterator<Item = PeerId> {
        let links = self.links.iter().filter(|(_, link)| {
            link.path.direct && link.path.remote.is_some_and(|addr| outside(&self.addrs, addr.ip()) == Some(true))
        });
        links.map(|(peer, _)| *peer).filter(|peer| self.members.contains(peer))
    }

    pub(super) fn report_every(&self) -> Duration {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        self.settings.report.max(REPORT_PER_MEMBER.saturating_mul(members))
    }

    /// A new holder knows nothing yet: report soon, but not all at once.
    pub(super) fn report_soon(&mut self, now: Duration) {
        let within = self.report_every().min(Duration::from_secs(3));
        let first = now + within.mul_f64(self.rng.random_range(0.1..1.0));
        self.report_at = self.report_at.min(first);
    }

    /// What this peer measured, candidates for the role first.
    pub(super) fn report_rows(&self, now: Duration) -> Vec<ReportRow> {
        let succession = self.ledger.succession();
        let ranked = succession.map(|succession| succession.rows.iter().take(8).map(|row| row.peer));
        let listed = succession.map(|succession| succession.list.iter().copied());
        let candidates: BTreeSet<PeerId> =
            ranked.into_iter().flatten().chain(listed.into_iter().flatten()).chain(self.ledger.holder()).collect();
        let mut rows = rows(&self.measures, &candidates, now);
        rows.retain(|row| row.peer != self.me);
        rows
    }

    fn report(&mut self, now: Now) {
        let rows = self.report_rows(now.mono);
        if rows.is_empty() {
            return;
        }
        let report = Report { room: self.room, reporter: self.me, term: self.ledger.term(), at: now.wall, rows };
        let report = Signed::sign(report, &self.key).raw().clone();
        self.pass_on(0, report, None);
    }

    /// Sends a report to the holder, or towards it.
    fn pass_on(&mut self, hops: u8, report: SignedBytes, source: Option<PeerId>) {
        let Part::Following(following) = &self.part else { return };
        let holder = following.watch.holder;
        let next = if self.links.contains(&holder) { Some(holder) } else { following.watch.via };
        let Some(next) = next.filter(|next| Some(*next) != source && self.links.contains(next)) else { return };
        self.send(vec![next], &RoleFrame::Report { hops, report }, Delivery::Stream);
    }

    /// A report arrived, for this peer or to be passed on.
    pub(super) fn reported(&mut self, source: PeerId, hops: u8, raw: SignedBytes, now: Now) -> Result<(), RoleFault> {
        let opened: Opened<Report> = raw.clone().open(&self.room)?;
        let (reporter, term) = (opened.value().reporter, opened.value().term);
        if !self.members.contains(&reporter) || reporter == self.me || term != self.ledger.term() {
            return Ok(());
        }
        match &mut self.part {
            Part::Holding(holding) => {
                let report = opened.verify()?.value().clone();
                holding.reports.keep(report, now.mono);
            }
            Part::Following(_) if hops < HOPS_MAX => self.pass_on(hops + 1, raw, Some(source)),
            Part::Following(_) | Part::Seeking { .. } | Part::Gone => {}
        }
        Ok(())
    }

    /// Probes the next of the sample: a member without a direct connection, or a connected one in another network.
    fn sample(&mut self, now: Duration) {
        let direct = |peer: &PeerId| self.links.get(peer).is_some_and(|link| link.path.direct);
        let indirect = self.online.keys().chain(self.links.peers()).copied();
        let indirect: BTreeSet<PeerId> = indirect.filter(|peer| self.members.contains(peer) && !direct(peer)).collect();
        let elsewhere = self.elsewhere().collect();
        let chosen = self.sampler.next(&indirect, &elsewhere);
        tracing::trace!(?chosen, ?now, "probe of the sample");
        self.out.extend(chosen.map(|peer| RoleOutput::Net(RoleRequest::Probe(peer))));
    }

    /// A probe has ended.
    pub(super) fn probed(&mut self, peer: PeerId, outcome: &ProbeOutcome, now: Duration) {
        if !self.members.contains(&peer) || peer == self.me {
            return;
        }
        let doubted = self.doubts(&peer);
        match outcome {
            ProbeOutcome::Answered { addr, rtt } => {
                if doubted {
                    self.holder_called(now);
                }
                let outside = outside(&self.addrs, addr.ip());
                self.measures.probed(peer, Some(*rtt), outside, now);
            }
            // That somebody who seems gone does not answer says nothing about where it can be called from.
            ProbeOutcome::Unanswered(_) if doubted => {}
            ProbeOutcome::Unanswered(tried) => {
                // Only an address of another network that stayed silent says that it takes no calls from outside.
                let outside = tried.iter().any(|addr| outside(&self.addrs, addr.ip()) == Some(true));
                self.measures.probed(peer, None, Some(outside), now);
            }
        }
    }
}
