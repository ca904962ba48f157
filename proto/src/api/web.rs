//! `POST /v1/web/links`, `POST` and `DELETE /v1/web/sessions`: the page in the browser.
//!
//! `chat web` asks for a link, whose one-time code the page exchanges for a session. A session is a token in two halves: a
//! cookie that no script can read, and a key that only the page's own origin can read and that is sent as
//! [`PAGE_KEY_HEADER`]. Neither half permits anything without the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Header in which the page sends the key of its session.
pub const PAGE_KEY_HEADER: &str = "chat-page-key";

/// Answer of `POST /v1/web/links`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebLink {
    /// Address of the page with a one-time code behind `#`, where no server and no log sees it. A secret: the browser that opens
    /// it first reads and writes the room.
    pub url: String,
    /// When the code expires.
    pub expires: Timestamp,
}

/// Body of `POST /v1/web/sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSessionRequest {
    /// The one-time code of the link.
    #[schemars(length(min = 1))]
    pub code: String,
}

/// Answer of `POST /v1/web/sessions`; the other half of the session is in the cookie that comes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebSession {
    /// Name of the session among the tokens: `chatd token revoke NAME` ends it.
    pub name: String,
    /// What the page sends in the header `chat-page-key` with every call.
    pub key: String,
    /// When the session ends by itself.
    pub expires: Timestamp,
}
