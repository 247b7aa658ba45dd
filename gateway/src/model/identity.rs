use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use super::{Channel, Permission, RawJson, TokenGrants, TokenMark};

/// Longest user id, in bytes.
const USER_ID_BYTES_MAX: usize = 255;

/// Who a connection belongs to. Empty for an anonymous connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Option<Arc<str>>);

/// A user id that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Longer than 255 bytes.
    #[error("user id is longer than {USER_ID_BYTES_MAX} bytes")]
    TooLong,
    /// Holds a control or an invisible formatting character, which would make two users look alike.
    #[error("user id holds a control or formatting character")]
    ForbiddenCharacter,
}

impl UserId {
    /// The user of connections without a token.
    pub const ANONYMOUS: Self = Self(None);

    /// Checks and wraps `id`. The empty string is the anonymous user.
    ///
    /// # Errors
    /// [`UserIdError`] if the id is longer than 255 bytes or holds a control or formatting character.
    pub fn parse(id: &str) -> Result<Self, UserIdError> {
        if id.is_empty() {
            return Ok(Self::ANONYMOUS);
        }
        if id.len() > USER_ID_BYTES_MAX {
            return Err(UserIdError::TooLong);
        }
        if id.chars().any(super::channel::is_control_or_format) {
            return Err(UserIdError::ForbiddenCharacter);
        }
        Ok(Self(Some(id.into())))
    }

    /// The id as it stands in the token; empty for the anonymous user.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether this is the anonymous user.
    pub fn is_anonymous(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh random id (UUID version 4).
            pub fn random() -> Self {
                // Of the generator of this thread, which the system seeds: no system call for each.
                Self(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
            }

            /// Its 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id of these 16 bytes; `None` if there are more or fewer.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            /// Reads the hyphenated form that `Display` writes; `None` if it is not one.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }
    };
}

random_id! {
    /// Names one connection, as clients and the server API see it.
    ClientId
}
random_id! {
    /// Names one running gateway process; random at every start.
    NodeId
}
random_id! {
    /// Names one tenure of a node: as long as the others know without a break that it lives.
    ///
    /// What a node keeps for others to see belongs to its tenure. Once that ends, what belonged to it is void.
    NodeEpoch
}

impl NodeEpoch {
    /// No tenure of any node: what belongs to it outlives them all.
    pub const NOBODY: Self = Self(Uuid::nil());
}

/// What authentication established about a connection.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The `sub` claim; anonymous without a token or with an empty claim.
    pub user: UserId,
    /// The `info` claim: shown to others as `conn_info`. `None` if the token has none.
    pub info: Option<RawJson>,
    /// When the connection is no longer good; `None` if it never expires.
    pub expires_at: Option<SystemTime>,
    /// What else the token grants; `None` if nothing.
    pub grants: Option<Arc<TokenGrants>>,
    /// What the token can be revoked by.
    pub mark: TokenMark,
}

impl Identity {
    /// Whether a capability of the token grants `permission` for `channel`.
    pub fn is_granted(&self, permission: Permission, channel: &Channel) -> bool {
        self.grants.as_ref().is_some_and(|grants| grants.allow(permission, channel))
    }
}

/// One connection as others see it: who published, joined, left, or is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its user.
    pub user: UserId,
    /// Its id.
    pub client: ClientId,
    /// The `info` of what authenticated it.
    pub conn_info: Option<RawJson>,
    /// The `info` of what allowed it to subscribe to the channel in question.
    pub chan_info: Option<RawJson>,
}

impl ClientInfo {
    /// Most bytes of `conn_info` and of `chan_info`: everybody in a channel gets them.
    pub const INFO_BYTES_MAX: usize = 1024;

    /// How much memory it holds on to, roughly, in bytes.
    pub fn cost_bytes(&self) -> usize {
        let bytes = |info: &Option<RawJson>| info.as_ref().map_or(0, |info| info.as_bytes().len());
        size_of::<Self>() + self.user.as_str().len() + bytes(&self.conn_info) + bytes(&self.chan_info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_with_invisible_characters_is_refused() {
        assert_eq!(UserId::parse("a\u{202e}b"), Err(UserIdError::ForbiddenCharacter));
        assert_eq!(UserId::parse("a\nb"), Err(UserIdError::ForbiddenCharacter));
        assert_eq!(UserId::parse(&"x".repeat(256)), Err(UserIdError::TooLong));
        assert_eq!(UserId::parse("Ännchen 42").unwrap().as_str(), "Ännchen 42");
        assert!(UserId::parse("").unwrap().is_anonymous());
    }
}
