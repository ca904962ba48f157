//! Tests of exports: sound ones are accepted, every change is noticed.

use chat_core::log::entry::{Body, Dep, Header, Incarnation};

use super::*;

const ROOM_NAME: &str = "lab";

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn peer(number: u8) -> PeerId {
    PeerId::from_bytes(key(number).verifying_key().to_bytes())
}

/// A log that grows.
struct LogAuthor {
    key: SigningKey,
    log: LogId,
    seq: Seq,
    backlink: Option<EntryHash>,
}

impl LogAuthor {
    fn new(number: u8) -> Self {
        let log = LogId { author: peer(number), incarnation: Incarnation(u64::MAX - u64::from(number)) };
        Self { key: key(number), log, seq: Seq::ZERO, backlink: None }
    }

    fn write(&mut self, room: RoomId, time_ms: u64, deps: Vec<Dep>, body: Body) -> Entry {
        self.seq = self.seq.next();
        let header = Header {
            version: 1,
            room,
            log: self.log,
            seq: self.seq,
            backlink: self.backlink,
            time: Hlc::from_wall(Timestamp::from_ms(time_ms)),
            deps,
            body_hash: [0; 32],
            body_bytes: 0,
        };
        let entry = Entry::sign(header, body, &self.key).expect("within bounds");
        self.backlink = Some(entry.hash());
        entry
    }
}

fn said(text: &str) -> Body {
    Body::Messages(vec![MessageBody::Text(text.into())])
}

/// A room in which the second author answers the first one, with a date before it.
fn room() -> (RoomId, Vec<Entry>) {
    let (mut ann, mut bob) = (LogAuthor::new(1), LogAuthor::new(2));
    let genesis = Control::Genesis { room_name: ROOM_NAME.into(), open: true, name: "ann".into(), nonce: [3; 16] };
    let genesis = ann.write(RoomId::from_bytes([0; 32]), 1_000, Vec::new(), Body::Control(genesis));
    let room = RoomId::from_bytes(*genesis.hash().as_bytes());
    let question = ann.write(room, 5_000, Vec::new(), said("question"));
    let deps = |order| vec![Dep { log: question.log(), seq: question.seq() }, Dep::order(peer(2), order)];
    let answer = bob.write(room, 2_000, deps(Hlc::from_wall(Timestamp::from_ms(5_001))), said("answer"));
    let last = ann.write(room, 6_000, vec![Dep { log: answer.log(), seq: answer.seq() }], said("thanks"));
    (room, vec![genesis, question, answer, last])
}

fn export(room: RoomId, entries: &[Entry], after: ArchiveHeads) -> String {
    let mut raw = Vec::new();
    let at = Timestamp::from_ms(9_000);
    let mut writer = ArchiveWriter::begin(&mut raw, (room, ROOM_NAME), peer(1), at, after).expect("writes");
    entries.iter().for_each(|entry| writer.entry(entry).expect("writes"));
    writer.end(&key(1)).expect("writes");
    String::from_utf8(raw).expect("text")
}

fn verify(text: &str) -> Result<Archive, Flaw> {
    Archive::verify(text.as_bytes())
}

#[test]
fn sound_export_says_who_said_what_in_causal_order() {
    let (id, entries) = room();
    let archive = verify(&export(id, &entries, ArchiveHeads::default())).expect("sound");
    let said: Vec<_> = archive.messages.iter().map(|message| message.view.text.as_deref().unwrap_or("")).collect();
    assert_eq!(said, ["question", "answer", "thanks"], "the answer has the earliest date");
    assert_eq!(archive.names[&peer(1)], "ann");
    assert!(archive.whole && archive.absent.is_empty());
}

#[test]
fn export_continues_where_another_ended() {
    let (id, entries) = room();
    let first = verify(&export(id, &entries[..2], ArchiveHeads::default())).expect("sound");
    assert_eq!(first.heads.seqs().values().map(|seq| seq.0).collect::<Vec<_>>(), [2]);
    let second = verify(&export(id, &entries[2..], first.heads.clone())).expect("sound");
    assert_eq!((second.entries, second.messages.len()), (2, 2));
    assert!(!second.whole);
    let gap = verify(&export(id, &entries[3..], first.heads)).expect("bob's log is not there at all");
    assert_eq!(gap.absent.len(), 1, "and that is said");
}

#[test]
fn entry_that_is_left_out_is_noticed() {
    let (id, entries) = room();
    for left_out in 0..3 {
        let mut some = entries.clone();
        some.remove(left_out);
        let found = verify(&export(id, &some, ArchiveHeads::default()));
        match left_out {
            // Bob has no other entry: that others build on it is said.
            2 => assert_eq!(found.expect("sound").absent.len(), 1),
            _ => assert!(matches!(found, Err(Flaw::Missing { .. } | Flaw::Order { .. })), "{left_out}: {found:?}"),
        }
    }
    let mut swapped = entries.clone();
    swapped.swap(1, 2);
    assert!(matches!(verify(&export(id, &swapped, ArchiveHeads::default())), Err(Flaw::Order { .. })));
}

#[test]
fn cut_or_changed_file_is_noticed() {
    let (id, entries) = room();
    let whole = export(id, &entries, ArchiveHeads::default());
    let lines: Vec<&str> = whole.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    assert!(matches!(verify(&cut), Err(Flaw::Cut)));
    assert!(matches!(verify(&format!("{whole}{whole}")), Err(Flaw::Beyond)));
    // The newest entry and its head are taken away together.
    let shorter = export(id, &entries[..3], ArchiveHeads::default());
    let forged = shorter.replace(shorter.lines().last().expect("an end"), lines[lines.len() - 1]);
    assert!(matches!(verify(&forged), Err(Flaw::Heads)));
    assert!(matches!(verify(&whole.replace("question", "request!")), Err(Flaw::Forged { .. })));
    assert!(matches!(
        verify(&whole.replace("\"room_name\":\"lab\"", "\"room_name\":\"bar\"")),
        Err(Flaw::Signature(_))
    ));
    assert!(matches!(verify(&whole.replace("\"format\":1", "\"format\":2")), Err(Flaw::Format(2))));
    assert!(matches!(verify("{}"), Err(Flaw::Syntax { line: 1, .. })));
    assert!(matches!(verify(""), Err(Flaw::Cut)));
}

#[test]
fn every_changed_byte_is_noticed() {
    let (id, entries) = room();
    let whole = export(id, &entries, ArchiveHeads::default()).into_bytes();
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(Archive::verify(changed.as_slice()).is_err(), "byte {at}");
    }
}

#[test]
fn texts_that_are_no_longer_kept_are_shown_as_such_and_nothing_else_may_be_left_out() {
    let (room, mut entries) = room();
    entries[1] = entries[1].clone().without_body();
    let archive = Archive::verify(export(room, &entries, ArchiveHeads::default()).as_bytes()).expect("sound");
    let texts: Vec<Option<&str>> = archive.messages.iter().map(|message| message.view.text.as_deref()).collect();
    assert_eq!(texts, [None, Some("answer"), Some("thanks")]);
    assert!(archive.messages[0].is_dropped() && archive.dropped == 1);
    entries[0] = entries[0].clone().without_body();
    let flaw = Archive::verify(export(room, &entries, ArchiveHeads::default()).as_bytes()).expect_err("not sound");
    assert!(matches!(flaw, Flaw::LeftOut { line: 2, .. }), "{flaw}");
}
