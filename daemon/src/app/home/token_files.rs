//! The tokens of a home: `token` in the run directory, the home's own, and `tokens.json`, hashes of the named ones.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::app::home::Home;
use crate::http::access_tokens::{AccessTokens, StoredToken, Token, TokenFiles};
use crate::private_file::{self, Lasting};

/// Length of a token in hexadecimal digits: 256 bits.
const TOKEN_CHARS: usize = 64;

/// The files of a home.
#[derive(Debug)]
struct HomeTokenFiles {
    own: PathBuf,
    named: PathBuf,
}

/// The tokens of a home. Its own is kept across starts, so that scripts that read it go on.
///
/// # Errors
/// When the home's own token can be neither read nor written; with its path.
pub(crate) fn open(home: &Home) -> Result<AccessTokens, (PathBuf, io::Error)> {
    let files = HomeTokenFiles { own: home.token(), named: home.tokens_file() };
    let own = files.own_token().map_err(|source| (home.token(), source))?;
    let named = files.named_tokens().unwrap_or_else(|error| {
        // Without its hash a secret permits nothing: the calls of its owner are answered with 401.
        tracing::warn!(%error, path = %files.named.display(), "the named tokens cannot be read and are void");
        Vec::new()
    });
    Ok(AccessTokens::new(&own, named, Box::new(files)))
}

impl HomeTokenFiles {
    /// The home's own token; a new one if a power failure damaged it.
    fn own_token(&self) -> io::Result<Token> {
        let kept = fs::read_to_string(&self.own).ok();
        let valid = |token: &str| token.len() == TOKEN_CHARS && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(kept) = kept.as_deref().map(str::trim).filter(|token| valid(token)) {
            // Not written anew: the disk may be full.
            private_file::make_private(&self.own)?;
            return Ok(Token::new(kept));
        }
        let token = Token::generate();
        self.save_own(&token)?;
        Ok(token)
    }

    fn named_tokens(&self) -> io::Result<Vec<StoredToken>> {
        match fs::read(&self.named) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl TokenFiles for HomeTokenFiles {
    fn save_named(&self, tokens: &[StoredToken]) -> io::Result<()> {
        private_file::write(&self.named, &serde_json::to_vec_pretty(tokens)?, Lasting::Forever)
    }

    fn save_own(&self, token: &Token) -> io::Result<()> {
        private_file::write(&self.own, token.as_str().as_bytes(), Lasting::WhileRunning)
    }
}

#[cfg(test)]
mod tests {
    use chat_proto::api::tokens::{TokenRequest, TokenScope};

    use super::*;
    use crate::app::home;

    fn home(directory: &std::path::Path) -> Home {
        let home = Home::locate(Some(directory), |_| None).expect("known");
        home::prepare(&home).expect("made");
        home
    }

    #[test]
    fn own_token_is_kept_and_a_damaged_one_is_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        let first = || fs::read_to_string(home.token()).expect("there is one");
        open(&home).expect("written");
        let kept = first();
        let tokens = open(&home).expect("read");
        assert!(first() == kept && tokens.grant(kept.as_bytes()).is_some());
        fs::write(home.token(), "short").expect("written");
        open(&home).expect("written");
        assert!(first() != kept && first().len() == TOKEN_CHARS);
    }

    #[test]
    fn named_tokens_survive_a_restart_and_their_secrets_are_not_kept() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let home = home(directory.path());
        let tokens = open(&home).expect("opens");
        let make = |name: &str| {
            let request = TokenRequest { name: name.into(), scope: TokenScope::Read };
            tokens.create(request).expect("made").secret
        };
        let (kept, rotated, revoked) = (make("kept"), make("rotated"), make("revoked"));
        let renewed = tokens.rotate("rotated").expect("rotated").secret;
        let own = tokens.rotate("default").expect("rotated").secret;
        tokens.revoke("revoked").expect("revoked");
        assert!(tokens.revoke("default").is_err() && tokens.revoke("revoked").is_err());
        let again = open(&home).expect("opens");
        for (secret, scope) in [
            (&kept, Some(TokenScope::Read)),
            (&renewed, Some(TokenScope::Read)),
            (&own, Some(TokenScope::Admin)),
            (&rotated, None),
            (&revoked, None),
        ] {
            assert_eq!(again.grant(secret.as_bytes()).map(|grant| grant.scope), scope);
        }
        let text = fs::read_to_string(home.tokens_file()).expect("written");
        assert!(!text.contains(&kept) && !text.contains(&renewed) && text.contains("\"rotated\""), "{text}");
        fs::write(home.tokens_file(), "{").expect("written");
        assert!(open(&home).expect("opens").grant(kept.as_bytes()).is_none(), "a damaged file permits nothing");
    }
}
