use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// First character of a channel that needs a subscription token, always.
const PRIVATE_PREFIX: char = '$';
/// First character of a channel of the gateway itself.
const SYSTEM_PREFIX: char = '\u{1}';
/// Ends the namespace.
const NAMESPACE_BOUNDARY: char = ':';
/// Starts the list of users of a user-limited channel.
const USER_BOUNDARY: char = '#';
/// Separates the users of that list.
const USER_SEPARATOR: char = ',';

/// What one publishes and subscribes to. Cheap to clone.
///
/// The name is compared byte by byte; the namespace is part of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

/// A channel name that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// No name at all.
    #[error("channel is empty")]
    Empty,
    /// Longer than the limit.
    #[error("channel is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit, `channel.channel_bytes_max`.
        bytes_max: usize,
    },
    /// Holds white space, a control or an invisible formatting character.
    #[error("channel holds a space, a control or a formatting character")]
    ForbiddenCharacter,
}

impl Channel {
    /// Checks and wraps `name`.
    ///
    /// Accepts any UTF-8 without white space, control and formatting characters; whether a name may
    /// go beyond ASCII is for the options of its namespace to say.
    ///
    /// # Errors
    /// [`ChannelError`] that names the rule.
    pub fn parse(name: &str, bytes_max: usize) -> Result<Self, ChannelError> {
        if name.is_empty() {
            return Err(ChannelError::Empty);
        }
        if name.len() > bytes_max {
            return Err(ChannelError::TooLong { bytes_max });
        }
        let forbidden = |character: char| character.is_whitespace() || is_control_or_format(character);
        if name.chars().any(forbidden) {
            return Err(ChannelError::ForbiddenCharacter);
        }
        Ok(Self(name.into()))
    }

    /// A channel of the gateway itself, by which its nodes talk to one another.
    ///
    /// No client and no back end can name it: it starts with a control character, which [`parse`](Self::parse)
    /// refuses.
    pub fn system(name: &str) -> Self {
        Self(format!("{SYSTEM_PREFIX}{name}").into())
    }

    /// Whether it is a channel of the gateway itself.
    pub fn is_system(&self) -> bool {
        self.0.starts_with(SYSTEM_PREFIX)
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a subscription needs a token, whatever the namespace allows.
    pub fn is_private(&self) -> bool {
        self.0.starts_with(PRIVATE_PREFIX)
    }

    /// The text before the first `:`, private prefix stripped; `None` if there is none or it is empty.
    pub fn namespace(&self) -> Option<&str> {
        let name = self.0.strip_prefix(PRIVATE_PREFIX).unwrap_or(&self.0);
        name.split_once(NAMESPACE_BOUNDARY).map(|(namespace, _)| namespace).filter(|name| !name.is_empty())
    }

    /// What follows the first `:`, or the whole name without one, private prefix included.
    ///
    /// This is the part that a namespace's `channel_regex` is matched against.
    pub fn after_namespace(&self) -> &str {
        self.0.split_once(NAMESPACE_BOUNDARY).map_or(&*self.0, |(_, rest)| rest)
    }

    /// The users listed after the last `#`; `None` if the name has no `#`.
    pub fn listed_users(&self) -> Option<impl Iterator<Item = &str>> {
        self.0.rsplit_once(USER_BOUNDARY).map(|(_, users)| users.split(USER_SEPARATOR))
    }
}

/// C0, C1 and the characters of the Unicode category Cf that change how a text looks without being seen.
pub(super) fn is_control_or_format(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}'..='\u{e007f}')
}

impl Borrow<str> for Channel {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    #[test]
    fn a_name_is_taken_apart_as_the_reference_says() {
        assert_eq!(channel("chat:room:7").namespace(), Some("chat"));
        assert_eq!(channel("chat:room:7").after_namespace(), "room:7");
        assert_eq!(channel("$chat:x").namespace(), Some("chat"));
        assert!(channel("$chat:x").is_private());
        assert_eq!(channel(":x").namespace(), None);
        assert_eq!(channel("$news").after_namespace(), "$news");
        let users: Vec<_> = channel("a#b#42,43").listed_users().unwrap().map(str::to_owned).collect();
        assert_eq!(users, ["42", "43"]);
        assert!(channel("news").listed_users().is_none());
    }

    #[test]
    fn a_name_with_what_cannot_be_seen_is_refused() {
        for bad in ["a b", "a\tb", "a\0b", "a\u{85}b", "a\u{200b}b", "a\u{2028}b", "\u{feff}a"] {
            assert_eq!(Channel::parse(bad, 255), Err(ChannelError::ForbiddenCharacter), "{bad:?}");
        }
        assert_eq!(Channel::parse("", 255), Err(ChannelError::Empty));
        assert_eq!(Channel::parse("abcd", 3), Err(ChannelError::TooLong { bytes_max: 3 }));
        assert!(Channel::parse("abc*?[{é", 255).is_ok());
    }
}
