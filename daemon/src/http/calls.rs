//! The table of calls: what the check of query parameters and the OpenAPI document follow.

use chat_proto::error::ErrorCode;

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum HttpMethod {
    Get,
    Post,
    Put,
    Delete,
}

impl HttpMethod {
    /// As a request has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterIn {
    Path,
    Query,
    Header,
}

/// What a parameter can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParameterShape {
    /// Any text that is not empty.
    Text,
    /// A number, with its least and greatest value.
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

/// The JSON body a call takes, by its schema's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBody {
    Nothing,
    Body(&'static str),
    BodyOrNothing(&'static str),
}

/// What an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseBody {
    Nothing,
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of any form.
    AnyJson,
    /// Text of this media type.
    Text(&'static str),
    /// Events, as SSE or as lines.
    Events,
}

/// An answer that is a success.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuccessResponse {
    pub(crate) status: u16,
    pub(crate) holds: ResponseBody,
    pub(crate) about: &'static str,
}

/// A call of the API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiCall {
    pub(crate) verb: HttpMethod,
    pub(crate) path: &'static str,
    pub(crate) about: &'static str,
    pub(crate) parameters: &'static [Parameter],
    pub(crate) takes: RequestBody,
    pub(crate) answers: &'static [SuccessResponse],
    /// Codes of its own, beside those that every call may answer with.
    pub(crate) codes: &'static [ErrorCode],
}

impl ApiCall {
    /// The entry of a call. `GET` answers `HEAD`, too.
    pub(crate) fn find(method: &str, path: &str) -> Option<&'static Self> {
        let method = if method == "HEAD" { "GET" } else { method };
        CALLS.iter().find(|call| call.verb.as_str() == method && call.path == path)
    }

    /// Names of the query parameters it takes.
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

const fn json(status: u16, schema: &'static str, about: &'static str) -> SuccessResponse {
    SuccessResponse { status, holds: ResponseBody::Json(schema), about }
}

const fn nothing(status: u16, about: &'static str) -> SuccessResponse {
    SuccessResponse { status, holds: ResponseBody::Nothing, about }
}

const fn get(path: &'static str, answers: &'static [SuccessResponse], about: &'static str) -> ApiCall {
    ApiCall { verb: HttpMethod::Get, path, about, parameters: &[], takes: RequestBody::Nothing, answers, codes: &[] }
}

const fn post(
    path: &'static str,
    takes: RequestBody,
    answers: &'static [SuccessResponse],
    about: &'static str,
) -> ApiCall {
    ApiCall { verb: HttpMethod::Post, path, about, parameters: &[], takes, answers, codes: &[] }
}

/// Every call.
pub(crate) const CALLS: &[ApiCall] = &[
    get(
        "/healthz",
        &[SuccessResponse {
            status: 200,
            holds: ResponseBody::Text("text/plain; charset=utf-8"),
            about: "The daemon answers.",
        }],
        "Whether the daemon answers. Needs no token.",
    ),
    get(
        "/metrics",
        &[SuccessResponse {
            status: 200,
            holds: ResponseBody::Text(crate::http::handlers::metrics::MEDIA_TYPE),
            about: "The figures.",
        }],
        "Figures in the text format of Prometheus.",
    ),
    get(
        "/v1/openapi.json",
        &[SuccessResponse { status: 200, holds: ResponseBody::AnyJson, about: "This document." }],
        "This description of the API, OpenAPI 3.1.",
    ),
    get("/v1/status", &[json(200, "Status", "How it stands.")], "How the daemon, its peer and its room stand."),
    get("/v1/peers", &[json(200, "PeerList", "Every member.")], "Every member of the room and how it is reached."),
    get(
        "/v1/rendezvous",
        &[json(200, "Rendezvous", "The role.")],
        "Who holds the rendezvous role, who would follow, and why.",
    ),
    ApiCall {
        parameters: &[header(
            "Idempotency-Key",
            "1 to 255 printable ASCII characters: a repeated request with the same key, text and recipients posts once",
        )],
        codes: &[ErrorCode::UnknownMember, ErrorCode::NoKeys, ErrorCode::KeyReused, ErrorCode::DiskFull],
        ..post(
            "/v1/messages",
            RequestBody::Body("SendRequest"),
            &[
                json(
                    200,
                    "SentMessage",
                    "A request with the same key posted it before, and what was waited for has come.",
                ),
                json(201, "SentMessage", "Posted, and what was waited for has come."),
                json(202, "SentMessage", "Posted; the wait ran out. The message is kept and still travels."),
            ],
            "Says something to the room, or to some of its members.",
        )
    },
    ApiCall {
        parameters: &[
            query("before", ParameterShape::Text, "Only what stands before this message id or time"),
            query("after", ParameterShape::Text, "Only what stands after this message id or time"),
            query("limit", ParameterShape::Number(1, 1000), "At most so many; 100 where nothing is said"),
            query("from", ParameterShape::Text, "Only by this author: name, tag or key"),
            query("with", ParameterShape::Text, "Only direct messages exchanged with this member: name, tag or key"),
            query("q", ParameterShape::Text, "Only messages with these words"),
        ],
        codes: &[ErrorCode::UnknownMember],
        ..get(
            "/v1/messages",
            &[json(200, "MessagePage", "A page, oldest first.")],
            "History in the order that is the same at every peer: the last page, or with `after` the first.",
        )
    },
    ApiCall {
        parameters: &[segment("The message's id")],
        ..get("/v1/messages/{id}", &[json(200, "SentMessage", "The message.")], "A message and who holds it.")
    },
    ApiCall {
        parameters: &[
            query(
                "since",
                ParameterShape::Text,
                "Begin behind this cursor, at this time, so long ago (`10m`), or with `all`",
            ),
            query("type", ParameterShape::Text, "Only these types, separated by commas"),
            query("from", ParameterShape::Text, "Only events about this member: name, tag or key"),
            header("Last-Event-ID", "The cursor to go on from; wins over `since`"),
        ],
        codes: &[ErrorCode::UnknownMember],
        ..get(
            "/v1/events",
            &[SuccessResponse {
                status: 200,
                holds: ResponseBody::Events,
                about: "Events without end, from now on unless said otherwise.",
            }],
            "What happens: as server-sent events, or with `Accept: application/x-ndjson` as lines of JSON.",
        )
    },
    ApiCall {
        codes: &[ErrorCode::DiskFull],
        ..post(
            "/v1/invites",
            RequestBody::BodyOrNothing("InviteRequest"),
            &[json(201, "NewInvite", "The invite and its ticket, which is shown this once.")],
            "Writes an invite.",
        )
    },
    get("/v1/invites", &[json(200, "InviteList", "The invites, newest first.")], "The invites of the room."),
    ApiCall {
        verb: HttpMethod::Delete,
        parameters: &[segment("The invite's id, or the beginning of it")],
        ..get("/v1/invites/{id}", &[nothing(204, "Revoked.")], "Ends an invite.")
    },
    get("/v1/knocks", &[json(200, "KnockList", "The knocks, oldest first.")], "Strangers that wait to be let in."),
    ApiCall {
        parameters: &[segment("The knock's number")],
        ..post(
            "/v1/knocks/{id}",
            RequestBody::Body("KnockAnswer"),
            &[nothing(204, "Answered.")],
            "Lets a stranger in, or not.",
        )
    },
    ApiCall {
        parameters: &[segment("The member: name, tag or key")],
        codes: &[ErrorCode::UnknownMember],
        ..post("/v1/members/{id}/remove", RequestBody::Nothing, &[nothing(204, "Removed.")], "Removes a member.")
    },
    ApiCall {
        verb: HttpMethod::Put,
        parameters: &[segment("The member: name, tag or key")],
        takes: RequestBody::Body("RoleRequest"),
        codes: &[ErrorCode::UnknownMember],
        ..get("/v1/members/{id}/role", &[nothing(204, "Said.")], "Makes a member an admin, or no longer one.")
    },
    ApiCall {
        verb: HttpMethod::Put,
        takes: RequestBody::Body("NameRequest"),
        ..get("/v1/name", &[nothing(204, "Renamed.")], "RequestBody another name.")
    },
    ApiCall {
        codes: &[ErrorCode::BadTicket, ErrorCode::Unreachable, ErrorCode::Denied, ErrorCode::AlreadyInRoom],
        ..post(
            "/v1/join",
            RequestBody::Body("JoinRequest"),
            &[json(200, "Joined", "Let in; the history follows.")],
            "Moves a daemon that is alone in its room to another room.",
        )
    },
    post("/v1/leave", RequestBody::Nothing, &[nothing(204, "Left.")], "Leaves the room for good."),
    get("/v1/rooms", &[json(200, "RoomList", "The rooms, by name.")], "Rooms seen on the local network."),
    post(
        "/v1/shutdown",
        RequestBody::Nothing,
        &[nothing(202, "The daemon is ending.")],
        "Ends the daemon in an orderly way.",
    ),
];
