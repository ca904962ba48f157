//! Stories: text files of `given … when … then …` that run in the simulated world.
//!
//! A line is a step; text after `#` is a comment. `then` steps fail the story with its file and line. Peers get one
//! letter each by `given H holds, A B C in line`: the holder, the succession list in order, then the others.
//!
//! | step | meaning |
//! |---|---|
//! | `given 5 peers on a lan` (`on a rough network`, `40 ms apart`) | number of peers and the network between them |
//! | `given H holds, A B in line, C D besides` | the room has settled; names its peers |
//! | `given no tcp watch` | no peer accepts one, as behind a firewall |
//! | `given 3 more peers to come` | members that have not started yet, named by `when Z is started` |
//! | `when A B are killed` (`is powered off`, `suspended`, `resumed`, `stopped`, `restarted`, `cut off`, `started`) | at once |
//! | `when A B are without udp` | only TCP, for watches and dials, gets through to them and from them |
//! | `when A is deaf to B` | frames from B to A are lost, but not from A to B |
//! | `when A B are split from C D` / `when all is healed` / `when 5 s pass` | |
//! | `then A holds within 100 ms` | all peers that A reaches agree on A |
//! | `then A and C hold within 5 s` | each in its own part of a split room |
//! | `then nothing changes for 60 s` | no peer sees a change of the role |
//! | `then the reason is died` / `then the gap is below 300 ms` / `then 1 term has passed` | of the newest change |
//! | `then the history names H A` | the claimants of the last terms, oldest first, the same at all peers |
//! | `then A relays`, `then H relays no more` | |

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sim::clock::{MINUTE, MS, SECOND};
use crate::sim::role::network::{Id, LinkModel};
use crate::sim::role::peer::ProcessState;
use crate::sim::role::world::RoleWorld;

/// A story that is running.
struct Teller {
    world: RoleWorld,
    names: BTreeMap<String, Id>,
    /// Members that have not started and have no names yet.
    to_come: Vec<Id>,
    term: u64,
}

/// Runs a story.
fn tell(text: &str) -> Result<(), String> {
    let mut teller: Option<Teller> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let step = line.split('#').next().unwrap_or_default().trim().trim_end_matches('.');
        let words: Vec<&str> = step.split([' ', ',']).filter(|word| !word.is_empty() && *word != "and").collect();
        let outcome = match (words.as_slice(), &mut teller) {
            ([], _) => Ok(()),
            (["given", many, "peers", link @ ..], None) => begin(many, link).map(|begun| teller = Some(begun)),
            (["given", rest @ ..], Some(teller)) => teller.given(rest),
            (["when", rest @ ..], Some(teller)) => teller.when(rest),
            (["then", rest @ ..], Some(teller)) => teller.then(rest),
            (_, _) => Err("no such step".to_owned()),
        };
        outcome.map_err(|reason| format!("line {number}, {step}: {reason}"))?;
    }
    let teller = teller.ok_or("a story must begin with peers")?;
    teller.world.must_be_sound();
    Ok(())
}

fn begin(many: &str, link: &[&str]) -> Result<Teller, String> {
    let many = number(many)?;
    let link = match link {
        ["on", "a", "lan"] => LinkModel::LAN,
        ["on", "a", "rough", "network"] => LinkModel::ROUGH,
        [ms, "ms", "apart"] => LinkModel::new(number(ms)? * 500, 1_000, 0.0),
        _ => return Err("no such network".to_owned()),
    };
    let many = usize::try_from(many).map_err(|_| "too many")?;
    Ok(Teller { world: RoleWorld::new(many, link, 1), names: BTreeMap::new(), to_come: Vec::new(), term: 0 })
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

fn span(amount: &str, unit: &str) -> Result<Duration, String> {
    let unit = match unit {
        "ms" => MS,
        "s" => SECOND,
        "min" => MINUTE,
        _ => return Err(format!("{unit} is not a unit of time")),
    };
    Ok(u32::try_from(number(amount)?).map_err(|_| "too long")? * unit)
}

fn is_name(word: &str) -> bool {
    word.len() == 1 && word.chars().all(|letter| letter.is_ascii_uppercase())
}

/// The names at the beginning of some words, and the rest.
fn names<'a, 'w>(words: &'a [&'w str]) -> (&'a [&'w str], &'a [&'w str]) {
    words.split_at(words.iter().take_while(|word| is_name(word)).count())
}

impl Teller {
    fn id(&self, name: &str) -> Result<Id, String> {
        self.names.get(name).copied().ok_or_else(|| format!("no peer has the name {name}"))
    }

    fn ids(&self, names: &[&str]) -> Result<Vec<Id>, String> {
        names.iter().map(|name| self.id(name)).collect()
    }

    fn given(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [many, "more", "peers", "to", "come"] => {
                for id in self.world.peers.len() - usize::try_from(number(many)?).unwrap_or(0)..self.world.peers.len() {
                    self.world.power_off(id);
                    self.to_come.push(id);
                }
                Ok(())
            }
            ["no", "tcp", "watch"] => {
                self.world.no_watch = (0..self.world.peers.len()).collect();
                Ok(())
            }
            [holder, "holds", rest @ ..] => {
                self.world.run_for(30 * SECOND);
                let id = self
                    .world
                    .holder()
                    .ok_or_else(|| format!("there is no agreed holder: {}", self.world.beliefs()))?;
                let (line, rest) = names(rest);
                let besides = match rest {
                    ["in", "line"] | [] => &[],
                    ["in", "line", besides @ .., "besides"] => besides,
                    _ => return Err("the step must name the peers in line".to_owned()),
                };
                let listed = self.world.peers[id].role.query().succession_list();
                let listed: Vec<Id> = listed.iter().map(|peer| self.world.index[peer]).collect();
                let others: Vec<Id> =
                    self.world.running().filter(|other| *other != id && !listed.contains(other)).collect();
                if (listed.len(), others.len()) != (line.len(), besides.len()) {
                    return Err(format!("{} are in line and {} besides", listed.len(), others.len()));
                }
                let all = [*holder].into_iter().chain(line.iter().copied()).chain(besides.iter().copied());
                self.names = all.map(str::to_owned).zip([id].into_iter().chain(listed).chain(others)).collect();
                self.term = self.world.peers[id].role.query().term().0;
                Ok(())
            }
            _ => Err("unknown given step".to_owned()),
        }
    }

    fn when(&mut self, words: &[&str]) -> Result<(), String> {
        let (peers, what) = names(words);
        if let (["is", "started"], [name]) = (what, peers) {
            let id = self.to_come.pop().ok_or("all peers have started")?;
            self.names.insert((*name).to_owned(), id);
            self.world.restart(id);
            return Ok(());
        }
        let ids = self.ids(peers)?;
        let world = &mut self.world;
        match what {
            ["all", "is", "healed"] => world.net.heal(),
            [amount, unit, "pass"] => world.run_for(span(amount, unit)?),
            ["is" | "are", "deaf", "to", from] => {
                let from = self.names.get(*from).copied().ok_or("the step must name the other peer")?;
                ids.iter().for_each(|id| world.net.cut_one_way(from, *id));
            }
            ["is" | "are", "split", "from", others @ ..] => {
                let others: Result<Vec<Id>, String> = others
                    .iter()
                    .map(|name| self.names.get(*name).copied().ok_or_else(|| (*name).to_owned()))
                    .collect();
                for other in others? {
                    ids.iter().for_each(|id| world.net.cut(*id, other));
                }
            }
            ["is" | "are", event @ ..] => {
                for id in ids {
                    happen_to(world, id, event)?;
                }
            }
            _ => return Err("unknown when step".to_owned()),
        }
        Ok(())
    }

    fn then(&mut self, words: &[&str]) -> Result<(), String> {
        let (peers, what) = names(words);
        let ids = self.ids(peers)?;
        match what {
            ["holds" | "hold", "within", amount, unit] => {
                let end = self.world.now() + span(amount, unit)?;
                let held = self.world.run_until(end, |world| ids.iter().all(|id| holds(world, *id)));
                if held { Ok(()) } else { Err(self.world.beliefs()) }
            }
            ["nothing", "changes", "for", amount, unit] => {
                let before = self.world.changes();
                self.world.run_for(span(amount, unit)?);
                if self.world.changes() == before { Ok(()) } else { Err(self.world.last_changes()) }
            }
            ["the", "reason", "is", reason] => {
                let text = format!("{:?}", self.newest()?.reason).to_lowercase();
                if text == *reason { Ok(()) } else { Err(format!("it is {text}")) }
            }
            ["the", "gap", "is", "below", amount, unit] => {
                let gap = self.newest()?.gap;
                let fits = gap < span(amount, unit)?;
                if fits { Ok(()) } else { Err(format!("it is {gap:?}")) }
            }
            [many, "term" | "terms", "has" | "have", "passed"] => {
                let passed = self.newest()?.term.0 - self.term;
                if passed == number(many)? { Ok(()) } else { Err(format!("{passed} have")) }
            }
            ["the", "history", "names", names @ ..] => self.history_names(names),
            ["relays" | "relay", rest @ ..] => {
                let on = crate::types::Switch::On;
                let expected = *rest != ["no", "more"];
                let fits = ids.iter().all(|id| (self.world.peers[*id].relay == on) == expected);
                if fits { Ok(()) } else { Err("it is otherwise".to_owned()) }
            }
            _ => Err("unknown then step".to_owned()),
        }
    }

    fn newest(&self) -> Result<&crate::types::Change, String> {
        let all = self.world.running().filter_map(|id| self.world.peers[id].changes.last());
        all.max_by_key(|(at, change)| (change.term, std::cmp::Reverse(*at)))
            .map(|(_, change)| change)
            .ok_or_else(|| "there was no change".to_owned())
    }

    fn history_names(&self, names: &[&str]) -> Result<(), String> {
        let expected = self.ids(names)?;
        for id in self.world.running() {
            let changes = self.world.peers[id].role.query().known_changes();
            let mut known: Vec<Id> = changes.map(|change| self.world.index[&change.to]).take(expected.len()).collect();
            known.reverse();
            if known != expected {
                let name = |id: &Id| self.names.iter().find(|(_, named)| *named == id).map(|(name, _)| name.clone());
                return Err(format!("a peer has {:?}", known.iter().map(name).collect::<Vec<_>>()));
            }
        }
        Ok(())
    }
}

/// Whether a peer is the holder, and all peers that it reaches agree.
fn holds(world: &RoleWorld, id: Id) -> bool {
    let components = world.components();
    components.iter().find(|group| group.contains(&id)).is_some_and(|group| world.agreed(group) == Some(id))
}

fn happen_to(world: &mut RoleWorld, id: Id, event: &[&str]) -> Result<(), String> {
    match event {
        ["killed"] => world.kill(id),
        ["powered", "off"] => world.power_off(id),
        ["suspended"] => world.suspend(id),
        ["resumed"] => world.resume(id),
        ["stopped"] => world.stop(id),
        ["restarted"] => {
            if world.peers[id].life == ProcessState::Running {
                world.kill(id);
            }
            world.restart(id);
        }
        ["without", "udp"] => world.net.lose_udp(id),
        ["cut", "off"] => {
            (0..world.peers.len()).filter(|other| *other != id).for_each(|other| world.net.cut(id, other))
        }
        _ => return Err("no such event".to_owned()),
    }
    Ok(())
}

#[test]
fn stories_hold() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rendezvous/stories");
    let mut files: Vec<_> = std::fs::read_dir(dir).expect("the stories are there").flatten().collect();
    files.sort_by_key(std::fs::DirEntry::path);
    let mut failed = Vec::new();
    for file in &files {
        let text = std::fs::read_to_string(file.path()).expect("a story is text");
        if let Err(reason) = tell(&text) {
            failed.push(format!("{}: {reason}", file.path().display()));
        }
    }
    assert!(files.len() > 15, "only {} stories", files.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn false_story_fails_at_its_line() {
    let text = "given 3 peers on a lan\ngiven H holds, A B in line\nwhen A is killed\nthen B holds within 2 s";
    let reason = tell(text).expect_err("the holder lives");
    assert!(reason.starts_with("line 4, then B holds within 2 s"), "{reason}");
    for text in ["when 5 s pass", "given 3 peers on the moon", "given 2 peers on a lan\nthen H sings"] {
        assert!(tell(text).is_err(), "{text}");
    }
}
