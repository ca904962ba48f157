//! `GET` and `PUT /v1/readers/{name}`: where a client left off reading.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::MessageId;

/// Maximum number of readers whose marks are kept; the one that was set longest ago is forgotten first.
pub const READERS_KEPT_MAX: usize = 64;

/// Answer of `GET /v1/readers/{name}`, body of `PUT`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadMark {
    /// The last message that was read; absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
}
