//! The table of calls: method, path, parameters, bodies and error codes of each call of the API.
//!
//! The table has two readers. The check before the handlers rejects query parameters that the call does not have
//! ([`ApiCall::find`]), and the OpenAPI document is built from it. The bodies are given as types: their schemas are
//! derived, so a schema cannot differ from the type that a handler reads or writes. A test asks every call of the table
//! for real and validates the answers; another one compares the table with the routes.
//!
//! To add a call: write the handler, add its route in `routes.rs`, and add its entry here.

pub(crate) mod openapi;

#[cfg(test)]
use std::borrow::Cow;

use chat_proto::api::invites::{InviteList, InviteRequest, NewInvite};
use chat_proto::api::members::{JoinRequest, Joined, KnockAnswer, KnockList, MemberRoleRequest, NameRequest, RoomList};
use chat_proto::api::messages::{MessagePage, SEND_LINE_MAX, SendRequest, SentLine, SentMessage};
use chat_proto::api::peers::{PeerList, PeerRef};
use chat_proto::api::readers::ReadMark;
use chat_proto::api::rendezvous::RendezvousView;
use chat_proto::api::status::Status;
use chat_proto::api::tokens::{NewToken, TokenList, TokenRequest, TokenScope};
use chat_proto::api::web::{WebLink, WebSession, WebSessionRequest};
use chat_proto::error::ErrorCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HttpMethod {
    Get,
    Post,
    Put,
    Delete,
}

impl HttpMethod {
    /// The name in a request.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a request carries a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterIn {
    Path,
    Query,
    Header,
}

/// Values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterShape {
    /// Any text that is not empty.
    Text,
    /// A number, with its minimum and maximum.
    Number(u32, u32),
}

/// A parameter of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) place: ParameterIn,
    pub(crate) shape: ParameterShape,
    pub(crate) about: &'static str,
}

/// A type of a JSON body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyType {
    /// Name of its schema, by which tests look it up.
    #[cfg(test)]
    pub(crate) name: fn() -> Cow<'static, str>,
    /// A reference to its schema, which is added to the generator's definitions.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

impl BodyType {
    pub(crate) const fn of<T: JsonSchema>() -> Self {
        Self {
            #[cfg(test)]
            name: T::schema_name,
            schema: SchemaGenerator::subschema_for::<T>,
        }
    }
}

/// The JSON body of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestBody {
    Nothing,
    Required(BodyType),
    /// Or several of them, one a line, as `application/x-ndjson`.
    RequiredOrLines(BodyType),
    Optional(BodyType),
}

/// The body of a success.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResponseBody {
    Nothing,
    /// JSON of this type.
    Json(BodyType),
    /// The same; where the request has several lines, a line of the second type for each.
    JsonOrLines(BodyType, BodyType),
    /// JSON of any form.
    AnyJson,
    /// Text of this media type.
    Text(&'static str),
    /// Events, as SSE or as lines.
    Events,
}

/// A success that a call may answer with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuccessResponse {
    pub(crate) status: u16,
    pub(crate) body: ResponseBody,
    pub(crate) about: &'static str,
}

/// What a caller over TCP must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallAccess {
    /// Nothing.
    Open,
    /// That it is the daemon's own page; the call has its own secret.
    OwnPage,
    /// A token or a session of this scope.
    Scope(TokenScope),
}

/// A call of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiCall {
    pub(crate) method: HttpMethod,
    pub(crate) path: &'static str,
    pub(crate) about: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) request: RequestBody,
    pub(crate) answers: &'static [SuccessResponse],
    /// Error codes of this call, in addition to those of every call.
    pub(crate) codes: &'static [ErrorCode],
}

impl ApiCall {
    /// The entry of a call. `HEAD` has the entry of `GET`.
    pub(crate) fn find(method: &str, path: &str) -> Option<&'static Self> {
        let method = if method == "HEAD" { "GET" } else { method };
        CALLS.iter().find(|call| call.method.as_str() == method && call.path == path)
    }

    /// What a caller over TCP must show for it.
    pub(crate) fn access(&self) -> CallAccess {
        CallAccess::Scope(match (self.method, self.path) {
            (HttpMethod::Get, "/healthz") => return CallAccess::Open,
            (HttpMethod::Post, "/v1/web/sessions") => return CallAccess::OwnPage,
            (HttpMethod::Get, "/v1/tokens") => TokenScope::Admin,
            (HttpMethod::Get, _) | (HttpMethod::Delete, "/v1/web/sessions") => TokenScope::Read,
            // Who may write may also choose to whom, and note how far it has read.
            (HttpMethod::Post, "/v1/messages" | "/v1/members/{id}/trust") | (HttpMethod::Put, "/v1/readers/{id}") => {
                TokenScope::Send
            }
            (HttpMethod::Post, "/v1/knocks/{id}") => TokenScope::Admit,
            (HttpMethod::Post | HttpMethod::Put | HttpMethod::Delete, _) => TokenScope::Admin,
        })
    }

    /// Names of its query parameters.
    pub(crate) fn query(&self) -> Vec<&'static str> {
        self.parameters.iter().filter(|p| p.place == ParameterIn::Query).map(|p| p.name).collect()
    }
}

const fn query(name: &'static str, shape: ParameterShape, about: &'static str) -> Parameter {
    Parameter { name, place: ParameterIn::Query, shape, about }
}

const fn header(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: ParameterIn::Header, shape: ParameterShape::Text, about }
}

const fn segment(about: &'static str) -> Parameter {
    Parameter { name: "id", place: ParameterIn::Path, shape: ParameterShape::Text, about }
}

const fn body<T: JsonSchema>() -> RequestBody {
    RequestBody::Required(BodyType::of::<T>())
}

const fn json<T: JsonSchema>(status: u16, about: &'static str) -> SuccessResponse {
    SuccessResponse { status, body: ResponseBody::Json(BodyType::of::<T>()), about }
}

const fn nothing(status: u16, about: &'static str) -> SuccessResponse {
    SuccessResponse { status, body: ResponseBody::Nothing, about }
}

const fn get(path: &'static str, answers: &'static [SuccessResponse], about: &'static str) -> ApiCall {
    let (method, request) = (HttpMethod::Get, RequestBody::Nothing);
    ApiCall { method, path, about, parameters: &[], request, answers, codes: &[] }
}

const fn post(
    path: &'static str,
    request: RequestBody,
    answers: &'static [SuccessResponse],
    about: &'static str,
) -> ApiCall {
    ApiCall { method: HttpMethod::Post, path, about, parameters: &[], request, answers, codes: &[] }
}

/// Every call.
pub(crate) const CALLS: &[ApiCall] = &[
    get(
        "/healthz",
        &[SuccessResponse {
            status: 200,
            body: ResponseBody::Text("text/plain; charset=utf-8"),
            about: "The daemon runs.",
        }],
        "Liveness check. Needs no token.",
    ),
    get(
        "/metrics",
        &[SuccessResponse {
            status: 200,
            body: ResponseBody::Text(crate::http::handlers::metrics::MEDIA_TYPE),
            about: "The metrics.",
        }],
        "Metrics in the text format of Prometheus.",
    ),
    get(
        "/v1/openapi.json",
        &[SuccessResponse { status: 200, body: ResponseBody::AnyJson, about: "This document." }],
        "This description of the API, OpenAPI 3.1.",
    ),
    get("/v1/status", &[json::<Status>(200, "The state.")], "State of the daemon, its peer and its room."),
    get("/v1/peers", &[json::<PeerList>(200, "Every member.")], "Every member of the room and its connection."),
    get(
        "/v1/rendezvous",
        &[json::<RendezvousView>(200, "The role.")],
        "The holder of the rendezvous role, its successors, and the figures that rank them.",
    ),
    ApiCall {
        parameters: &[
            header(
                "Idempotency-Key",
                "1 to 255 printable ASCII characters. Requests with the same key, text, recipients and reply_to post the message once",
            ),
            query(
                "line",
                ParameterShape::Number(1, SEND_LINE_MAX),
                "Number of the first of several lines, to resume at the first that was not answered; default 1",
            ),
        ],
        codes: &[
            ErrorCode::Empty,
            ErrorCode::NotFound,
            ErrorCode::UnknownMember,
            ErrorCode::NameMoved,
            ErrorCode::NoKeys,
            ErrorCode::KeyReused,
            ErrorCode::DiskFull,
            ErrorCode::OutcomeUnknown,
        ],
        ..post(
            "/v1/messages",
            RequestBody::RequiredOrLines(BodyType::of::<SendRequest>()),
            &[
                SuccessResponse {
                    status: 200,
                    body: ResponseBody::JsonOrLines(BodyType::of::<SentMessage>(), BodyType::of::<SentLine>()),
                    about: "An earlier request with the same key posted the message; the wait is complete. To lines: their \
                        answers, in their order, each as soon as it is known.",
                },
                json::<SentMessage>(201, "Posted; the wait is complete."),
                json::<SentMessage>(
                    202,
                    "Posted; the wait timed out. The message is stored and still being delivered.",
                ),
            ],
            "Sends a message to the room, or to some of its members; as `application/x-ndjson`, any number of messages, one a \
             line, in order. With an `Idempotency-Key`, line *n* has the key `KEY/n`.",
        )
    },
    ApiCall {
        parameters: &[
            query("before", ParameterShape::Text, "Only messages before this message id or time"),
            query("after", ParameterShape::Text, "Only messages after this message id or time"),
            query("limit", ParameterShape::Number(1, 1000), "Maximum number of messages; default 100"),
            query("from", ParameterShape::Text, "Only messages of this author: name, tag or key"),
            query("with", ParameterShape::Text, "Only direct messages exchanged with this member: name, tag or key"),
            query("q", ParameterShape::Text, "Only messages that contain these words"),
        ],
        codes: &[ErrorCode::UnknownMember],
        ..get(
            "/v1/messages",
            &[json::<MessagePage>(200, "A page of messages, oldest first.")],
            "History, in the order that is the same at every peer: the last page, or with `after` the first.",
        )
    },
    ApiCall {
        parameters: &[segment("The message's id")],
        ..get(
            "/v1/messages/{id}",
            &[json::<SentMessage>(200, "The message.")],
            "A message and the peers that store it.",
        )
    },
    ApiCall {
        parameters: &[
            query(
                "since",
                ParameterShape::Text,
                "Start behind this cursor, at this time, this long ago (`10m`), or at the first stored event (`all`)",
            ),
            query("type", ParameterShape::Text, "Only events of these types, separated by commas"),
            query("from", ParameterShape::Text, "Only events about this member: name, tag or key"),
            header("Last-Event-ID", "The cursor to resume from; overrides `since`"),
        ],
        codes: &[ErrorCode::UnknownMember],
        ..get(
            "/v1/events",
            &[SuccessResponse {
                status: 200,
                body: ResponseBody::Events,
                about: "Events; the stream does not end. Starts now unless `since` or `Last-Event-ID` is given.",
            }],
            "Events, as server-sent events, or with `Accept: application/x-ndjson` as lines of JSON.",
        )
    },
    ApiCall {
        codes: &[ErrorCode::DiskFull],
        ..post(
            "/v1/invites",
            RequestBody::Optional(BodyType::of::<InviteRequest>()),
            &[json::<NewInvite>(201, "The invite and its ticket, which is shown only once.")],
            "Creates an invite.",
        )
    },
    get("/v1/invites", &[json::<InviteList>(200, "The invites, newest first.")], "The invites to the room."),
    ApiCall {
        method: HttpMethod::Delete,
        parameters: &[segment("The invite's id, or its first digits")],
        ..get("/v1/invites/{id}", &[nothing(204, "Revoked.")], "Revokes an invite.")
    },
    get("/v1/knocks", &[json::<KnockList>(200, "The knocks, oldest first.")], "Peers that ask to be admitted."),
    ApiCall {
        parameters: &[segment("The knock's number")],
        ..post("/v1/knocks/{id}", body::<KnockAnswer>(), &[nothing(204, "Answered.")], "Admits or denies a peer.")
    },
    ApiCall {
        parameters: &[segment("The member: name, tag or key")],
        codes: &[ErrorCode::UnknownMember],
        ..get(
            "/v1/members/{id}",
            &[json::<PeerRef>(200, "The member.")],
            "The member or former member that a name, tag or key means.",
        )
    },
    ApiCall {
        parameters: &[segment("The member: name, tag or key")],
        codes: &[ErrorCode::UnknownMember, ErrorCode::LeaveInstead],
        ..post(
            "/v1/members/{id}/remove",
            RequestBody::Nothing,
            &[nothing(204, "Removed.")],
            "Removes a member from the room.",
        )
    },
    ApiCall {
        method: HttpMethod::Put,
        parameters: &[segment("The member: name, tag or key")],
        request: body::<MemberRoleRequest>(),
        codes: &[ErrorCode::UnknownMember, ErrorCode::LastAdmin],
        ..get("/v1/members/{id}/role", &[nothing(204, "Changed.")], "Grants or revokes a member's admin rights.")
    },
    ApiCall {
        parameters: &[segment("The member: name, tag or key")],
        codes: &[ErrorCode::UnknownMember, ErrorCode::DiskFull],
        ..post(
            "/v1/members/{id}/trust",
            RequestBody::Nothing,
            &[json::<PeerRef>(200, "The member that is written to under its name from now on.")],
            "Accepts the member that bears a name now, where the name has moved to it from another member.",
        )
    },
    ApiCall {
        method: HttpMethod::Put,
        request: body::<NameRequest>(),
        codes: &[ErrorCode::Empty],
        ..get("/v1/name", &[nothing(204, "Renamed.")], "Changes this peer's name.")
    },
    ApiCall {
        parameters: &[segment("The reader: 1 to 32 letters, digits, '-', '_', '.'")],
        ..get("/v1/readers/{id}", &[json::<ReadMark>(200, "The mark.")], "Where a client left off reading.")
    },
    ApiCall {
        method: HttpMethod::Put,
        parameters: &[segment("The reader: 1 to 32 letters, digits, '-', '_', '.'")],
        request: body::<ReadMark>(),
        codes: &[ErrorCode::DiskFull],
        ..get("/v1/readers/{id}", &[nothing(204, "Kept.")], "Notes where a client left off reading.")
    },
    ApiCall {
        codes: &[
            ErrorCode::Empty,
            ErrorCode::BadTicket,
            ErrorCode::Unreachable,
            ErrorCode::Denied,
            ErrorCode::AlreadyInRoom,
        ],
        ..post(
            "/v1/join",
            body::<JoinRequest>(),
            &[json::<Joined>(200, "Admitted; the history is being fetched.")],
            "Moves a daemon that is alone in its room to another room.",
        )
    },
    ApiCall {
        parameters: &[query("force", ParameterShape::Text, "`true`: leave although members remain without an admin")],
        codes: &[ErrorCode::LastAdmin],
        ..post("/v1/leave", RequestBody::Nothing, &[nothing(204, "Left.")], "Leaves the room for good.")
    },
    ApiCall {
        codes: &[ErrorCode::Empty, ErrorCode::DiskFull],
        ..post(
            "/v1/tokens",
            body::<TokenRequest>(),
            &[json::<NewToken>(201, "The token and its secret, which is shown only once.")],
            "Makes a token for callers over TCP.",
        )
    },
    get("/v1/tokens", &[json::<TokenList>(200, "The tokens.")], "The tokens of callers over TCP."),
    ApiCall {
        parameters: &[segment("The token's name")],
        codes: &[ErrorCode::DiskFull],
        ..post(
            "/v1/tokens/{id}/rotate",
            RequestBody::Nothing,
            &[json::<NewToken>(200, "The token and its new secret, which is shown only once.")],
            "Gives a token a new secret. The old one is void, and event streams opened with it end.",
        )
    },
    ApiCall {
        method: HttpMethod::Delete,
        parameters: &[segment("The token's name")],
        codes: &[ErrorCode::DiskFull],
        ..get("/v1/tokens/{id}", &[nothing(204, "Revoked.")], "Revokes a token. Event streams opened with it end.")
    },
    ApiCall {
        codes: &[ErrorCode::NoTcp],
        ..post(
            "/v1/web/links",
            RequestBody::Nothing,
            &[json::<WebLink>(201, "The link, which is valid once and for a minute.")],
            "Makes a link to the page in the browser.",
        )
    },
    ApiCall {
        codes: &[ErrorCode::NoTcp, ErrorCode::DiskFull],
        ..post(
            "/v1/web/sessions",
            body::<WebSessionRequest>(),
            &[json::<WebSession>(201, "The session; its other half is the cookie.")],
            "Exchanges the one-time code of a link for a session. Over TCP only the daemon's own page can call it.",
        )
    },
    ApiCall {
        method: HttpMethod::Delete,
        codes: &[ErrorCode::NoTcp, ErrorCode::DiskFull],
        ..get("/v1/web/sessions", &[nothing(204, "Ended.")], "Ends the session of the page that calls.")
    },
    get("/v1/rooms", &[json::<RoomList>(200, "The rooms, by name.")], "Rooms found on the local network."),
    post(
        "/v1/shutdown",
        RequestBody::Nothing,
        &[nothing(202, "The daemon is shutting down.")],
        "Shuts the daemon down.",
    ),
];
