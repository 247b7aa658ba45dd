use std::time::SystemTime;

use super::RawJson;

/// What was said about one subscription by whoever allowed it: a subscription token, a connection token that
/// lists it, or the server API. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionGrant {
    /// Shown to others as `chan_info`.
    pub info: Option<RawJson>,
    /// Custom data for the subscriber: the `data` of the result or of the push.
    pub data: Option<RawJson>,
    /// Options that differ from those of the namespace.
    pub overrides: Overrides,
    /// When the subscription is no longer good; `None` if it never ends by itself.
    pub expires_at: Option<SystemTime>,
}

/// Options of one subscription that differ from those of its namespace; `None`: as the namespace says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the subscriber is listed in the channel's presence.
    pub presence: Option<bool>,
    /// Whether its joining and leaving are announced.
    pub join_leave: Option<bool>,
    /// Whether it is told of others' joining and leaving without asking.
    pub force_push_join_leave: Option<bool>,
    /// Whether it is told when it missed something, without asking.
    pub force_positioning: Option<bool>,
    /// Whether it can catch up, without asking.
    pub force_recovery: Option<bool>,
}
