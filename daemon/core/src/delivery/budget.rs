//! Budgets: what the entries of each author cost this peer, and when more of them is taken.
//!
//! Two bounds, for two kinds of harm. *A flood*: at most some megabytes of an author wait for the disk (`log/disk.rs`); what it
//! writes beyond is not taken as it comes, and is fetched when there is room. *Endless growth*: each author has a budget of
//! bytes, entries, control entries, admissions, forks and logs ([`BudgetSettings`]). What it uses is given back evenly over a
//! day; beyond its budget it is fetched as fast as that. Either way entries are late and not lost: the sender is known to hold
//! them, and anti-entropy fetches them ([`sync`](crate::delivery::sync)).
//!
//! Outside the budgets are entries that others wait for, because what an honest member writes must not be late; what this peer
//! itself writes; and old entries that a member other than their author passes on, which a peer fetches when it joins or comes
//! back, and which that member has taken within its own budgets.
//!
//! An own message does not name the newest entries of an author that writes much at the moment ([`Budgets::is_heavy`]) as its
//! dependencies: members with slower machines would show it only when they have all that. What it answers it names.
//!
//! State ([`Budgets`]): one record per author of entries that were taken, and the authors of which something was not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chat_proto::api::peers::BudgetView;
use chat_proto::id::PeerId;
use chat_proto::time::Timestamp;

use crate::config::BudgetSettings;
use crate::log::entry::{Control, Entry, Header, Seq};
use crate::log::unwritten::weight;

/// Time in which all that was used is given back, and age of entries that count as old: a day, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Weight of an author's entries within a short time from which on it is heavy: many times a lively conversation.
const HEAVY: u64 = 1024 * 1024;

/// How much of that is forgotten in a second.
const HEAVY_PER_SECOND: u64 = 32 * 1024;

/// How entries came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// They were requested.
    Requested,
    /// Their sender sent them as it thought fit.
    Pushed,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Bytes,
    Entries,
    ControlEntries,
    Admissions,
    Forks,
    Logs,
}

impl Resource {
    const ALL: [Self; 6] =
        [Self::Bytes, Self::Entries, Self::ControlEntries, Self::Admissions, Self::Forks, Self::Logs];

    fn per_day(self, settings: &BudgetSettings) -> u64 {
        match self {
            Self::Bytes => settings.bytes,
            Self::Entries => settings.entries,
            Self::ControlEntries => settings.control_entries,
            Self::Admissions => settings.admissions,
            Self::Forks => settings.forks,
            Self::Logs => settings.logs,
        }
    }
}

/// What one author has used, in units times the milliseconds of a day, so that it can be given back by the millisecond.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    spent: [u128; Resource::ALL.len()],
    /// Weight of the entries of the last moments, in thousandths.
    recent: u64,
    /// When it was last given back.
    at: Duration,
}

impl Used {
    fn give_back(&mut self, settings: &BudgetSettings, now: Duration) {
        let elapsed_ms = u64::try_from(now.saturating_sub(self.at).as_millis()).unwrap_or(u64::MAX);
        if elapsed_ms == 0 {
            return;
        }
        self.at = now;
        for resource in Resource::ALL {
            let spent = &mut self.spent[resource as usize];
            *spent = spent.saturating_sub(u128::from(elapsed_ms) * u128::from(resource.per_day(settings)));
        }
        self.recent = self.recent.saturating_sub(elapsed_ms.saturating_mul(HEAVY_PER_SECOND));
    }

    fn spend(&mut self, resource: Resource, amount: u64) {
        self.spent[resource as usize] += u128::from(amount) * u128::from(DAY_MS);
    }

    /// Time until all is within the budget again; zero while it is.
    fn over_for(&self, settings: &BudgetSettings) -> Duration {
        let wait = |resource: Resource| {
            let per_day = u128::from(resource.per_day(settings).max(1));
            let over = self.spent[resource as usize].saturating_sub(per_day * u128::from(DAY_MS));
            Duration::from_millis(u64::try_from(over.div_ceil(per_day)).unwrap_or(u64::MAX))
        };
        Resource::ALL.into_iter().map(wait).max().unwrap_or_default()
    }

    fn units(&self, resource: Resource) -> u64 {
        u64::try_from(self.spent[resource as usize].div_ceil(u128::from(DAY_MS))).unwrap_or(u64::MAX)
    }
}

/// What each author has used, and who is behind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budgets {
    /// Bounded by the number of peers that were ever admitted: others' entries are not taken.
    used: BTreeMap<PeerId, Used>,
    /// Authors of which entries were sent and not taken.
    behind: BTreeSet<PeerId>,
}

impl Budgets {
    /// An entry was taken, or written by this peer.
    pub(crate) fn took(&mut self, entry: &Entry, settings: &BudgetSettings, now: Duration) {
        let used = self.used_of(entry.author(), settings, now);
        let bytes = entry.signed().len_bytes() as u64;
        used.spend(Resource::Bytes, bytes);
        used.spend(Resource::Entries, 1);
        used.recent = used.recent.saturating_add(weight(entry) as u64 * 1000).min(2 * HEAVY * 1000);
        if entry.seq() == Seq(1) {
            used.spend(Resource::Logs, 1);
        }
        if let Some(control) = entry.control() {
            used.spend(Resource::ControlEntries, 1);
            if matches!(control, Control::Admit { .. }) {
                used.spend(Resource::Admissions, 1);
            }
        }
    }

    /// A fork of an author's log was proven.
    pub(crate) fn forked(&mut self, author: PeerId, settings: &BudgetSettings, now: Duration) {
        self.used_of(author, settings, now).spend(Resource::Forks, 1);
    }

    fn used_of(&mut self, author: PeerId, settings: &BudgetSettings, now: Duration) -> &mut Used {
        let used = self.used.entry(author).or_insert_with(|| Used { at: now, ..Used::default() });
        used.give_back(settings, now);
        used
    }

    fn now_of(&self, author: &PeerId, settings: &BudgetSettings, now: Duration) -> Option<Used> {
        let mut used = *self.used.get(author)?;
        used.give_back(settings, now);
        Some(used)
    }

    /// Time until an author is within its budget; zero while it is.
    pub(crate) fn over_for(&self, author: &PeerId, settings: &BudgetSettings, now: Duration) -> Duration {
        self.now_of(author, settings, now).map_or(Duration::ZERO, |used| used.over_for(settings))
    }

    /// Whether an author writes so much at the moment that others may be behind.
    pub(crate) fn is_heavy(&self, author: &PeerId, settings: &BudgetSettings, now: Duration) -> bool {
        self.now_of(author, settings, now).is_some_and(|used| used.recent > HEAVY * 1000)
    }

    /// Entries of an author were not taken, or not requested; returns whether that is new.
    pub(crate) fn fall_behind(&mut self, author: PeerId) -> bool {
        self.behind.insert(author)
    }

    /// Whether entries of an author were not taken, and are still to be fetched.
    pub(crate) fn is_behind(&self, author: &PeerId) -> bool {
        self.behind.contains(author)
    }

    /// The authors of which something is to be fetched.
    pub(crate) fn behind(&self) -> impl Iterator<Item = &PeerId> {
        self.behind.iter()
    }

    /// What was not taken of an author is fetched now.
    pub(crate) fn catch_up(&mut self, author: &PeerId) {
        self.behind.remove(author);
    }

    /// What an author has used, for the API; `None` where it has written nothing since this daemon started.
    pub(crate) fn view(&self, author: &PeerId, settings: &BudgetSettings, now: Duration) -> Option<BudgetView> {
        let used = self.now_of(author, settings, now)?;
        let of = |resource| used.units(resource);
        Some(BudgetView {
            bytes: of(Resource::Bytes),
            entries: of(Resource::Entries),
            control_entries: of(Resource::ControlEntries),
            admissions: of(Resource::Admissions),
            forks: of(Resource::Forks),
            logs: of(Resource::Logs),
            over: used.over_for(settings) > Duration::ZERO,
            behind: self.is_behind(author),
        })
    }
}

/// Whether an entry is an old one that a member other than its author passes on.
pub(crate) fn is_old_of_another(header: &Header, from: &PeerId, now: Timestamp) -> bool {
    let age_ms = now.as_ms().saturating_sub(header.time.wall().as_ms());
    header.log.author != *from && age_ms > DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BudgetSettings =
        BudgetSettings { bytes: 1000, entries: 10, control_entries: 10, admissions: 10, forks: 2, logs: 10 };

    #[test]
    fn what_is_used_is_given_back_over_a_day() {
        let mut budgets = Budgets::default();
        let author = PeerId::from_bytes([1; 32]);
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let over = |budgets: &Budgets, at| budgets.over_for(&author, &SETTINGS, hours(at));
        for _ in 0..2 {
            budgets.forked(author, &SETTINGS, hours(1));
        }
        assert_eq!(over(&budgets, 1), Duration::ZERO, "all of it may be used");
        budgets.forked(author, &SETTINGS, hours(1));
        assert_eq!(over(&budgets, 1), hours(12), "two a day are one in twelve hours");
        assert_eq!(over(&budgets, 12), hours(1));
        assert_eq!(over(&budgets, 13), Duration::ZERO);
        let view = budgets.view(&author, &SETTINGS, hours(13)).expect("it forked");
        assert_eq!((view.forks, view.over), (2, false));
        assert_eq!(over(&budgets, 1000), Duration::ZERO);
    }
}
