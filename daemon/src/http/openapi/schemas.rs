//! The JSON schemas of what the calls take and answer. A test holds them against the types they describe.

use chat_proto::{NAME_CHARS_MAX, RECIPIENTS_MAX, TEXT_BYTES_MAX};
use serde_json::{Map, Value, json};

use crate::http::handlers::invites::{EXPIRES_MS, USES};
use crate::http::handlers::messages::{COPIES, TIMEOUT_MS};

mod room;

/// Every schema by its name.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    let mut add = |name: &str, schema: Value| {
        schemas.insert(name.into(), schema);
    };
    ids(&mut add);
    peers(&mut add);
    messages(&mut add);
    invites(&mut add);
    members(&mut add);
    room::rendezvous(&mut add);
    room::status(&mut add);
    room::events(&mut add);
    Value::Object(schemas)
}

type Add<'a> = dyn FnMut(&str, Value) + 'a;

/// A field: its name, its schema, what it means. A name that ends in `?` may be left out.
type Field = (&'static str, Value, &'static str);

fn object(about: &str, fields: Vec<Field>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, mut schema, about) in fields {
        let bare = name.trim_end_matches('?');
        if bare == name {
            required.push(name);
        }
        schema["description"] = about.into();
        properties.insert(bare.into(), schema);
    }
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn of(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn list(item: Value) -> Value {
    json!({"type": "array", "items": item})
}

fn or_null(schema: Value) -> Value {
    json!({"oneOf": [schema, {"type": "null"}]})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn within<N: Into<Value>>((min, max): (N, N)) -> Value {
    json!({"type": "integer", "minimum": min.into(), "maximum": max.into()})
}

fn share() -> Value {
    json!({"type": "number", "minimum": 0, "maximum": 1})
}

fn word(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn pattern(pattern: &str, about: &str) -> Value {
    json!({"type": "string", "pattern": pattern, "description": about})
}

fn ids(add: &mut Add<'_>) {
    let key = "^[0-9a-f]{64}$";
    add("PeerId", pattern(key, "A peer: its ed25519 public key."));
    add("PeerTag", pattern("^[a-z2-7]{8}$", "Short form of a peer's key, for people's eyes."));
    add("RoomId", pattern(key, "A room: the hash of its first entry."));
    add("InviteId", pattern(key, "An invite: the public half of its one-time key."));
    add("MessageId", pattern(r"^[0-9a-f]{64}\.(0|[1-9][0-9]*)$", "A message, the same at every peer."));
    add("Cursor", pattern("^[0-9a-f]{8}-[0-9]+$", "A durable place in the event stream of one daemon."));
    add(
        "Timestamp",
        json!({"type": "string", "format": "date-time", "description": "RFC 3339, UTC, with milliseconds."}),
    );
    add(
        "Problem",
        object(
            "What went wrong (RFC 9457).",
            vec![
                ("type", text(), "Always `about:blank`."),
                ("title", text(), "The HTTP status in words."),
                ("status", count(), "The HTTP status."),
                ("code", text(), "What went wrong; stable. New codes may be added."),
                ("detail", text(), "What went wrong with the values of this case."),
                ("hint?", text(), "What to do next."),
            ],
        ),
    );
}

fn peers(add: &mut Add<'_>) {
    let reference = || -> Vec<Field> {
        vec![
            ("id", of("PeerId"), "Its key."),
            ("name", text(), "Its name; with `~tag` where an earlier member holds a confusable one."),
            ("tag", of("PeerTag"), "Short form of its key."),
        ]
    };
    add("PeerRef", object("A peer as others name it.", reference()));
    let mut view = reference();
    view.extend([
        ("me", flag(), "Whether it is this daemon's own peer."),
        ("online", flag(), "Whether it is connected to this peer or to a member that is."),
        ("path", word(&["direct", "relayed", "none"]), "How this daemon reaches it."),
        ("rtt_ms", json!({"type": ["number", "null"]}), "Round-trip time in milliseconds, where it is connected."),
        ("last_seen", or_null(of("Timestamp")), "When it was last heard of."),
        ("role", of("Role"), "Its part in the rendezvous."),
        ("rank", json!({"type": ["integer", "null"]}), "Its place in the ranking, from 1."),
        ("member", word(&["admin", "member"]), "What it may do in the room."),
    ]);
    add("PeerView", object("A member and how this daemon reaches it.", view));
    add("Role", word(&["holder", "standby", "member"]));
    add("PeerList", object("Every member.", vec![("peers", list(of("PeerView")), "This peer first, then by name.")]));
}

fn messages(add: &mut Add<'_>) {
    let said = json!({"type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX});
    add(
        "SendRequest",
        object(
            "Something to say.",
            vec![
                ("text", said, "The text, not blank; the length is counted in bytes of UTF-8."),
                (
                    "to?",
                    json!({"type": "array", "items": {"type": "string"}, "maxItems": RECIPIENTS_MAX}),
                    "Recipients of a direct message: names, tags or keys. Empty: the whole room.",
                ),
                (
                    "wait?",
                    word(&["stored", "replicated", "delivered"]),
                    "What to wait for; `stored` where nothing is said.",
                ),
                (
                    "copies?",
                    within(COPIES),
                    "With `replicated`: how many other peers shall hold it; 1 where nothing is said.",
                ),
                ("timeout_ms?", within(TIMEOUT_MS), "Longest wait; 10,000 where nothing is said."),
            ],
        ),
    );
    add(
        "SentMessage",
        object(
            "A message and how far it has come.",
            vec![("message", of("Message"), "The message."), ("state", of("MessageState"), "How far it has come.")],
        ),
    );
    add(
        "MessageState",
        object(
            "How far a message has come.",
            vec![
                ("stored", flag(), "On this machine's disk, flushed."),
                ("copies", count(), "How many other peers are known to hold it on disk."),
                ("held_by", list(of("PeerRef")), "Those peers."),
                ("complete", flag(), "Whether what the request waited for has come."),
            ],
        ),
    );
    add(
        "Message",
        object(
            "What a person wrote.",
            vec![
                ("id", of("MessageId"), "Its id."),
                ("time", of("Timestamp"), "The author's clock when it was written."),
                ("from", of("PeerRef"), "The author."),
                ("to?", list(of("PeerRef")), "Recipients of a direct message."),
                ("text", text(), "The text."),
            ],
        ),
    );
    add(
        "MessagePage",
        object(
            "A page of history.",
            vec![
                ("messages", list(of("Message")), "Oldest first, in the shared order."),
                ("more", flag(), "Whether there are more: before the first, or with `after`, behind the last."),
            ],
        ),
    );
}

fn invites(add: &mut Add<'_>) {
    add(
        "InviteRequest",
        object(
            "What an invite shall allow.",
            vec![
                ("expires_ms?", within(EXPIRES_MS), "How long it is valid; 7 days where nothing is said."),
                ("uses?", within(USES), "How many it lets in; 1,000 where nothing is said."),
            ],
        ),
    );
    add(
        "NewInvite",
        object(
            "A new invite.",
            vec![("invite", of("Invite"), "The invite."), ("ticket", text(), "A secret: who has it can join.")],
        ),
    );
    add(
        "Invite",
        object(
            "An invite as the log has it.",
            vec![
                ("id", of("InviteId"), "Its id."),
                ("by", of("PeerRef"), "Who wrote it."),
                ("created", of("Timestamp"), "When."),
                ("expires", of("Timestamp"), "Until when it lets in."),
                ("uses", count(), "How many it lets in."),
                ("used", count(), "How many it has let in."),
                ("revoked", flag(), "Whether it was revoked."),
            ],
        ),
    );
    add("InviteList", object("The invites.", vec![("invites", list(of("Invite")), "Newest first.")]));
}

fn members(add: &mut Add<'_>) {
    add(
        "Knock",
        object(
            "A stranger that waits to be let in.",
            vec![
                ("id", count(), "Number of the knock."),
                ("peer", of("PeerId"), "The stranger's key."),
                ("tag", of("PeerTag"), "Short form of its key."),
                ("name", text(), "Name it goes by."),
                ("words", text(), "Words that both sides see."),
                ("since", of("Timestamp"), "When it knocked."),
            ],
        ),
    );
    add("KnockList", object("The knocks.", vec![("knocks", list(of("Knock")), "Oldest first.")]));
    add("KnockAnswer", object("Yes or no.", vec![("admit", flag(), "Whether to let it in.")]));
    let name = || json!({"type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX});
    add("RoleRequest", object("A role.", vec![("role", word(&["admin", "member"]), "What the member may do.")]));
    add("NameRequest", object("Another name.", vec![("name", name(), "Letters, digits, `-`, `_`, `.`.")]));
    add(
        "JoinRequest",
        object(
            "Where to go.",
            vec![
                ("target", text(), "A ticket, or `HOST[:PORT]` of a member."),
                ("name?", name(), "Name to be known by; the current one where nothing is said."),
            ],
        ),
    );
    add("Joined", object("Let in.", vec![("room", of("RoomRef"), "The room.")]));
    add("RoomList", object("The rooms.", vec![("rooms", list(of("NearbyRoom")), "By name.")]));
    add(
        "NearbyRoom",
        object(
            "A room seen on the local network.",
            vec![
                ("room", of("RoomRef"), "The room."),
                ("peer", of("PeerId"), "The member that was seen."),
                ("addrs", list(text()), "Where it is reached: IP and port."),
            ],
        ),
    );
}
