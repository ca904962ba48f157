//! The tokens of callers over TCP: the home's own, named ones, each with a scope, and the sessions of the page in the browser.
//!
//! The home's own token, `default`, may make every call; its text is in the run directory for `chatd env`. Of a named token
//! only the hash is kept, so its secret is shown once, when it is made. A secret that was rotated or revoked is void at
//! once, and the event streams that were opened with it end ([`TokenGrant::revoked`]).
//!
//! A session is a named token that expires. Its secret is in two halves ([`PageSecret`]), and it is kept across restarts of
//! the daemon, so that a page that is open goes on.
//!
//! Invariants: names are unique, at most [`TOKENS_MAX`]; a change is in its file before it takes effect, so an answer never
//! promises what a restart forgets. Callers are the guard in `auth`, once a request, and the handlers of `/v1/tokens`.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_proto::api::tokens::{NewToken, TokenInfo, TokenRequest, TokenScope};
use chat_proto::text::{TextError, check_name};
use chat_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use subtle::{ConditionallySelectable, ConstantTimeEq};
use tokio_util::sync::CancellationToken;

use crate::clock::wall_clock;

pub(crate) mod web_links;

/// Maximum number of tokens: every request is compared with all of them.
const TOKENS_MAX: usize = 64;

/// Maximum number of sessions of the page; a further one ends the oldest.
const SESSIONS_MAX: usize = 8;

/// How long a session of the page lasts.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);

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

/// The secret of a session in two halves. A cookie is sent to every port of the machine, so another server there could
/// collect it; the key is stored by the browser for this port alone, but scripts can read it. Neither is enough.
#[derive(Clone, Debug)]
pub(crate) struct PageSecret {
    /// The half in the cookie, which no script can read.
    pub(crate) cookie: Token,
    /// The half that the page sends in a header.
    pub(crate) key: Token,
}

impl PageSecret {
    /// Both halves, as the token of the session.
    pub(crate) fn whole(&self) -> Token {
        Token(format!("{}.{}", self.cookie.0, self.key.0))
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
    #[error("'{0}' is a session of a browser, which cannot be given a new secret")]
    Session(String),
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
    /// Whether it is a session of the page.
    pub(crate) is_session: bool,
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
        let info = TokenInfo { name: OWN.to_owned(), scope: TokenScope::Admin, created: None, expires: None };
        let mut tokens = vec![AccessToken { info, hash: own.hash(), revoked: CancellationToken::new() }];
        tokens.extend(named.into_iter().take(TOKENS_MAX - 1).filter_map(|StoredToken { info, hash }| {
            let hash = blake3::Hash::from_hex(hash).ok()?;
            Some(AccessToken { info, hash, revoked: CancellationToken::new() })
        }));
        Self { files, tokens: Mutex::new(tokens) }
    }

    /// What a secret permits; takes the same time whichever token it is. An empty secret permits nothing.
    pub(crate) fn grant(&self, secret: &[u8]) -> Option<TokenGrant> {
        self.grant_at(secret, wall_clock())
    }

    /// What a secret permits at this time; tokens that have expired by then are removed.
    fn grant_at(&self, secret: &[u8], now: Timestamp) -> Option<TokenGrant> {
        let shown = blake3::hash(secret);
        let mut tokens = self.lock();
        for expired in tokens.extract_if(.., |token| token.info.expires.is_some_and(|expires| expires <= now)) {
            expired.revoked.cancel();
        }
        let mut found = u32::MAX;
        for (at, token) in (0..).zip(tokens.iter()) {
            found.conditional_assign(&at, token.hash.as_bytes().ct_eq(shown.as_bytes()));
        }
        let token = tokens.get(usize::try_from(found).ok()?).filter(|_| !secret.is_empty())?;
        Some(TokenGrant {
            name: token.info.name.clone(),
            scope: token.info.scope,
            is_session: token.info.expires.is_some(),
            revoked: token.revoked.clone(),
        })
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

    /// Opens a session of the page; ends the oldest one if there are too many.
    pub(crate) fn open_session(&self) -> Result<(TokenInfo, PageSecret), TokenError> {
        let secret = PageSecret { cookie: Token::generate(), key: Token::generate() };
        let created = wall_clock();
        let lifetime_ms = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let info = TokenInfo {
            name: format!("web-{:08x}", rand::random::<u32>()),
            scope: TokenScope::Admit,
            created: Some(created),
            expires: Some(Timestamp::from_ms(created.as_ms().saturating_add(lifetime_ms))),
        };
        let mut tokens = self.lock();
        let mut changed = tokens.clone();
        let is_session = |token: &AccessToken| token.info.expires.is_some();
        let sessions = changed.iter().filter(|token| is_session(token)).count();
        // They are in the order in which they were made.
        let oldest = changed.iter().position(is_session).filter(|_| sessions >= SESSIONS_MAX);
        let ended = oldest.map(|at| changed.remove(at));
        if changed.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let hash = secret.whole().hash();
        changed.push(AccessToken { info: info.clone(), hash, revoked: CancellationToken::new() });
        self.save(&changed)?;
        *tokens = changed;
        if let Some(ended) = ended {
            ended.revoked.cancel();
        }
        Ok((info, secret))
    }

    /// Gives a token a new secret; the old one is void.
    pub(crate) fn rotate(&self, name: &str) -> Result<NewToken, TokenError> {
        let mut tokens = self.lock();
        let at = position(&tokens, name)?;
        if tokens[at].info.expires.is_some() {
            return Err(TokenError::Session(name.to_owned()));
        }
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
    let info = TokenInfo { name, scope, created, expires: None };
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

    #[test]
    fn session_needs_both_halves_and_ends_after_its_lifetime() {
        let known = tokens("secret");
        let (info, secret) = known.open_session().expect("opened");
        let whole = secret.whole();
        let grant = known.grant(whole.as_str().as_bytes()).expect("valid");
        assert_eq!((grant.name, grant.scope), (info.name, TokenScope::Admit));
        for half in [secret.cookie.as_str(), secret.key.as_str()] {
            assert!(known.grant(half.as_bytes()).is_none());
        }
        let end = info.expires.expect("sessions expire").as_ms();
        let at = |ms| known.grant_at(whole.as_str().as_bytes(), Timestamp::from_ms(ms)).is_some();
        assert!(at(end - 1) && !at(end));
        assert!(grant.revoked.is_cancelled(), "its streams end");
    }

    #[test]
    fn further_session_ends_the_oldest_and_no_other_token() {
        let known = tokens("secret");
        let named = known.create(TokenRequest { name: "bot".into(), scope: TokenScope::Read }).expect("made").secret;
        let mut opened: Vec<Token> =
            (0..=SESSIONS_MAX).map(|_| known.open_session().expect("opened").1.whole()).collect();
        let valid = |token: &Token| known.grant(token.as_str().as_bytes()).is_some();
        assert!(!valid(&opened.remove(0)));
        assert!(opened.iter().all(valid) && valid(&Token::new(&named)));
        let session = known.list().pop().expect("listed").name;
        assert!(matches!(known.rotate(&session), Err(TokenError::Session(_))));
        known.revoke(&session).expect("revoked");
        assert!(!opened.pop().is_some_and(|last| valid(&last)));
    }
}
