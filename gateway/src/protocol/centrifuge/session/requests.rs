//! Commands that leave the subscriptions as they are: publish, presence, history, refresh.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::{Answer, Pending, Refused, Session, Ticket};
use crate::auth::{Refusal, TokenError};
use crate::broker::Range;
use crate::config::NamespaceId;
use crate::model::{Channel, ClientInfo, CloseReason, Identity, Payload, Publication, RawJson};
use crate::protocol::Effect;
use crate::protocol::centrifuge::code;
use crate::protocol::centrifuge::command::{ChannelRequest, HistoryRequest, PublishRequest, RefreshRequest};
use crate::protocol::centrifuge::reply::Reply;

impl Session {
    pub(super) fn publish(&self, request: PublishRequest, ticket: Ticket) -> Result<Answer, Refused> {
        if request.channel.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        if request.kind != 0 {
            return Err(code::NOT_AVAILABLE.into());
        }
        let subscribed = self.subscriptions.contains(&request.channel);
        let channel = self.admit_publish(&request.channel, subscribed)?;
        let (effect, namespace) = self.publication(channel, request.data.unwrap_or_else(Payload::empty))?;
        Ok(Answer::Wait(Pending::Publish { ticket, namespace }, effect))
    }

    /// Whether the client may publish to the channel called `name`, given whether it subscribes to it.
    ///
    /// # Errors
    /// Why not.
    pub fn admit_publish(&self, name: &str, subscribed: bool) -> Result<Channel, Refusal> {
        let channel = self.context.authority.channel(name)?;
        self.context.authority.may_publish(&self.identity, &channel, subscribed)?;
        Ok(channel)
    }

    /// Publishes `data` as this client, if the channel, whose namespace this answers too, takes such data.
    fn publication(&self, channel: Channel, data: Payload) -> Result<(Effect, NamespaceId), Refused> {
        let authority = &self.context.authority;
        if !authority.data_format(&channel).admits(&data) {
            return Err(code::BAD_REQUEST.into());
        }
        let info = Some(Box::new(self.info(self.chan_info(&channel))));
        let publication = Publication { info, ..Publication::of(data) };
        let (options, namespace) = authority.publish_options(&channel);
        Ok((Effect::Publish(channel, publication, options), namespace))
    }

    /// This client as others see it.
    pub(super) fn info(&self, chan_info: Option<RawJson>) -> ClientInfo {
        ClientInfo {
            user: self.identity.user.clone(),
            client: self.client,
            conn_info: self.identity.info.clone(),
            chan_info,
        }
    }

    /// Publishes without a command; in its manner an error cannot be told but by closing.
    pub(super) fn publish_data(&mut self, channel: &Channel, data: Payload, effects: &mut Vec<Effect>) {
        let subscribed = self.subscriptions.contains(channel.as_str());
        let admitted = self.context.authority.may_publish(&self.identity, channel, subscribed);
        match admitted.map_err(Refused::from).and_then(|()| self.publication(channel.clone(), data)) {
            Ok((effect, namespace)) => {
                let ticket = Ticket { id: 0, name: "publish", started_at: Instant::now() };
                self.pending = Some(Box::new(Pending::Publish { ticket, namespace }));
                effects.push(effect);
            }
            Err(Refused::Error(code::BAD_REQUEST)) => self.close(CloseReason::BadRequest, effects),
            Err(_) => self.close(CloseReason::PermissionDenied, effects),
        }
    }

    /// Asks who is there, or how many, by `effect`.
    pub(super) fn presence(
        &self,
        request: &ChannelRequest,
        ticket: Ticket,
        effect: fn(Channel) -> Effect,
    ) -> Result<Answer, Refused> {
        if request.channel.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        let authority = &self.context.authority;
        let channel = authority.channel(&request.channel)?;
        if !authority.has_presence(&channel) {
            return Err(code::NOT_AVAILABLE.into());
        }
        authority.may_see_presence(
            &self.identity,
            &channel,
            self.subscriptions.contains(channel.as_str()),
        )?;
        Ok(Answer::Wait(Pending::Presence(ticket), effect(channel)))
    }

    pub(super) fn history(&self, request: HistoryRequest, ticket: Ticket) -> Result<Answer, Refused> {
        if request.channel.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        let authority = &self.context.authority;
        let channel = authority.channel(&request.channel)?;
        let retention = authority.retention(&channel).ok_or(code::NOT_AVAILABLE)?;
        authority.may_read_history(
            &self.identity,
            &channel,
            self.subscriptions.contains(channel.as_str()),
        )?;
        let since = request.since.as_ref().map(|since| since.offset);
        if request.reverse && since == Some(0) {
            return Err(code::BAD_REQUEST.into());
        }
        let most = self.context.history_publications_max;
        let range = Range {
            since,
            reverse: request.reverse,
            limit: Some(usize::try_from(request.limit).map_or(most, |limit| limit.min(most))),
            bytes_max: Some(self.context.recovery_bytes_max),
        };
        let epoch = request.since.map(|since| since.epoch).unwrap_or_default();
        let effect = Effect::History(channel, range, retention.meta_ttl);
        Ok(Answer::Wait(Pending::History { ticket, epoch }, effect))
    }

    /// Takes a newer token of the same user.
    pub(super) fn refresh(&mut self, request: &RefreshRequest) -> Result<Answer, Refused> {
        if request.token.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        let identity = self.context.authenticate(&request.token).map_err(|error| match error {
            // It comes again with a fresh one, or when the clocks agree.
            TokenError::Expired | TokenError::NotYetValid => CloseReason::Expired,
            _ => CloseReason::InvalidToken,
        })?;
        if identity.user != self.identity.user {
            return Err(CloseReason::InvalidToken.into());
        }
        if listed_channels(&identity) != listed_channels(&self.identity) {
            // Only a new session gets the channels of the new token.
            return Err(CloseReason::InsufficientState.into());
        }
        let expires_at = identity.expires_at;
        Ok(Answer::After(self.become_known_as(identity), Reply::Refresh(expires_at)))
    }

    /// The client is `identity` from now on; others see it so where they see it.
    pub(super) fn become_known_as(&mut self, identity: Identity) -> Vec<Effect> {
        let mut effects = vec![Effect::Renew(identity.mark, identity.expires_at)];
        let is_seen_otherwise = identity.info != self.identity.info;
        self.identity = identity;
        if is_seen_otherwise {
            effects.extend(self.subscriptions.iter().map(|(channel, _)| self.appearance(channel)));
        }
        effects
    }

    /// Others see the client as it is now in `channel`.
    pub(super) fn appearance(&self, channel: &Channel) -> Effect {
        Effect::Appear(channel.clone(), Arc::new(self.info(self.chan_info(channel))))
    }

    /// What the subscription to `channel`, if there is one, shows of the client.
    fn chan_info(&self, channel: &Channel) -> Option<RawJson> {
        self.subscriptions.get(channel.as_str()).and_then(|(_, subscription)| subscription.info().cloned())
    }
}

/// The channels that the token subscribes its bearer to.
fn listed_channels(identity: &Identity) -> HashSet<&str> {
    let subscriptions = identity.grants.iter().flat_map(|grants| &grants.subscriptions);
    subscriptions.map(|(channel, _)| channel.as_str()).collect()
}
