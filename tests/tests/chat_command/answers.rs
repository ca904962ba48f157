//! What the fake daemon answers to the calls that change nothing of what the tests watch.

use chat_proto::api::invites::{Invite, InviteList, NewInvite};
use chat_proto::api::members::{Joined, Knock, KnockList, NearbyRoom, RoomList};
use chat_proto::api::peers::{MemberRole, PathView, PeerList, PeerRef, PeerView, RoleView};
use chat_proto::api::rendezvous::{ChangeReason, HolderChange, RankedPeer, RendezvousView};
use chat_proto::api::status::{RendezvousRef, RoomRef, Status};
use chat_proto::error::{ErrorCode, Problem};
use chat_proto::id::{InviteId, KnockId, RoomId, Term};
use chat_proto::time::Timestamp;

use crate::fake::{alice, bob, json, peer, problem};

/// The ticket that the fake writes.
pub(crate) const TICKET: &str = "chat1secretticket";

const TIME: Timestamp = Timestamp::from_ms(1_000_000_000_000);

/// The first digits of the ids of the two invites.
pub(crate) const INVITES: [&str; 2] = ["1111111111", "1211111111"];

pub(crate) fn answer(call: &str) -> (u16, String) {
    match call {
        "GET /v1/status" => (200, json(&status())),
        "GET /v1/peers" => {
            (200, json(&PeerList { peers: vec![view(alice(), true), view(bob(), false)], links: Vec::new() }))
        }
        "GET /v1/rendezvous" => (200, json(&rendezvous())),
        "POST /v1/invites" => (201, json(&NewInvite { invite: invite(0x11), ticket: TICKET.into() })),
        "GET /v1/invites" => (200, json(&InviteList { invites: vec![invite(0x11), invite(0x12)] })),
        "GET /v1/knocks" => (200, json(&KnockList { knocks: vec![knock()] })),
        "GET /v1/rooms" => (200, json(&RoomList { rooms: vec![nearby()] })),
        "POST /v1/join" => (200, json(&Joined { room: room() })),
        "GET /v1/members/@Bob" | "GET /v1/members/bob" => (200, json(&bob())),
        "GET /v1/members/dan" => problem(
            &Problem::new(ErrorCode::UnknownMember, "no member is called 'dan'")
                .with_hint("'chat peers' lists the members"),
        ),
        "PUT /v1/name"
        | "POST /v1/leave"
        | "POST /v1/knocks/3"
        | "POST /v1/members/bob/remove"
        | "PUT /v1/members/bob/role"
        | "DELETE /v1/invites/1211" => (204, String::new()),
        "DELETE /v1/invites/1" => problem(&Problem::new(ErrorCode::BadRequest, "'1' is not an invite")),
        _ => problem(&Problem::new(ErrorCode::NotFound, "no such call")),
    }
}

fn room() -> RoomRef {
    RoomRef { id: RoomId::from_bytes([7; 32]), name: "lab".into(), open: false }
}

fn status() -> Status {
    Status {
        rendezvous: Some(RendezvousRef { peer: bob(), term: Term(3) }),
        members: 2,
        members_online: 2,
        messages: 12,
        ..Status::alone(alice(), room())
    }
}

pub(crate) fn view(peer: PeerRef, me: bool) -> PeerView {
    PeerView {
        peer,
        me,
        online: true,
        path: PathView::Direct,
        rtt_ms: (!me).then_some(0.42),
        last_seen: Some(TIME),
        role: if me { RoleView::Standby } else { RoleView::Holder },
        rank: Some(if me { 2 } else { 1 }),
        member: MemberRole::Member,
        clock_off_ms: None,
        let_in_by: None,
        used: None,
        safety_words: None,
    }
}

fn rendezvous() -> RendezvousView {
    let ranked = |rank, peer, why: &str| RankedPeer {
        peer,
        rank,
        score: 0.9,
        reach: 1.0,
        inbound: Some(true),
        rtt_ms: Some(0.4),
        loss: 0.0,
        steady: 1.0,
        reports: 1,
        why: why.into(),
    };
    let change = HolderChange {
        term: Term(3),
        from: Some(alice()),
        to: bob(),
        at: TIME,
        reason: ChangeReason::Silent,
        gap_ms: 900,
    };
    RendezvousView {
        term: Term(3),
        holder: Some(bob()),
        since: Some(TIME),
        role: RoleView::Standby,
        ranking: vec![ranked(1, bob(), "lower rtt"), ranked(2, alice(), "last")],
        succession: 2,
        history: vec![change],
    }
}

/// An invite whose id begins with `first` and goes on with ones.
fn invite(first: u8) -> Invite {
    let mut id = [0x11; 32];
    id[0] = first;
    Invite {
        id: InviteId::from_bytes(id),
        by: alice(),
        created: TIME,
        expires: Timestamp::from_ms(4_000_000_000_000),
        uses: 10,
        used: 3,
        revoked: false,
    }
}

fn knock() -> Knock {
    let carol = peer(3, "car\x07ol");
    let words = "apple river stone".into();
    Knock { id: KnockId(3), peer: carol.id, tag: carol.tag, name: carol.name, words, since: TIME, removed: false }
}

fn nearby() -> NearbyRoom {
    let addrs = vec!["192.0.2.7:24283".parse().expect("an address")];
    NearbyRoom { room: room(), peer: bob().id, addrs }
}
