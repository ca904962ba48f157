//! Names: who is shown under a plain name, and who with a tag.
//!
//! A name is claimed by an admission, which another member attests, or by a rename. A claim yields to every claim that it
//! follows. Of two claims of which neither follows the other, an admission beats a rename; two of a kind are both shown
//! with their tags, because only dates could tell them apart. Former members yield to members.

use std::collections::{BTreeMap, BTreeSet};

use chat_proto::id::PeerId;
use unicode_normalization::UnicodeNormalization;

use crate::membership::control_log::{ControlLog, Position};

/// How a name came to its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claimed {
    /// Another member admitted the bearer under it.
    Attested,
    /// The bearer took it.
    Taken,
}

/// A name and its bearer.
#[derive(Clone, Debug)]
pub(crate) struct NameClaim {
    pub(crate) keys: [String; 2],
    pub(crate) how: Claimed,
    pub(crate) at: Position,
    pub(crate) active: bool,
}

/// The claims of all peers, by what names are compared by.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameClaims {
    claims: BTreeMap<PeerId, NameClaim>,
    bearers: BTreeMap<String, BTreeSet<PeerId>>,
}

impl NameClaims {
    /// A peer bears a name from now on; gives everyone whose shown name may change.
    pub(crate) fn claim(&mut self, peer: PeerId, claim: NameClaim) -> BTreeSet<PeerId> {
        let mut concerned = BTreeSet::from([peer]);
        if let Some(old) = self.claims.remove(&peer) {
            for key in &old.keys {
                if let Some(bearers) = self.bearers.get_mut(key) {
                    bearers.remove(&peer);
                    concerned.extend(bearers.iter().copied());
                }
            }
            self.bearers.retain(|_, bearers| !bearers.is_empty());
        }
        for key in &claim.keys {
            let bearers = self.bearers.entry(key.clone()).or_default();
            concerned.extend(bearers.iter().copied());
            bearers.insert(peer);
        }
        self.claims.insert(peer, claim);
        concerned
    }

    /// The claims of members to a name, or to one that is confused with it.
    pub(crate) fn claims(&self, name: &str) -> impl Iterator<Item = &NameClaim> {
        let bearers = name_keys(name).into_iter().filter_map(|key| self.bearers.get(&key)).flatten();
        bearers.filter_map(|peer| self.claims.get(peer))
    }

    /// Whether a peer is shown under its plain name.
    pub(crate) fn is_plain(&self, peer: &PeerId, controls: &ControlLog) -> bool {
        let Some(own) = self.claims.get(peer) else { return false };
        let bearers = own.keys.iter().filter_map(|key| self.bearers.get(key)).flatten();
        let mut rivals = bearers.filter(|other| *other != peer).filter_map(|other| self.claims.get(other)).peekable();
        if rivals.peek().is_none() {
            return true;
        }
        let rivals: Vec<&NameClaim> = rivals.filter(|rival| rival.active || !own.active).collect();
        // A claim is followed only by claims that come later in the order.
        if rivals.iter().any(|rival| (rival.active && !own.active) || (rival.how == own.how && rival.at < own.at)) {
            return false;
        }
        if rivals.is_empty() {
            return true;
        }
        let followers = controls.followers(&own.at);
        rivals.iter().all(|rival| match (own.how, rival.how) {
            (Claimed::Attested, Claimed::Taken) => {
                rival.at > own.at || !controls.followers(&rival.at).contains(&own.at)
            }
            (Claimed::Attested, Claimed::Attested) | (Claimed::Taken, _) => followers.contains(&rival.at),
        })
    }
}

/// The forms under which names are compared: the confusable skeletons (Unicode TS 39) of the name and of its folded
/// form, so that `bob`, `BOB`, `ｂｏｂ`, a Cyrillic look-alike, and `alice` and `aIice`, are one name.
pub(crate) fn name_keys(name: &str) -> [String; 2] {
    let plain: String = name.nfkc().collect();
    let folded: String = plain.chars().flat_map(char::to_lowercase).collect();
    let skeleton = |text: &str| unicode_security::skeleton(text).flat_map(char::to_lowercase).collect::<String>();
    [skeleton(&plain), skeleton(&folded)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_one_name() {
        let alike = |one: &str, other: &str| name_keys(one).iter().any(|key| name_keys(other).contains(key));
        for other in ["BOB", "Bob", "ｂｏｂ", "b\u{043E}b"] {
            assert!(alike(other, "bob"), "{other}");
        }
        assert!(alike("aIice", "alice"));
        assert!(alike("ALICE", "alice"));
        assert!(!alike("bob", "rob"));
    }
}
