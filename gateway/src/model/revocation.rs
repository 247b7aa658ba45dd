use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use super::UserId;

/// Makes fingerprints of token ids. Its key is random in each process, so that nobody can find two ids with one
/// fingerprint.
static FINGERPRINTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a token can be revoked by, in the 16 bytes that a connection has room for.
///
/// The default is that of no token at all, which nothing but its user can revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenMark {
    /// Fingerprint of the claim `jti`; 0 without one.
    id: u64,
    /// The claim `iat` in milliseconds; 0 without one, which is before everything.
    issued_at: u64,
}

impl TokenMark {
    /// The mark of a token with these claims `jti` and `iat` (RFC 7519 §4.1.6 and §4.1.7).
    pub fn new(id: Option<&str>, issued_at: Option<SystemTime>) -> Self {
        Self { id: id.map_or(0, fingerprint), issued_at: issued_at.map_or(0, millis) }
    }

    /// The fingerprint of the token's id; `None` if it has no id.
    pub fn id(self) -> Option<u64> {
        Some(self.id).filter(|id| *id != 0)
    }

    /// Whether the token was issued before `time`. One that does not say when is taken to be.
    pub fn is_before(self, time: SystemTime) -> bool {
        self.issued_at < millis(time)
    }
}

impl Default for TokenMark {
    fn default() -> Self {
        Self { id: 0, issued_at: u64::MAX }
    }
}

/// The fingerprint of a token id: good within this process.
fn fingerprint(id: &str) -> u64 {
    FINGERPRINTS.hash_one(id).max(1)
}

/// Since 1970; what lies before is 1970.
fn millis(time: SystemTime) -> u64 {
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// The word that some tokens are no longer good, though their signatures are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which tokens.
    pub whose: Whose,
    /// When nobody needs to remember it any more, because those tokens have expired by then.
    pub forget_at: SystemTime,
}

/// Which tokens a revocation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// The one with this claim `jti`; not empty.
    Token(String),
    /// Those of this user.
    User {
        /// Who; not anonymous.
        user: UserId,
        /// Those that were issued before, or do not say when; `None`: all, those to come included.
        issued_before: Option<SystemTime>,
    },
    /// Everybody's that were issued before, or do not say when.
    Everybody {
        /// This time.
        issued_before: SystemTime,
    },
}

impl Whose {
    /// Whether what authenticated `user`, with this mark, is among them.
    pub fn includes(&self, user: &UserId, mark: TokenMark) -> bool {
        match self {
            Self::Token(id) => mark.id() == Some(fingerprint(id)),
            Self::User { user: whose, issued_before } => {
                whose == user && issued_before.is_none_or(|time| mark.is_before(time))
            }
            Self::Everybody { issued_before } => mark.is_before(*issued_before),
        }
    }

    /// The fingerprint of the token that it names; `None` if it names none.
    pub fn token(&self) -> Option<u64> {
        match self {
            Self::Token(id) => Some(fingerprint(id)),
            Self::User { .. } | Self::Everybody { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_revocation_includes_what_it_names_and_nothing_else() {
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let mark = TokenMark::new(Some("t-1"), Some(at(1_000)));
        let nameless = TokenMark::new(None, None);
        let token = Whose::Token("t-1".into());
        assert!(token.includes(&ann, mark) && token.includes(&bob, mark));
        assert!(!token.includes(&ann, TokenMark::new(Some("t-2"), None)) && !token.includes(&ann, nameless));
        let user = Whose::User { user: ann.clone(), issued_before: None };
        assert!(user.includes(&ann, mark) && user.includes(&ann, nameless) && !user.includes(&bob, mark));
        let older = |seconds| Whose::User { user: ann.clone(), issued_before: Some(at(seconds)) };
        assert!(older(1_001).includes(&ann, mark) && !older(1_000).includes(&ann, mark));
        assert!(older(1).includes(&ann, nameless) && !older(1_001).includes(&bob, mark));
        let everybody = Whose::Everybody { issued_before: at(1_001) };
        assert!(everybody.includes(&bob, mark) && everybody.includes(&bob, nameless));
        assert!(!everybody.includes(&UserId::ANONYMOUS, TokenMark::default()), "there is no token to revoke");
    }

    #[test]
    fn a_mark_is_small() {
        assert_eq!(size_of::<TokenMark>(), 16);
    }
}
