use std::fmt;
use std::time::{Duration, SystemTime};

use super::{KeyError, TokenError, TokenVerifier, grants};
use crate::broker::{PublishOptions, Retention};
use crate::config::{ChannelOptions, Channels, Client, RecoveryMode};
use crate::model::{Channel, Identity, Secret};

/// Why a client may not do something with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name breaks the rules for names.
    #[error("bad channel name")]
    BadChannel,
    /// Its namespace is not configured.
    #[error("unknown namespace")]
    UnknownNamespace,
    /// No right to do it.
    #[error("permission denied")]
    Denied,
}

impl From<grants::Denied> for Refusal {
    fn from(_: grants::Denied) -> Self {
        Self::Denied
    }
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

/// Who a token stands for and what its bearer may do, as the configuration says.
pub struct Authority {
    verifier: TokenVerifier,
    channels: Channels,
    channel_bytes_max: usize,
    anonymous: bool,
    insecure: bool,
}

impl Authority {
    /// Decides by `client` and the options of `channels`.
    ///
    /// # Errors
    /// [`KeyError`] if a key of the configuration cannot be used.
    pub fn new(client: &Client, channels: Channels, channel_bytes_max: usize) -> Result<Self, KeyError> {
        Ok(Self {
            verifier: TokenVerifier::for_connections(client)?,
            channels,
            channel_bytes_max,
            anonymous: client.anonymous,
            insecure: client.insecure,
        })
    }

    /// Verifies a connection token.
    ///
    /// # Errors
    /// [`TokenError`] with the rule that it breaks.
    pub fn authenticate(&self, token: &Secret) -> Result<Identity, TokenError> {
        self.verifier.verify(token.expose(), SystemTime::now())
    }

    /// The identity of a client without a token; `None` if it needs one.
    pub fn anonymous(&self) -> Option<Identity> {
        (self.anonymous || self.insecure).then(Identity::default)
    }

    /// The channel called `name`, if it may exist.
    ///
    /// # Errors
    /// [`Refusal::BadChannel`] or [`Refusal::UnknownNamespace`].
    pub fn channel(&self, name: &str) -> Result<Channel, Refusal> {
        let channel = Channel::parse(name, self.channel_bytes_max).map_err(|_| Refusal::BadChannel)?;
        if self.options(&channel)?.admits(&channel) { Ok(channel) } else { Err(Refusal::BadChannel) }
    }

    /// Whether the client may subscribe to `channel` without a token for it.
    ///
    /// # Errors
    /// [`Refusal`] if not.
    pub fn may_subscribe(&self, identity: &Identity, channel: &Channel) -> Result<(), Refusal> {
        let options = self.options(channel)?;
        Ok(grants::may_subscribe(identity, channel, options, self.insecure)?)
    }

    /// Whether the client, `subscribed` to `channel` or not, may publish to it.
    ///
    /// # Errors
    /// [`Refusal`] if not.
    pub fn may_publish(
        &self,
        identity: &Identity,
        channel: &Channel,
        subscribed: bool,
    ) -> Result<(), Refusal> {
        let options = self.options(channel)?;
        Ok(grants::may_publish(identity, options, subscribed, self.insecure)?)
    }

    /// Whether the client, `subscribed` to `channel` or not, may read its history.
    ///
    /// # Errors
    /// [`Refusal`] if not.
    pub fn may_read_history(
        &self,
        identity: &Identity,
        channel: &Channel,
        subscribed: bool,
    ) -> Result<(), Refusal> {
        let options = self.options(channel)?;
        Ok(grants::may_read_history(identity, options, subscribed, self.insecure)?)
    }

    /// How the broker is to treat publications to `channel`.
    pub fn publish_options(&self, channel: &Channel) -> PublishOptions {
        let idempotency_ttl = self.channels.idempotency_ttl();
        PublishOptions { retention: self.retention(channel), idempotency_ttl }
    }

    /// How `channel` keeps what is published; `None` if it has no history.
    pub fn retention(&self, channel: &Channel) -> Option<Retention> {
        let options = self.options(channel).ok().filter(|options| options.has_history())?;
        Some(Retention {
            size: options.history_size,
            ttl: options.history_ttl,
            meta_ttl: self.channels.history_meta_ttl(options),
        })
    }

    /// How a subscriber follows the history of `channel`; `None` if it does not. `positioned` and `recoverable`
    /// say what it asks for; who may read the history gets it.
    pub fn following(
        &self,
        identity: &Identity,
        channel: &Channel,
        positioned: bool,
        recoverable: bool,
    ) -> Option<Following> {
        let options = self.options(channel).ok()?;
        let meta_ttl = self.retention(channel)?.meta_ttl;
        let may_read = self.may_read_history(identity, channel, true).is_ok();
        let can_recover = options.force_recovery || (recoverable && (options.allow_recovery || may_read));
        let is_positioned =
            options.force_positioning || (positioned && (options.allow_positioning || may_read));
        let mode = options.force_recovery_mode;
        (can_recover || is_positioned).then_some(Following { can_recover, mode, meta_ttl })
    }

    fn options(&self, channel: &Channel) -> Result<&ChannelOptions, Refusal> {
        self.channels.resolve(channel).map_err(|_| Refusal::UnknownNamespace)
    }
}

impl fmt::Debug for Authority {
    /// Says nothing of keys.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authority")
    }
}
