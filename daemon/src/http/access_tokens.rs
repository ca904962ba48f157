//! The tokens of callers over TCP: the home's own, and named ones, each with a scope.
//!
//! The home's own token, `default`, may make every call; its text is in the run directory for `chatd env`. Of a named token
//! only the hash is kept, so its secret is shown once, when it is made. A secret that was rotated or revoked is void at
//! once, and the event streams that were opened with it end ([`TokenGrant::revoked`]).
//!
//! Invariants: names are unique, at most [`TOKENS_MAX`]; a change is in its file before it takes effect, so an answer never
//! promises what a restart forgets. Callers are the guard in `auth`, once a request, and the handlers of `/v1/tokens`.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat_proto::api::tokens::{NewToken, TokenInfo, TokenRequest, TokenScope};
use chat_proto::text::{TextError, check_name};
use serde::{Deserialize, Serialize};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio_util::sync::CancellationToken;

use crate::clock::wall_clock;

/// Maximum number of tokens: every request is compared with all of them.
const TOKENS_MAX: usize = 64;

/// Name of the home's own token.
const OWN: &str = "default";

/// Random bytes in a generated token.
const TOKEN_BYTES: usize = 32;

/// The secret that a caller over TCP sends. Its `Debug` hides it.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token with this text; surrounding white space is ignored.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// A new random token of 256 bits.
    pub fn generate() -> Self {
        Self::new(&data_encoding::HEXLOWER.encode(&rand::random::<[u8; TOKEN_BYTES]>()))
    }

    /// The text, for the file and for `chatd env`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it is recognised by.
    fn hash(&self) -> blake3::Hash {
        blake3::hash(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A named token as it is kept on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredToken {
    /// The token.
    #[serde(flatten)]
    pub info: TokenInfo,
    /// BLAKE3 of its secret, in hexadecimal digits. A secret has 256 random bits, so the hash reveals nothing.
    pub hash: String,
}

/// Keeps tokens across starts.
pub trait TokenFiles: Send + Sync + 'static {
    /// Replaces the named tokens.
    ///
    /// # Errors
    /// The file is as before.
    fn save_named(&self, tokens: &[StoredToken]) -> io::Result<()>;

    /// Replaces the home's own token.
    ///
    /// # Errors
    /// The file is as before.
    fn save_own(&self, token: &Token) -> io::Result<()>;
}

/// Why the tokens were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("no token is called '{0}'")]
    Unknown(String),
    #[error("a token is called '{0}' already")]
    Taken(String),
    #[error("the token '{OWN}' cannot be revoked")]
    Own,
    #[error("there are {TOKENS_MAX} tokens, the maximum")]
    TooMany,
    #[error(transparent)]
    Name(#[from] TextError),
    #[error("the tokens cannot be written")]
    File(#[from] io::Error),
}

/// What a secret permits.
#[derive(Clone, Debug)]
pub(crate) struct TokenGrant {
    /// Name of the token.
    pub(crate) name: String,
    /// What it may be used for.
    pub(crate) scope: TokenScope,
    /// Cancelled when the secret becomes void.
    pub(crate) revoked: CancellationToken,
}

/// A token in use.
#[derive(Clone, Debug)]
struct AccessToken {
    info: TokenInfo,
    hash: blake3::Hash,
    revoked: CancellationToken,
}

/// Every token of the API.
pub struct AccessTokens {
    files: Box<dyn TokenFiles>,
    /// The home's own first.
    tokens: Mutex<Vec<AccessToken>>,
}

impl AccessTokens {
    /// The home's own token, and the named ones as they were kept; one whose hash cannot be read is left out.
    pub fn new(own: &Token, named: Vec<StoredToken>, files: Box<dyn TokenFiles>) -> Self {
        let info = TokenInfo { name: OWN.to_owned(), scope: TokenScope::Admin, created: None };
        let mut tokens = vec![AccessToken { info, hash: own.hash(), revoked: CancellationToken::new() }];
        tokens.extend(named.into_iter().take(TOKENS_MAX - 1).filter_map(|StoredToken { info, hash }| {
            let hash = blake3::Hash::from_hex(hash).ok()?;
            Some(AccessToken { info, hash, revoked: CancellationToken::new() })
        }));
        Self { files, tokens: Mutex::new(tokens) }
    }

    /// What a secret permits; takes the same time whichever token it is. An empty secret permits nothing.
    pub(crate) fn grant(&self, secret: &[u8]) -> Option<TokenGrant> {
        let shown = blake3::hash(secret);
        let tokens = self.lock();
        let mut found = u32::MAX;
        for (at, token) in (0..).zip(tokens.iter()) {
            found.conditional_assign(&at, token.hash.as_bytes().ct_eq(shown.as_bytes()));
        }
        let token = tokens.get(usize::try_from(found).ok()?).filter(|_| !secret.is_empty())?;
        Some(TokenGrant { name: token.info.name.clone(), scope: token.info.scope, revoked: token.revoked.clone() })
    }

    /// Every token, the home's own first.
    pub(crate) fn list(&self) -> Vec<TokenInfo> {
        self.lock().iter().map(|token| token.info.clone()).collect()
    }

    /// Makes a token. Blocks on the disk, as all changes do.
    pub(crate) fn create(&self, request: TokenRequest) -> Result<NewToken, TokenError> {
        check_name("token's name", &request.name)?;
        let mut tokens = self.lock();
        if tokens.iter().any(|token| token.info.name == request.name) {
            return Err(TokenError::Taken(request.name));
        }
        if tokens.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let TokenRequest { name, scope } = request;
        let (token, secret) = fresh(name, scope);
        let mut changed = tokens.clone();
        changed.push(token.clone());
        self.save(&changed)?;
        *tokens = changed;
        Ok(NewToken { token: token.info, secret: secret.as_str().to_owned() })
    }

    /// Gives a token a new secret; the old one is void.
    pub(crate) fn rotate(&self, name: &str) -> Result<NewToken, TokenError> {
        let mut tokens = self.lock();
        let at = position(&tokens, name)?;
        let (token, secret) = fresh(name.to_owned(), tokens[at].info.scope);
        let mut changed = tokens.clone();
        let before = std::mem::replace(&mut changed[at], token.clone());
        if at == 0 {
            self.files.save_own(&secret)?
        } else {
            self.save(&changed)?
        }
        *tokens = changed;
        before.revoked.cancel();
        Ok(NewToken { token: token.info, secret: secret.as_str().to_owned() })
    }

    /// Revokes a named token.
    pub(crate) fn revoke(&self, name: &str) -> Result<(), TokenError> {
        let mut tokens = self.lock();
        let at = position(&tokens, name)?;
        if at == 0 {
            return Err(TokenError::Own);
        }
        let mut changed = tokens.clone();
        let before = changed.remove(at);
        self.save(&changed)?;
        *tokens = changed;
        before.revoked.cancel();
        Ok(())
    }

    fn save(&self, tokens: &[AccessToken]) -> io::Result<()> {
        let named = tokens.iter().skip(1);
        let stored = named.map(|token| StoredToken { info: token.info.clone(), hash: token.hash.to_hex().to_string() });
        self.files.save_named(&stored.collect::<Vec<_>>())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<AccessToken>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").field("tokens", &self.list()).finish_non_exhaustive()
    }
}

fn position(tokens: &[AccessToken], name: &str) -> Result<usize, TokenError> {
    tokens.iter().position(|token| token.info.name == name).ok_or_else(|| TokenError::Unknown(name.to_owned()))
}

fn fresh(name: String, scope: TokenScope) -> (AccessToken, Token) {
    let secret = Token::generate();
    let created = (name != OWN).then(wall_clock);
    let info = TokenInfo { name, scope, created };
    (AccessToken { info, hash: secret.hash(), revoked: CancellationToken::new() }, secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::test_api::NoTokenFiles;

    fn tokens(own: &str) -> AccessTokens {
        AccessTokens::new(&Token::new(own), Vec::new(), Box::new(NoTokenFiles))
    }

    #[test]
    fn token_matches_only_itself() {
        let known = tokens(" secret\n");
        assert!(known.grant(b"secret").is_some());
        for wrong in ["", "Secret", "secret ", "secre", "secrets"] {
            assert!(known.grant(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
        assert!(tokens("").grant(b"").is_none(), "an empty token matches nothing");
        assert!(!format!("{:?} {known:?}", Token::new("secret")).contains("secret"));
        assert_ne!(Token::generate().as_str(), Token::generate().as_str());
        assert_eq!(Token::generate().as_str().len(), 2 * TOKEN_BYTES);
    }
}
