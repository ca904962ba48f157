//! What happened, in a line each, for the message of a failure.

use crate::input::Input;
use crate::log::entry::{Header, LogId, SignedEntry};
use crate::output::Output;
use crate::wire::Frame;

pub(super) fn input(input: &Input) -> String {
    match input {
        Input::Frame(from, raw) => format!("<- {} {}", from.short(), frame(raw)),
        Input::Loaded(id, entries) => format!("loaded {id:?} {}", list(entries)),
        Input::Admission { id, peer, .. } => format!("admission {id:?} of {}", peer.short()),
        Input::Command(..)
        | Input::Up(..)
        | Input::Path(..)
        | Input::Down(_)
        | Input::DialFailed(_)
        | Input::Persisted(_)
        | Input::PersistFailed(..)
        | Input::AdmissionGone(_)
        | Input::Addrs(_)
        | Input::Role(_)
        | Input::Deaf
        | Input::Tick => format!("{input:?}"),
    }
}

pub(super) fn output(output: &Output) -> String {
    match output {
        Output::Send(to, raw) | Output::Datagram(to, raw) => format!("-> {} {}", to.short(), frame(raw)),
        Output::Persist(batch) => {
            let entries: Vec<SignedEntry> = batch.entries.iter().map(|item| item.entry.signed().clone()).collect();
            format!("   persist {:?} {}", batch.id, list(&entries))
        }
        Output::Roster(roster) => {
            let people = roster.people.values();
            let people: Vec<String> =
                people.map(|p| format!("{}{}{:?}", p.peer.name, if p.active { "+" } else { "-" }, p.role)).collect();
            format!("   roster {}", people.join(" "))
        }
        Output::StoreFork(one, _) => format!("   fork {}", place(one)),
        Output::Publish(_) => "   event".into(),
        Output::Hide(log, seq) => format!("   hide {} {}", name(log), seq.0),
        Output::Role(..)
        | Output::Observed(_)
        | Output::Relays(_)
        | Output::Dial(..)
        | Output::Disconnect(..)
        | Output::Load { .. }
        | Output::Reply(..)
        | Output::Admission(..)
        | Output::StoreAddrs(_)
        | Output::StoreSeen(_)
        | Output::StoreIncarnation(_) => format!("   {output:?}"),
    }
}

fn name(log: &LogId) -> String {
    format!("{}/{:x}", log.author.short(), log.incarnation.0 >> 48)
}

fn place(signed: &SignedEntry) -> String {
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
    entries.iter().map(place).collect::<Vec<_>>().join(" ")
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
