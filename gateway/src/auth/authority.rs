use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::terms::{self, Access};
use super::{Asks, KeyError, Revocations, Terms, TokenError, TokenVerifier, grants};
use crate::broker::{PublishOptions, Retention};
use crate::config::{ChannelOptions, Channels, Client, DataFormat, NamespaceId, PersonalChannel};
use crate::model::{Channel, ClientId, Identity, Overrides, Secret, SubscriptionGrant, UserId};

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

/// Why a subscription token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionTokenError {
    /// Malformed, badly signed, revoked, or with claims that are missing or not acceptable.
    #[error("bad subscription token")]
    Bad,
    /// Good at another time: the client should bring a fresh one.
    #[error("the subscription token has expired")]
    Expired,
    /// Good, but for another channel, user or client.
    #[error("the subscription token is for another subscription")]
    Foreign,
}

impl From<TokenError> for SubscriptionTokenError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Expired | TokenError::NotYetValid => Self::Expired,
            _ => Self::Bad,
        }
    }
}

/// Who a token stands for and what its bearer may do, as the configuration says.
pub struct Authority {
    connections: TokenVerifier,
    subscriptions: TokenVerifier,
    revocations: Arc<Revocations>,
    personal: PersonalChannel,
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
            connections: TokenVerifier::for_connections(client)?,
            subscriptions: TokenVerifier::for_subscriptions(client)?,
            revocations: Arc::default(),
            personal: client.subscribe_to_user_personal_channel.clone(),
            channels,
            channel_bytes_max,
            anonymous: client.anonymous,
            insecure: client.insecure,
        })
    }

    /// The tokens that it refuses though they are good. Whoever hears of a revocation adds it there.
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Verifies a connection token.
    ///
    /// # Errors
    /// [`TokenError`] with the rule that it breaks.
    pub fn authenticate(&self, token: &Secret) -> Result<Identity, TokenError> {
        let identity = self.connections.verify(token.expose(), SystemTime::now())?;
        if self.revocations.include(&identity.user, identity.mark) {
            return Err(TokenError::Revoked);
        }
        Ok(identity)
    }

    /// What a subscription token grants `client` of `identity` for `channel`, whatever the namespace says.
    ///
    /// # Errors
    /// [`SubscriptionTokenError`] if nothing.
    pub fn authorize(
        &self,
        token: &Secret,
        identity: &Identity,
        client: ClientId,
        channel: &Channel,
    ) -> Result<SubscriptionGrant, SubscriptionTokenError> {
        let claims = self.subscriptions.verify_subscription(token.expose(), SystemTime::now())?;
        if self.revocations.include(&claims.user, claims.mark) {
            return Err(SubscriptionTokenError::Bad);
        }
        if claims.are_for(&identity.user, client, channel) {
            Ok(claims.grant)
        } else {
            Err(SubscriptionTokenError::Foreign)
        }
    }

    /// The identity of a client without a token; `None` if it needs one.
    pub fn anonymous(&self) -> Option<Identity> {
        (self.anonymous || self.insecure).then(Identity::default)
    }

    /// The name of the channel that each connection of `user` is subscribed to; `None` if there is none.
    ///
    /// As with every name, [`channel`](Self::channel) says whether it may exist: a user id may hold what a
    /// channel may not.
    pub fn personal_channel(&self, user: &UserId) -> Option<String> {
        if !self.personal.enabled || user.is_anonymous() {
            return None;
        }
        Some(match self.personal.namespace.as_str() {
            "" => format!("#{user}"),
            namespace => format!("{namespace}:#{user}"),
        })
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
        Ok(grants::may_publish(identity, channel, options, subscribed, self.insecure)?)
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
        Ok(grants::may_read_history(identity, channel, options, subscribed, self.insecure)?)
    }

    /// Whether the client, `subscribed` to `channel` or not, may see who is present in it.
    ///
    /// # Errors
    /// [`Refusal`] if not.
    pub fn may_see_presence(
        &self,
        identity: &Identity,
        channel: &Channel,
        subscribed: bool,
    ) -> Result<(), Refusal> {
        let options = self.options(channel)?;
        Ok(grants::may_see_presence(identity, channel, options, subscribed, self.insecure)?)
    }

    /// How the broker is to treat publications to `channel`, and its namespace.
    pub fn publish_options(&self, channel: &Channel) -> (PublishOptions, NamespaceId) {
        let options = self.options(channel).ok();
        let retention = options.and_then(|options| self.retention_by(options));
        let idempotency_ttl = self.channels.idempotency_ttl();
        let namespace = options.map_or(NamespaceId::UNKNOWN, |options| options.id);
        (PublishOptions { retention, idempotency_ttl }, namespace)
    }

    /// How `channel` keeps what is published; `None` if it has no history.
    pub fn retention(&self, channel: &Channel) -> Option<Retention> {
        self.retention_by(self.options(channel).ok()?)
    }

    fn retention_by(&self, options: &ChannelOptions) -> Option<Retention> {
        options.has_history().then(|| Retention {
            size: options.history_size,
            ttl: options.history_ttl,
            meta_ttl: self.channels.history_meta_ttl(options),
        })
    }

    /// Whether it is known who is subscribed to `channel`.
    pub fn has_presence(&self, channel: &Channel) -> bool {
        self.options(channel).is_ok_and(|options| options.presence)
    }

    /// What the data of publications to `channel` must be.
    pub fn data_format(&self, channel: &Channel) -> DataFormat {
        self.options(channel)
            .map_or_else(|_| DataFormat::default(), |options| self.channels.data_format(options))
    }

    /// What a subscription of the client to `channel` comes with, when it `asks` for that and whoever allowed it
    /// made these `overrides`. What is not granted is left out, not refused.
    pub fn terms(&self, identity: &Identity, channel: &Channel, asks: Asks, overrides: &Overrides) -> Terms {
        let Ok(options) = self.options(channel) else { return Terms::default() };
        let access = Access {
            history: self.may_read_history(identity, channel, true).is_ok(),
            presence: self.may_see_presence(identity, channel, true).is_ok(),
        };
        let meta_ttl = self.retention(channel).map(|retention| retention.meta_ttl);
        terms::resolve(options, overrides, meta_ttl, asks, access)
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

#[cfg(test)]
mod tests;
