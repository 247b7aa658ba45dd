use std::time::Duration;

use crate::config::{ChannelOptions, NamespaceId, RecoveryMode, SlowConsumer};
use crate::model::Overrides;

/// What a client asks for as it subscribes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asks {
    /// To be told when it missed something.
    pub positioned: bool,
    /// To be able to catch up with it.
    pub recoverable: bool,
    /// To hear who joins and leaves.
    pub join_leave: bool,
}

/// What a subscription comes with. The default is that of a channel without options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How it follows the history of the channel; `None` if it does not.
    pub following: Option<Following>,
    /// Whether the subscriber is listed in the presence of the channel.
    pub is_listed: bool,
    /// Whether its joining and leaving are announced to the others.
    pub is_announced: bool,
    /// How long it stays present after its connection was lost; zero: not at all.
    pub leave_grace: Duration,
    /// Whether it hears who joins and leaves.
    pub hears_notices: bool,
    /// Whether it gets the newest publication without asking; only with `following` in cache mode.
    pub auto_cache_recover: bool,
    /// What happens when it does not keep up.
    pub slow_consumer: SlowConsumer,
    /// Of the channel.
    pub namespace: NamespaceId,
}

/// How a subscriber follows a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Following {
    /// Whether it can catch up; else it is only told that it missed something.
    pub can_recover: bool,
    /// How it catches up.
    pub mode: RecoveryMode,
    /// How long the epoch is kept.
    pub meta_ttl: Duration,
}

/// What the client could have by commands of its own, and so gets when it asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) history: bool,
    pub(super) presence: bool,
}

/// Weighs what a client `asks` against the `options` of the namespace, or against the `overrides` where there
/// are any. `meta_ttl` is that of the history; `None` if there is none.
pub(super) fn resolve(
    options: &ChannelOptions,
    overrides: &Overrides,
    meta_ttl: Option<Duration>,
    asks: Asks,
    access: Access,
) -> Terms {
    let forces_recovery = overrides.force_recovery.unwrap_or(options.force_recovery);
    let can_recover = forces_recovery || (asks.recoverable && (options.allow_recovery || access.history));
    let forces_positioning = overrides.force_positioning.unwrap_or(options.force_positioning);
    let is_positioned =
        forces_positioning || (asks.positioned && (options.allow_positioning || access.history));
    let mode = options.force_recovery_mode;
    let following = meta_ttl.filter(|_| can_recover || is_positioned);
    let following = following.map(|meta_ttl| Following { can_recover, mode, meta_ttl });
    let is_cached = following.is_some() && can_recover && mode == RecoveryMode::Cache;
    let is_announced = overrides.join_leave.unwrap_or(options.join_leave);
    let forces_notices = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave);
    Terms {
        following,
        is_listed: overrides.presence.unwrap_or(options.presence),
        is_announced,
        leave_grace: options.leave_grace.0,
        hears_notices: forces_notices || (asks.join_leave && is_announced && access.presence),
        auto_cache_recover: options.auto_cache_recover && is_cached,
        slow_consumer: options.slow_consumer,
        namespace: options.id,
    }
}
