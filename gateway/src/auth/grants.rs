use crate::config::ChannelOptions;
use crate::model::{Channel, Identity, Permission};

/// The client has no right to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("permission denied")]
pub(super) struct Denied;

/// Whether a client may subscribe to `channel` without a subscription token.
///
/// `options` are those of the channel's namespace, `insecure` is `client.insecure`. The first rule
/// that speaks decides: a private channel is closed, also to the insecure mode; a user-limited one is
/// for the users it lists; else the namespace says. A capability allows what these do not, but for the first.
///
/// # Errors
/// [`Denied`] if no rule allows it.
pub(super) fn may_subscribe(
    identity: &Identity,
    channel: &Channel,
    options: &ChannelOptions,
    insecure: bool,
) -> Result<(), Denied> {
    if channel.is_private() {
        return Err(Denied);
    }
    let anonymous = identity.user.is_anonymous();
    let allowed = match channel.listed_users().filter(|_| options.allow_user_limited_channels) {
        // `news#` lists the empty name, which is no user.
        Some(mut users) => !anonymous && users.any(|user| user == identity.user.as_str()),
        None => options.allow_subscribe_for_client && (!anonymous || options.allow_subscribe_for_anonymous),
    };
    let allowed = allowed || insecure || identity.is_granted(Permission::Subscribe, channel);
    if allowed { Ok(()) } else { Err(Denied) }
}

/// Whether a client may publish to `channel`, which has `options`.
///
/// `subscribed` says whether this client is subscribed to it, `insecure` is `client.insecure`.
///
/// # Errors
/// [`Denied`] if no rule allows it.
pub(super) fn may_publish(
    identity: &Identity,
    channel: &Channel,
    options: &ChannelOptions,
    subscribed: bool,
    insecure: bool,
) -> Result<(), Denied> {
    let rights = Rights {
        client: options.allow_publish_for_client,
        subscriber: options.allow_publish_for_subscriber,
        anonymous: options.allow_publish_for_anonymous,
    };
    let granted = is_granted(identity, Permission::Publish, channel, subscribed);
    rights.check(identity, subscribed, granted || insecure)
}

/// Whether a client may read the history of `channel`, which has `options`.
///
/// `subscribed` says whether this client is subscribed to it, `insecure` is `client.insecure`.
///
/// # Errors
/// [`Denied`] if no rule allows it.
pub(super) fn may_read_history(
    identity: &Identity,
    channel: &Channel,
    options: &ChannelOptions,
    subscribed: bool,
    insecure: bool,
) -> Result<(), Denied> {
    let rights = Rights {
        client: options.allow_history_for_client,
        subscriber: options.allow_history_for_subscriber,
        anonymous: options.allow_history_for_anonymous,
    };
    let granted = is_granted(identity, Permission::History, channel, subscribed);
    rights.check(identity, subscribed, granted || insecure)
}

/// Whether a client may see who is present in `channel`, which has `options`.
///
/// `subscribed` says whether this client is subscribed to it, `insecure` is `client.insecure`.
///
/// # Errors
/// [`Denied`] if no rule allows it.
pub(super) fn may_see_presence(
    identity: &Identity,
    channel: &Channel,
    options: &ChannelOptions,
    subscribed: bool,
    insecure: bool,
) -> Result<(), Denied> {
    let rights = Rights {
        client: options.allow_presence_for_client,
        subscriber: options.allow_presence_for_subscriber,
        anonymous: options.allow_presence_for_anonymous,
    };
    let granted = is_granted(identity, Permission::Presence, channel, subscribed);
    rights.check(identity, subscribed, granted || insecure)
}

/// Whether a capability allows it. A private channel is closed to capabilities too, until a token opened it.
fn is_granted(identity: &Identity, permission: Permission, channel: &Channel, subscribed: bool) -> bool {
    (subscribed || !channel.is_private()) && identity.is_granted(permission, channel)
}

/// The three options by which a namespace lets clients do something.
#[derive(Clone, Copy)]
struct Rights {
    client: bool,
    subscriber: bool,
    /// On top of one of the two before.
    anonymous: bool,
}

impl Rights {
    /// `anyway` says whether something else allows it.
    fn check(self, identity: &Identity, subscribed: bool, anyway: bool) -> Result<(), Denied> {
        let for_users = self.client || (self.subscriber && subscribed);
        let allowed = for_users && (self.anonymous || !identity.user.is_anonymous());
        if allowed || anyway { Ok(()) } else { Err(Denied) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Capability, ChannelMatch, TokenGrants, UserId};

    const BOTH: [bool; 2] = [false, true];

    fn identity(user: &str) -> Identity {
        Identity { user: UserId::parse(user).unwrap(), ..Identity::default() }
    }

    fn channel(name: &str) -> Channel {
        Channel::parse(name, 255).unwrap()
    }

    /// Whether `user` may subscribe to `name`, in every combination of the two options and the mode:
    /// one digit each for (client, anonymous) = off off, off on, on off, on on.
    fn subscribe_row(user: &str, name: &str, limited: bool, insecure: bool) -> String {
        let mut row = String::new();
        for allow_subscribe_for_client in BOTH {
            for allow_subscribe_for_anonymous in BOTH {
                let options = ChannelOptions {
                    allow_subscribe_for_client,
                    allow_subscribe_for_anonymous,
                    allow_user_limited_channels: limited,
                    ..ChannelOptions::default()
                };
                let verdict = may_subscribe(&identity(user), &channel(name), &options, insecure);
                row.push(if verdict.is_ok() { '1' } else { '0' });
            }
        }
        row
    }

    #[test]
    fn who_may_subscribe() {
        for (user, name, limited, secure, insecure) in [
            ("42", "news", false, "0011", "1111"),
            ("42", "news", true, "0011", "1111"),
            ("", "news", false, "0001", "1111"),
            ("", "news", true, "0001", "1111"),
            ("42", "$news", false, "0000", "0000"),
            ("42", "$news#42", true, "0000", "0000"),
            ("", "$news", true, "0000", "0000"),
            ("42", "news#42", false, "0011", "1111"),
            ("42", "news#42", true, "1111", "1111"),
            ("42", "a#b#41,42", true, "1111", "1111"),
            ("42", "news#4,2", true, "0000", "1111"),
            ("42", "news#42#41", true, "0000", "1111"),
            ("4", "news#42", true, "0000", "1111"),
            ("", "news#42", true, "0000", "1111"),
            ("", "news#", true, "0000", "1111"),
            ("", "news#,42", true, "0000", "1111"),
            ("", "news#42", false, "0001", "1111"),
        ] {
            assert_eq!(subscribe_row(user, name, limited, false), secure, "{user:?} {name} {limited}");
            assert_eq!(
                subscribe_row(user, name, limited, true),
                insecure,
                "{user:?} {name} {limited} insecure"
            );
        }
    }

    /// The rules that look at three options alike.
    type Rule = fn(&Identity, &Channel, &ChannelOptions, bool, bool) -> Result<(), Denied>;
    /// A rule, the permission that allows the same, and the options (client, subscriber, anonymous) that it is
    /// to look at, set from the bits of a number.
    type Case = (Rule, Permission, fn(usize) -> ChannelOptions);

    const CASES: [Case; 3] = [
        (may_publish, Permission::Publish, |bits| ChannelOptions {
            allow_publish_for_client: bits & 4 != 0,
            allow_publish_for_subscriber: bits & 2 != 0,
            allow_publish_for_anonymous: bits & 1 != 0,
            ..ChannelOptions::default()
        }),
        (may_read_history, Permission::History, |bits| ChannelOptions {
            allow_history_for_client: bits & 4 != 0,
            allow_history_for_subscriber: bits & 2 != 0,
            allow_history_for_anonymous: bits & 1 != 0,
            ..ChannelOptions::default()
        }),
        (may_see_presence, Permission::Presence, |bits| ChannelOptions {
            allow_presence_for_client: bits & 4 != 0,
            allow_presence_for_subscriber: bits & 2 != 0,
            allow_presence_for_anonymous: bits & 1 != 0,
            ..ChannelOptions::default()
        }),
    ];

    /// As above, for (client, subscriber, anonymous) from off off off to on on on.
    fn row(
        (rule, _, options): Case,
        identity: &Identity,
        name: &str,
        subscribed: bool,
        insecure: bool,
    ) -> String {
        let verdict = |bits| rule(identity, &channel(name), &options(bits), subscribed, insecure);
        (0..8).map(|bits| if verdict(bits).is_ok() { '1' } else { '0' }).collect()
    }

    #[test]
    fn who_may_publish_read_the_history_and_see_presence() {
        for case in CASES {
            let row = |user, subscribed, insecure| row(case, &identity(user), "news", subscribed, insecure);
            assert_eq!(row("42", false, false), "00001111");
            assert_eq!(row("42", true, false), "00111111");
            assert_eq!(row("", false, false), "00000101");
            assert_eq!(row("", true, false), "00010101");
            for (user, subscribed) in [("42", false), ("42", true), ("", false), ("", true)] {
                assert_eq!(row(user, subscribed, true), "11111111");
            }
        }
    }

    /// `user` with `permissions` for every channel that begins with `ne` or `$`.
    fn capable(user: &str, permissions: &[Permission]) -> Identity {
        let capability = Capability {
            channels: vec!["ne*".into(), "$*".into()],
            matching: ChannelMatch::Wildcard,
            permissions: permissions.into(),
        };
        let grants = TokenGrants { capabilities: vec![capability], ..TokenGrants::default() };
        Identity { grants: Some(Arc::new(grants)), ..identity(user) }
    }

    const ALL: [Permission; 4] =
        [Permission::Subscribe, Permission::Publish, Permission::Presence, Permission::History];

    #[test]
    fn a_capability_allows_what_it_names_and_nothing_else() {
        for case in CASES {
            let (_, permission, _) = case;
            let others: Vec<_> = ALL.into_iter().filter(|other| *other != permission).collect();
            for user in ["42", ""] {
                let row = |permissions: &[Permission], name, subscribed| {
                    row(case, &capable(user, permissions), name, subscribed, false)
                };
                let without = |subscribed| row(&[], "news", subscribed);
                for subscribed in BOTH {
                    assert_eq!(row(&[permission], "news", subscribed), "11111111");
                    assert_eq!(row(&[permission], "other", subscribed), without(subscribed));
                    assert_eq!(row(&others, "news", subscribed), without(subscribed));
                }
                assert_eq!(row(&[permission], "$news", false), without(false), "no token opened it");
                assert_eq!(row(&[permission], "$news", true), "11111111");
            }
        }
    }

    #[test]
    fn a_capability_lets_subscribe_but_not_to_a_private_channel() {
        let others = [Permission::Publish, Permission::Presence, Permission::History];
        for (permissions, name, expected) in [
            (&[Permission::Subscribe][..], "news", true),
            (&[Permission::Subscribe], "news#43", true),
            (&[Permission::Subscribe], "other", false),
            (&[Permission::Subscribe], "$news", false),
            (&ALL, "$news", false),
            (&others, "news", false),
        ] {
            for user in ["42", ""] {
                let options =
                    ChannelOptions { allow_user_limited_channels: true, ..ChannelOptions::default() };
                let verdict = may_subscribe(&capable(user, permissions), &channel(name), &options, false);
                assert_eq!(verdict.is_ok(), expected, "{user:?} {name} {permissions:?}");
            }
        }
    }
}
