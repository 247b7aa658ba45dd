use super::{Channel, RawJson, SubscriptionGrant};

/// What a connection token grants beside the connection itself. The default grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGrants {
    /// Data for the back end about the connection, a JSON object; never for clients. `None` if there is none.
    pub meta: Option<RawJson>,
    /// Channels that the server subscribes the connection to: each once, in order of their names, which nobody
    /// has checked yet.
    pub subscriptions: Vec<(String, SubscriptionGrant)>,
    /// What the client may do beside what namespaces allow.
    pub capabilities: Vec<Capability>,
}

impl TokenGrants {
    /// Whether a capability grants `permission` for `channel`.
    pub fn allow(&self, permission: Permission, channel: &Channel) -> bool {
        self.capabilities.iter().any(|capability| capability.allows(permission, channel))
    }
}

/// Permissions for some channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Names or patterns, as `matching` says.
    pub channels: Vec<String>,
    /// How they are compared with the name of a channel.
    pub matching: ChannelMatch,
    /// What may be done with those channels.
    pub permissions: Vec<Permission>,
}

impl Capability {
    /// Whether this grants `permission` for `channel`.
    pub fn allows(&self, permission: Permission, channel: &Channel) -> bool {
        let matches = |pattern: &String| match self.matching {
            ChannelMatch::Exact => pattern == channel.as_str(),
            ChannelMatch::Wildcard => matches_wildcard(pattern.as_bytes(), channel.as_str().as_bytes()),
        };
        self.permissions.contains(&permission) && self.channels.iter().any(matches)
    }
}

/// How a capability names channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelMatch {
    /// By their names.
    #[default]
    Exact,
    /// By patterns, in which `*` stands for any characters, also none. Nothing else is special.
    Wildcard,
}

/// One thing that a client may do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Subscribe to it.
    Subscribe,
    /// Publish to it.
    Publish,
    /// See who is present.
    Presence,
    /// Read its history.
    History,
}

/// Whether `*` in `pattern` can stand for something that makes it `name`.
///
/// Only the last `*` is ever tried again: what an earlier one could take, the last can take as well. So it takes
/// at most the product of both lengths, whatever the pattern.
fn matches_wildcard(pattern: &[u8], name: &[u8]) -> bool {
    let (mut in_pattern, mut in_name) = (0, 0);
    // Behind the last `*`, and where what follows it was last tried.
    let mut retry = None;
    while in_name < name.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                in_pattern += 1;
                retry = Some((in_pattern, in_name));
            }
            Some(byte) if *byte == name[in_name] => (in_pattern, in_name) = (in_pattern + 1, in_name + 1),
            _ => {
                let Some((behind_star, tried)) = retry else { return false };
                (in_pattern, in_name) = (behind_star, tried + 1);
                retry = Some((in_pattern, in_name));
            }
        }
    }
    pattern[in_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 65535).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_is_special() {
        for (pattern, name, expected) in [
            ("news", "news", true),
            ("news", "news2", false),
            ("news2", "news", false),
            ("*", "news", true),
            ("", "news", false),
            ("news:*", "news:", true),
            ("news:*", "news:a:b", true),
            ("news:*", "news", false),
            ("*:42", "news:42", true),
            ("*:42", "news:42:42", true),
            ("*:42", "news:421", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a**b", "ab", true),
            ("**", "x", true),
            ("*aab", "aaaab", true),
            ("a.c", "abc", false),
            ("a?c", "abc", false),
            ("[ab]", "a", false),
            ("a\\*", "ab", false),
            ("News*", "news", false),
            ("é*", "éa", true),
        ] {
            assert_eq!(matches_wildcard(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_the_product_of_the_lengths() {
        let pattern = format!("{}b", "a*".repeat(1_000));
        assert!(!matches_wildcard(pattern.as_bytes(), "a".repeat(60_000).as_bytes()));
    }

    #[test]
    fn a_capability_is_for_its_channels_and_its_permissions() {
        let exact = Capability {
            channels: vec!["news".into(), "chat:*".into()],
            matching: ChannelMatch::Exact,
            permissions: vec![Permission::Publish, Permission::History],
        };
        assert!(exact.allows(Permission::Publish, &channel("news")));
        assert!(exact.allows(Permission::History, &channel("chat:*")));
        assert!(!exact.allows(Permission::Publish, &channel("chat:a")));
        assert!(!exact.allows(Permission::Subscribe, &channel("news")));
        let wildcard = Capability { matching: ChannelMatch::Wildcard, ..exact.clone() };
        assert!(wildcard.allows(Permission::Publish, &channel("chat:a")));
        let grants = TokenGrants { capabilities: vec![exact, wildcard], ..TokenGrants::default() };
        assert!(grants.allow(Permission::Publish, &channel("chat:a")));
        assert!(!grants.allow(Permission::Presence, &channel("chat:a")));
    }
}
