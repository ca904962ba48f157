//! Inputs and outputs of a node in one line each, for the message of a failure.

use crate::input::{AdmissionCall, Input};
use crate::log::entry::{Header, LogId, Seq, SignedEntry};
use crate::membership::roster::Person;
use crate::output::Output;
use crate::wire::Frame;

pub(in crate::sim::room) fn input(input: &Input) -> String {
    if let Input::Frame(from, raw) = input {
        format!("<- {} {}", from.short(), frame(raw))
    } else if let Input::Loaded(id, entries) = input {
        format!("loaded {id:?} {}", list(entries))
    } else if let Input::Admission(AdmissionCall { id, peer, .. }) = input {
        format!("admission {id:?} of {}", peer.short())
    } else {
        format!("{input:?}")
    }
}

pub(in crate::sim::room) fn output(output: &Output) -> String {
    if let Output::Send(to, raw) | Output::Datagram(to, raw) = output {
        format!("-> {} {}", to.short(), frame(raw))
    } else if let Output::Persist(batch) = output {
        let entries: Vec<SignedEntry> = batch.entries.iter().map(|item| item.entry.signed().clone()).collect();
        let cut = |(log, seq): (&LogId, &Seq)| format!(" hide {} {}", name(log), seq.0);
        let cuts: String = batch.changes.cuts.iter().map(cut).collect();
        let forks: String = batch.changes.forks.iter().map(|(one, _)| format!(" fork {}", entry(one))).collect();
        format!("   persist {:?} {}{cuts}{forks}", batch.id, list(&entries))
    } else if let Output::Roster(roster) = output {
        let person = |person: &Person| {
            let sign = if person.active { "+" } else { "-" };
            format!(" {}{sign}{:?}", person.peer.name, person.role)
        };
        format!("   roster{}", roster.people.values().map(|shown| person(shown)).collect::<String>())
    } else if let Output::Publish(_) = output {
        "   event".into()
    } else {
        format!("   {output:?}")
    }
}

fn name(log: &LogId) -> String {
    format!("{}/{:x}", log.author.short(), log.incarnation.0 >> 48)
}

fn entry(signed: &SignedEntry) -> String {
    match postcard::take_from_bytes::<Header>(&signed.header) {
        Ok((header, _)) => {
            let deps: Vec<String> = header.deps.iter().map(|dep| format!("{}:{}", name(&dep.log), dep.seq.0)).collect();
            let body = crate::log::entry::Entry::from_trusted(signed.clone()).ok();
            let control = body.as_ref().and_then(|entry| entry.control()).map(|control| format!("{control:?}"));
            format!(
                "{}:{}@{}({}){}",
                name(&header.log),
                header.seq.0,
                header.time.0,
                deps.join(","),
                control.unwrap_or_default()
            )
        }
        Err(_) => "?".into(),
    }
}

fn list(entries: &[SignedEntry]) -> String {
    entries.iter().map(entry).collect::<Vec<_>>().join(" ")
}

fn frame(raw: &[u8]) -> String {
    match Frame::decode(raw) {
        Ok(Frame::Entries(entries)) => format!("entries {}", list(&entries)),
        Ok(Frame::Chunk(entries)) => format!("chunk {}", list(&entries)),
        Ok(Frame::Vector { heads, reply }) => {
            let heads: Vec<String> = heads.iter().map(|head| format!("{}:{}", name(&head.log), head.seq.0)).collect();
            format!("vector {reply} {}", heads.join(" "))
        }
        Ok(Frame::Want { log, from, to }) => format!("want {} {}..{}", name(&log), from.0, to.0),
        Ok(Frame::Held { log, seq, .. }) => format!("held {} {}", name(&log), seq.0),
        Ok(other) => format!("{other:?}").chars().take(60).collect(),
        Err(error) => error.to_string(),
    }
}
