use globset::{GlobBuilder, GlobMatcher};

use crate::model::Channel;

/// Longest pattern, in bytes: it is compiled for each question.
const PATTERN_BYTES_MAX: usize = 1024;

/// A pattern of channel names: `*`, `?`, `[…]`, `{a,b}`.
#[derive(Clone, Debug)]
pub struct Glob {
    pattern: String,
    matcher: GlobMatcher,
}

/// The pattern is no glob, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a glob of at most {PATTERN_BYTES_MAX} bytes")]
pub struct BadGlob;

impl Glob {
    /// Reads `pattern`; the empty one matches every channel.
    ///
    /// # Errors
    /// [`BadGlob`] if it is none, or longer than 1,024 bytes.
    pub fn parse(pattern: &str) -> Result<Self, BadGlob> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(BadGlob);
        }
        let glob = if pattern.is_empty() { "*" } else { pattern };
        // A channel is not a path: `/` is a character like others.
        let glob = GlobBuilder::new(glob).literal_separator(false).backslash_escape(true).build();
        let matcher = glob.map_err(|_| BadGlob)?.compile_matcher();
        Ok(Self { pattern: pattern.to_owned(), matcher })
    }

    /// Whether the name of `channel` is of this kind.
    pub fn matches(&self, channel: &Channel) -> bool {
        self.matcher.is_match(channel.as_str())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_glob_and_a_name_is_data() {
        let matches = |pattern: &str, name: &str| {
            Glob::parse(pattern).unwrap().matches(&Channel::parse(name, 255).unwrap())
        };
        assert!(matches("", "chat:a/b"));
        assert!(matches("chat:*", "chat:a/b"));
        assert!(!matches("chat:*", "news"));
        assert!(matches("chat:?", "chat:*"));
        assert!(!matches("chat:[*]", "chat:a"));
        assert!(matches("{news,chat:[a-c]}", "chat:b"));
        assert!(matches(r"chat:\*", "chat:*"));
        for bad in ["[", "{a", &"a".repeat(PATTERN_BYTES_MAX + 1)] {
            assert!(Glob::parse(bad).is_err(), "{bad:.20}");
        }
    }
}
