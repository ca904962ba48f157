//! Schemas of what a daemon tells of its room: the rendezvous role, its own standing, events.

use serde_json::{Value, json};

use super::{Add, Field, count, flag, list, object, of, or_null, share, text, word};

/// The rendezvous role.
pub(super) fn rendezvous(add: &mut Add<'_>) {
    add(
        "Rendezvous",
        object(
            "The rendezvous role as this peer knows it.",
            vec![
                ("term", count(), "The current term."),
                ("holder", or_null(of("PeerRef")), "Who holds it; nobody while the role moves."),
                ("since", or_null(of("Timestamp")), "Since when this peer knows so."),
                ("role", of("Role"), "This peer's part."),
                ("ranking", list(of("RankedPeer")), "Best first; its head is the succession list."),
                ("succession", count(), "How many of the ranking are on the succession list."),
                ("history", list(of("HolderChange")), "Changes of the role, newest first."),
            ],
        ),
    );
    add(
        "RankedPeer",
        object(
            "A candidate and the figures that rank it.",
            vec![
                ("peer", of("PeerRef"), "The candidate."),
                ("rank", count(), "Its place, from 1."),
                ("score", share(), "What the figures add up to."),
                ("reach", share(), "Share of the members that reach it directly."),
                (
                    "inbound",
                    json!({"type": ["boolean", "null"]}),
                    "Whether others reach it without being called first.",
                ),
                ("rtt_ms", json!({"type": ["number", "null"]}), "Median round-trip time that others measured."),
                ("loss", share(), "Share of probes that were lost."),
                ("steady", share(), "Share of the last hour it was online without a break."),
                ("reports", count(), "Members whose reports went into this."),
                ("why", text(), "What decided its place."),
            ],
        ),
    );
    let reasons = ["founded", "died", "silent", "handed_over", "better_connected", "merged"];
    add(
        "HolderChange",
        object(
            "A change of the role.",
            vec![
                ("term", count(), "The term that began."),
                ("from", or_null(of("PeerRef")), "Who held the role before."),
                ("to", of("PeerRef"), "Who holds it now."),
                ("at", of("Timestamp"), "When this peer learned of it."),
                ("reason", word(&reasons), "Why."),
                ("gap_ms", count(), "How long nobody held the role, as this peer saw it."),
            ],
        ),
    );
}

/// How the daemon stands.
pub(super) fn status(add: &mut Add<'_>) {
    add(
        "Status",
        object(
            "How the daemon stands.",
            vec![
                ("peer", of("PeerRef"), "This peer."),
                ("room", of("RoomRef"), "The room."),
                ("role", of("Role"), "This peer's part in the rendezvous."),
                ("rendezvous", or_null(of("RendezvousRef")), "Who holds the role."),
                ("members", count(), "Members, this peer included."),
                ("members_online", count(), "Members online, this peer included."),
                ("messages", count(), "Messages that this peer can read."),
                ("reachability", of("Reachability"), "Where this peer listens and is seen."),
                ("version", text(), "Version of the daemon."),
                ("pid", count(), "Process id of the daemon."),
                ("started_at", of("Timestamp"), "When the daemon started."),
                ("home", text(), "The daemon's home directory."),
            ],
        ),
    );
    add(
        "RoomRef",
        object(
            "A room.",
            vec![
                ("id", of("RoomId"), "Its id."),
                ("name", text(), "Its name; empty while the first entry has not arrived."),
                ("open", flag(), "Whether every knock is admitted."),
            ],
        ),
    );
    add(
        "RendezvousRef",
        object(
            "Who holds the rendezvous role.",
            vec![("peer", of("PeerRef"), "The holder."), ("term", count(), "Its term.")],
        ),
    );
    add(
        "Reachability",
        object(
            "Where a peer listens and is seen.",
            vec![
                ("port", count(), "UDP and TCP port."),
                ("addrs", list(text()), "Addresses it gives to others."),
                ("observed", list(text()), "Addresses at which others see it."),
                (
                    "inbound",
                    json!({"type": ["boolean", "null"]}),
                    "Whether others reach it without being called first.",
                ),
            ],
        ),
    );
}

/// What the event stream tells.
pub(super) fn events(add: &mut Add<'_>) {
    let actions = ["founded", "admitted", "removed", "renamed", "role", "left"];
    let kinds: [(&str, Vec<Field>); 7] = [
        ("message", vec![("message", of("Message"), "The message.")]),
        ("peer", vec![("peer", of("PeerView"), "How it stands now.")]),
        (
            "membership",
            vec![
                ("action", word(&actions), "What was done."),
                ("peer", of("PeerRef"), "To whom."),
                ("by", of("PeerRef"), "By whom."),
            ],
        ),
        ("rendezvous", vec![("change", of("HolderChange"), "From whom, to whom, why.")]),
        (
            "delivery",
            vec![
                ("message", of("MessageId"), "The message."),
                ("copies", count(), "How many other peers hold it on disk."),
                ("delivered", list(of("PeerRef")), "Recipients of a direct message that hold it."),
            ],
        ),
        (
            "knock",
            vec![
                ("knock", count(), "Number of the knock."),
                ("name", text(), "Name the stranger goes by."),
                ("words", text(), "Words that both sides see."),
                ("state", word(&["waiting", "admitted", "denied", "gone"]), "How it stands."),
            ],
        ),
        ("gap", vec![("reason", text(), "Why events are missing.")]),
    ];
    let variants: Vec<Value> = kinds
        .into_iter()
        .map(|(kind, fields)| {
            let mut all: Vec<Field> = vec![
                ("cursor", of("Cursor"), "Where a reader that has seen this event goes on."),
                ("at", of("Timestamp"), "When this daemon wrote it down."),
                ("type", json!({"type": "string", "const": kind}), "What happened."),
            ];
            all.extend(fields);
            object(&format!("An event `{kind}`."), all)
        })
        .collect();
    add("EventEnvelope", json!({"description": "An event and its place in the stream.", "oneOf": variants}));
}
