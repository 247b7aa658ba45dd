//! Subscriptions: how they begin, how they are prolonged, and how they end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Answer, Manner, Pending, Refused, Session, Ticket};
use crate::auth::{Asks, SubscriptionTokenError};
use crate::config::RecoveryMode;
use crate::model::{Channel, CloseReason, RawJson, Secret, SubscriptionGrant};
use crate::node::recovery::{Follow, Mode, Since, Start};
use crate::node::{Attendance, Entrant};
use crate::protocol::centrifuge::code;
use crate::protocol::centrifuge::command::{ChannelRequest, SubRefreshRequest, SubscribeRequest};
use crate::protocol::centrifuge::push::{Ended, Push};
use crate::protocol::centrifuge::reply::{Begun, Reply};
use crate::protocol::{Effect, SubscribeError, Wanted};

/// The bit of `flag` by which a client prefers an error to a subscription that is not recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// Who made a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The client, by its own right.
    Client,
    /// The client, with a token that it can renew.
    ClientWithToken,
    /// The server.
    Server,
}

/// A subscription that there is.
#[derive(Debug)]
pub(super) struct Subscription {
    side: Side,
    /// Boxed: most have none.
    details: Option<Box<Details>>,
}

/// What only some subscriptions have.
#[derive(Debug)]
struct Details {
    info: Option<RawJson>,
    expires_at: Option<SystemTime>,
}

impl Subscription {
    pub(super) fn new(side: Side, grant: &SubscriptionGrant) -> Self {
        let is_plain = grant.info.is_none() && grant.expires_at.is_none();
        let details = || Box::new(Details { info: grant.info.clone(), expires_at: grant.expires_at });
        Self { side, details: (!is_plain).then(details) }
    }

    /// Its `chan_info`.
    pub(super) fn info(&self) -> Option<&RawJson> {
        self.details.as_ref()?.info.as_ref()
    }

    /// When what allowed it ends.
    fn expires_at(&self) -> Option<SystemTime> {
        self.details.as_ref()?.expires_at
    }
}

/// What is asked of a subscription.
#[derive(Debug)]
pub(super) struct Wish {
    /// Who makes it.
    pub(super) side: Side,
    /// What the client asks for.
    pub(super) asks: Asks,
    /// Where it was in the history; `None` if it does not want to catch up.
    pub(super) since: Option<Since>,
    /// Whether it wants nothing less.
    pub(super) must_recover: bool,
    /// What allows it.
    pub(super) grant: SubscriptionGrant,
}

impl Wish {
    /// Nothing in particular.
    pub(super) fn of(side: Side) -> Self {
        let grant = SubscriptionGrant::default();
        Self { side, asks: Asks::default(), since: None, must_recover: false, grant }
    }
}

/// A subscription that may be made.
#[derive(Debug)]
pub struct Admitted {
    /// What to subscribe with.
    pub wanted: Wanted,
    begun: Begun,
    subscription: Subscription,
}

impl SubscribeRequest {
    /// Where the client wants to catch up from.
    pub(super) fn since(&self) -> Option<Since> {
        self.recover.then(|| Since { epoch: self.epoch.clone(), offset: self.offset })
    }
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        request: &SubscribeRequest,
        ticket: Ticket,
    ) -> Result<Answer, Refused> {
        let knows_delta = matches!(request.delta.as_str(), "" | "fossil");
        if request.channel.is_empty() || !knows_delta {
            return Err(CloseReason::BadRequest.into());
        }
        let channel = self.vacant(&request.channel, 0)?;
        if request.kind != 0 {
            return Err(code::NOT_AVAILABLE.into());
        }
        if request.has_filter {
            return Err(code::BAD_REQUEST.into());
        }
        let (side, grant) = self.allow(&channel, &request.token)?;
        let asks = Asks {
            positioned: request.positioned,
            recoverable: request.recoverable || request.recover,
            join_leave: request.join_leave,
        };
        let must_recover = request.flag & REJECT_UNRECOVERED != 0 && request.recover;
        let admitted =
            self.prepare(channel, Wish { side, asks, since: request.since(), must_recover, grant });
        let effect = Effect::Subscribe(vec![admitted.wanted.clone()]);
        Ok(Answer::Wait(Pending::Subscribe { ticket, admitted: Box::new(admitted) }, effect))
    }

    /// Whether the client may subscribe to the channel called `name` by itself, beside `more` that are under way.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(
        &self,
        name: &str,
        more: usize,
        asks: Asks,
        since: Option<Since>,
    ) -> Result<Admitted, Refused> {
        let channel = self.vacant(name, more)?;
        let (side, grant) = self.allow(&channel, &Secret::default())?;
        Ok(self.prepare(channel, Wish { asks, since, grant, ..Wish::of(side) }))
    }

    /// The channel called `name`, if there is room for it beside `more`.
    fn vacant(&self, name: &str, more: usize) -> Result<Channel, Refused> {
        let channel = self.context.authority.channel(name)?;
        if self.subscriptions.contains(channel.as_str()) {
            return Err(code::ALREADY_SUBSCRIBED.into());
        }
        if self.subscriptions.len() + more >= self.context.channels_max {
            return Err(code::LIMIT_EXCEEDED.into());
        }
        Ok(channel)
    }

    /// What allows the client to subscribe: its `token`, which decides alone, or the rules.
    fn allow(&self, channel: &Channel, token: &Secret) -> Result<(Side, SubscriptionGrant), Refused> {
        let authority = &self.context.authority;
        if token.is_empty() {
            authority.may_subscribe(&self.identity, channel)?;
            return Ok((Side::Client, SubscriptionGrant::default()));
        }
        match authority.authorize(token, &self.identity, self.client, channel) {
            Ok(grant) => Ok((Side::ClientWithToken, grant)),
            Err(SubscriptionTokenError::Bad) => Err(code::PERMISSION_DENIED.into()),
            Err(SubscriptionTokenError::Expired) => Err(code::TOKEN_EXPIRED.into()),
            Err(SubscriptionTokenError::Foreign) => Err(CloseReason::InvalidToken.into()),
        }
    }

    /// What a subscription to `channel` will be.
    pub(super) fn prepare(&self, channel: Channel, wish: Wish) -> Admitted {
        let Wish { side, asks, mut since, must_recover, grant } = wish;
        let terms = self.context.authority.terms(&self.identity, &channel, asks, &grant.overrides);
        if terms.auto_cache_recover && since.is_none() {
            since = Some(Since { epoch: String::new(), offset: 0 });
        }
        let begun = Begun {
            is_recoverable: terms.following.is_some_and(|following| following.can_recover),
            since: since.as_ref().map(|since| since.offset),
            expires_at: grant.expires_at.filter(|_| side == Side::ClientWithToken),
            data: grant.data.clone(),
            ..Begun::default()
        };
        let follow = terms.following.map(|following| Follow {
            since: since.filter(|_| following.can_recover),
            mode: match following.mode {
                RecoveryMode::Cache if following.can_recover => Mode::Cache,
                _ => Mode::Stream,
            },
            publications_max: self.context.recovery_publications_max,
            bytes_max: self.context.recovery_bytes_max,
            meta_ttl: following.meta_ttl,
        });
        let attendance = Attendance { is_listed: terms.is_listed, is_announced: terms.is_announced };
        let is_seen = attendance.is_listed || attendance.is_announced;
        let leave_grace = terms.leave_grace;
        let entrant = || Entrant { info: Arc::new(self.info(grant.info.clone())), attendance, leave_grace };
        let subscription = Subscription::new(side, &grant);
        let wanted = Wanted {
            channel,
            follow,
            must_recover,
            hears_notices: terms.hears_notices && self.manner != Manner::Data,
            entrant: is_seen.then(entrant),
            slow_consumer: terms.slow_consumer,
            namespace: terms.namespace,
        };
        Admitted { wanted, begun, subscription }
    }

    /// The subscription is made: it is among those of the session from now on.
    pub fn begin(&mut self, admitted: Admitted, start: Option<Start>) -> (Channel, Begun) {
        let Admitted { wanted: Wanted { channel, .. }, begun, subscription } = admitted;
        self.expiries_changed |= subscription.expires_at().is_some();
        self.subscriptions.insert(channel.clone(), subscription);
        let begun = Begun { start, ..begun };
        if let Some(recovered) = begun.recovered() {
            self.context.metrics.recovery(recovered);
            if recovered {
                let count = begun.start.as_ref().map_or(0, |start| start.publications.len());
                self.context.metrics.recovered_publications(count);
            }
        }
        (channel, begun)
    }

    /// Answers a `subscribe` that the broker and the shard have carried out.
    pub(super) fn subscribed(
        &mut self,
        ticket: &Ticket,
        admitted: Admitted,
        result: Result<Option<Start>, SubscribeError>,
        effects: &mut Vec<Effect>,
    ) {
        let result = match result {
            Ok(start) => Ok(Reply::Subscribe(Box::new(self.begin(admitted, start).1))),
            Err(SubscribeError::Gap(_)) => return self.close(CloseReason::InsufficientState, effects),
            Err(error) => {
                if matches!(error, SubscribeError::Unrecoverable) {
                    self.context.metrics.recovery(false);
                }
                Err((&error).into())
            }
        };
        self.finish(ticket, result, effects);
    }

    /// The server subscribes the client. Who is subscribed already stays so.
    pub(super) fn enlist(
        &mut self,
        channel: Channel,
        grant: SubscriptionGrant,
        since: Option<Since>,
        effects: &mut Vec<Effect>,
    ) {
        if self.subscriptions.contains(channel.as_str()) {
            return;
        }
        if self.subscriptions.len() >= self.context.channels_max {
            return self.close(CloseReason::ChannelLimit, effects);
        }
        let admitted = self.prepare(channel, Wish { since, grant, ..Wish::of(Side::Server) });
        effects.push(Effect::Subscribe(vec![admitted.wanted.clone()]));
        self.pending = Some(Box::new(Pending::Enlist(Box::new(admitted))));
    }

    /// The push that tells of it has no place for publications: those it caught up with follow as pushes.
    pub(super) fn enlisted(
        &mut self,
        admitted: Admitted,
        result: Result<Option<Start>, SubscribeError>,
        effects: &mut Vec<Effect>,
    ) {
        match result {
            Ok(start) => {
                let (channel, begun) = self.begin(admitted, start);
                self.tell(&Push::Subscribe(&channel, &begun), effects);
                for publication in begun.start.iter().flat_map(|start| &start.publications) {
                    self.tell(&Push::Publication(&channel, publication), effects);
                }
            }
            // The caller was told that it is done; only a new session makes that true.
            Err(SubscribeError::Gap(_)) => self.close(CloseReason::InsufficientState, effects),
            Err(_) => self.close(CloseReason::Internal, effects),
        }
    }

    pub(super) fn unsubscribe(&mut self, request: &ChannelRequest) -> Result<Answer, Refused> {
        if request.channel.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        match self.subscriptions.remove(&request.channel) {
            Some((channel, _)) => Ok(Answer::After(vec![Effect::Unsubscribe(channel)], Reply::Unsubscribe)),
            None => Ok(Answer::Reply(Reply::Unsubscribe)),
        }
    }

    /// The server ends a subscription, whoever made it.
    pub(super) fn expel(&mut self, channel: &Channel, effects: &mut Vec<Effect>) {
        if self.subscriptions.remove(channel.as_str()).is_some() {
            effects.push(Effect::Unsubscribe(channel.clone()));
            self.tell(&Push::Unsubscribe(channel, Ended::ByServer), effects);
        }
    }

    /// The subscription missed something. The client can begin it anew, if it made it itself and can be told.
    pub fn on_lost(&mut self, channel: &Channel, effects: &mut Vec<Effect>) {
        self.lose(channel, Ended::InsufficientState, CloseReason::InsufficientState, effects);
    }

    /// Ends a subscription that the client can begin anew; what it cannot begin anew ends with the connection.
    fn lose(&mut self, channel: &Channel, ended: Ended, otherwise: CloseReason, effects: &mut Vec<Effect>) {
        let side = self.subscriptions.remove(channel.as_str()).map(|(_, subscription)| subscription.side);
        if matches!(side, Some(Side::Client | Side::ClientWithToken)) && self.manner != Manner::Data {
            effects.push(Effect::Unsubscribe(channel.clone()));
            self.tell(&Push::Unsubscribe(channel, ended), effects);
        } else {
            self.close(otherwise, effects);
        }
    }

    /// Takes a newer token for a subscription that was made with one.
    pub(super) fn refresh_subscription(&mut self, request: &SubRefreshRequest) -> Result<Answer, Refused> {
        if request.channel.is_empty() {
            return Err(CloseReason::BadRequest.into());
        }
        if request.kind != 0 {
            return Err(code::NOT_AVAILABLE.into());
        }
        let known = self.subscriptions.get(&request.channel);
        let (channel, subscription) = known.ok_or(code::PERMISSION_DENIED)?;
        if subscription.side != Side::ClientWithToken {
            return Err(CloseReason::BadRequest.into());
        }
        if request.token.is_empty() {
            return Err(code::BAD_REQUEST.into());
        }
        let grant = self.context.authority.authorize(&request.token, &self.identity, self.client, channel);
        let grant = grant.map_err(|error| match error {
            SubscriptionTokenError::Expired => Refused::Error(code::TOKEN_EXPIRED),
            SubscriptionTokenError::Bad | SubscriptionTokenError::Foreign => {
                Refused::Close(CloseReason::InvalidToken)
            }
        })?;
        let subscription = Subscription::new(Side::ClientWithToken, &grant);
        self.expiries_changed = true;
        let channel = channel.clone();
        let before = self.subscriptions.insert(channel.clone(), subscription);
        let is_seen_otherwise = before.is_some_and(|before| before.info() != grant.info.as_ref());
        let seen = is_seen_otherwise.then(|| self.appearance(&channel));
        Ok(Answer::After(seen.into_iter().collect(), Reply::SubRefresh(grant.expires_at)))
    }

    /// Ends the subscriptions that were not prolonged in time, in the order of their ends, then by name.
    pub(super) fn end_expired(&mut self, effects: &mut Vec<Effect>) {
        let now = SystemTime::now();
        let is_over = |end| self.with_grace(end).is_some_and(|end| end <= now);
        let ends = self.subscriptions.iter().filter_map(|(channel, one)| Some((one.expires_at()?, channel)));
        let expired: BTreeSet<_> = ends.filter(|(end, _)| is_over(*end)).collect();
        for channel in expired.into_iter().map(|(_, channel)| channel.clone()).collect::<Vec<_>>() {
            self.lose(&channel, Ended::Expired, CloseReason::SubscriptionExpired, effects);
            if matches!(effects.last(), Some(Effect::Close(_))) {
                return;
            }
        }
        self.expiries_changed = true;
        self.watch_expiries(effects);
    }

    /// Asks to be reminded of the first subscription that ends, if any does.
    pub(super) fn watch_expiries(&mut self, effects: &mut Vec<Effect>) {
        let is_closing = matches!(effects.last(), Some(Effect::Close(_)));
        if !std::mem::take(&mut self.expiries_changed) || is_closing {
            return;
        }
        let ends = self.subscriptions.iter().filter_map(|(_, subscription)| subscription.expires_at());
        if let Some(first) = ends.min().and_then(|first| self.with_grace(first)) {
            effects.push(Effect::Remind(first));
        }
    }

    /// When a subscription that is good until `end` is given up; `None` if that is beyond the clock, and so never.
    fn with_grace(&self, end: SystemTime) -> Option<SystemTime> {
        end.checked_add(self.context.expired_sub_close_delay)
    }
}

/// The result of subscribing to one channel.
pub(super) fn one(
    results: Vec<Result<Option<Start>, SubscribeError>>,
) -> Result<Option<Start>, SubscribeError> {
    results.into_iter().next().expect("each wanted channel is answered")
}
