//! `/v1/tokens`: secrets for callers over TCP, each with a scope.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::NAME_CHARS_MAX;
use crate::time::Timestamp;

/// What a token may be used for. Each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Reads: status, members, history, events, metrics.
    Read,
    /// Sends messages, too.
    Send,
    /// Answers knocks, too: what the page in the browser may do.
    Admit,
    /// Makes every call: invites, admission, removal, roles, tokens, shutdown.
    Admin,
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Send => "send",
            Self::Admit => "admit",
            Self::Admin => "admin",
        })
    }
}

/// The text is not a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a scope: expected read, send, admit or admin")]
pub struct ParseScopeError(String);

impl FromStr for TokenScope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let found =
            [Self::Read, Self::Send, Self::Admit, Self::Admin].into_iter().find(|scope| scope.to_string() == text);
        found.ok_or_else(|| ParseScopeError(text.to_owned()))
    }
}

/// Body of `POST /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Its name, which no other token has: letters, digits, `-`, `_` and `.`.
    #[schemars(length(min = 1, max = NAME_CHARS_MAX))]
    pub name: String,
    /// What it may be used for.
    pub scope: TokenScope,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenInfo {
    /// Its name; `default` is the one that `chatd env` prints.
    pub name: String,
    /// What it may be used for.
    pub scope: TokenScope,
    /// When its secret was made; null for `default`.
    pub created: Option<Timestamp>,
    /// When it ends; only sessions of the page in the browser do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// Answer of `POST /v1/tokens` and `POST /v1/tokens/{id}/rotate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// The token.
    pub token: TokenInfo,
    /// What a caller sends as `Authorization: Bearer SECRET`; shown once.
    pub secret: String,
}

/// Answer of `GET /v1/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenList {
    /// Every token: `default` first, then in the order in which they were made.
    pub tokens: Vec<TokenInfo>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_round_trips_and_includes_those_before_it() {
        for scope in [TokenScope::Read, TokenScope::Send, TokenScope::Admit, TokenScope::Admin] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        assert!("root".parse::<TokenScope>().is_err());
        assert!(
            TokenScope::Admin > TokenScope::Admit
                && TokenScope::Admit > TokenScope::Send
                && TokenScope::Send > TokenScope::Read
        );
    }
}
