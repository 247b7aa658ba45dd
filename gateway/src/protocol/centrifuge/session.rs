//! The state of a client that has authenticated: its subscriptions, and its commands in their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::code::{self, Error};
use super::command::{
    ChannelRequest, Command, HistoryRequest, PublishRequest, RefreshRequest, Request, SubscribeRequest,
};
use super::reply::Begun;
use super::{push, reply};
use crate::auth::TokenError;
use crate::broker::Range;
use crate::config::{RecoveryMode, SlowConsumer};
use crate::metrics::Source;
use crate::model::{Channel, ClientId, ClientInfo, CloseReason, Identity, Publication, RawJson};
use crate::node::Order;
use crate::node::recovery::{Follow, Mode, Since, Start};
use crate::protocol::{Context, Effect, Outcome, SubscribeError, Wanted};

/// The bit of `flag` by which a client prefers an error to a subscription that is not recovered.
const REJECT_UNRECOVERED: i64 = 2;

/// How much ceremony the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The protocol of the SDKs: a command without an id is a pong.
    Native,
    /// A command without an id is carried out; only its error is told, without an id.
    Bare,
    /// Nothing but data in either direction: what cannot be told closes the connection.
    Data,
}

/// A client that has authenticated.
#[derive(Debug)]
pub struct Session {
    context: Arc<Context>,
    client: ClientId,
    identity: Identity,
    manner: Manner,
    subscriptions: HashMap<Channel, Side>,
    pending: Option<Pending>,
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
}

/// What is to be done, in the order in which it came.
#[derive(Debug)]
enum Job {
    Command(Command),
    Order(Order),
    /// The client broke the protocol: what came before is done, then the connection closes.
    Violation(CloseReason),
    Data(Channel, RawJson),
}

/// What the session waits for.
#[derive(Debug)]
enum Pending {
    /// The subscriptions that the handshake asked for.
    Opening,
    Subscribe {
        ticket: Ticket,
        channel: Channel,
        begun: Begun,
        /// Without recovery the client wants no subscription.
        must_recover: bool,
    },
    /// The server subscribes the client.
    Enlist {
        channel: Channel,
        data: Option<RawJson>,
        is_recoverable: bool,
    },
    Publish {
        ticket: Ticket,
    },
    History {
        ticket: Ticket,
        /// What the client believes the epoch to be; empty if nothing.
        epoch: String,
    },
}

/// Who made a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// What is needed to answer a command later.
#[derive(Debug)]
struct Ticket {
    id: u32,
    name: &'static str,
    started_at: Instant,
}

/// What a command leads to.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one call")]
enum Answer {
    Reply(Vec<u8>),
    /// Give up a subscription, then reply.
    Leave(Channel, Vec<u8>),
    /// The client is good until then; then reply.
    Renew(Option<SystemTime>, Vec<u8>),
    Silence,
    Close(CloseReason),
    Wait(Pending, Effect),
}

impl Session {
    /// The session of `client`, which is `identity`.
    pub fn new(context: Arc<Context>, client: ClientId, identity: Identity, manner: Manner) -> Self {
        Self {
            context,
            client,
            identity,
            manner,
            subscriptions: HashMap::new(),
            pending: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its id.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Bytes of what waits.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Carries out `command` as soon as those before it are done.
    pub fn accept(&mut self, command: Command, effects: &mut Vec<Effect>) {
        let cost_bytes = command.cost_bytes;
        self.enqueue(Job::Command(command), cost_bytes, effects);
    }

    /// Carries out `order` as soon as the commands before it are done.
    pub fn accept_order(&mut self, order: Order, effects: &mut Vec<Effect>) {
        self.enqueue(Job::Order(order), 0, effects);
    }

    /// Publishes `data` as soon as the commands before it are done.
    pub fn accept_data(&mut self, channel: Channel, data: RawJson, effects: &mut Vec<Effect>) {
        let cost_bytes = data.as_bytes().len();
        self.enqueue(Job::Data(channel, data), cost_bytes, effects);
    }

    /// Closes as soon as the commands before are done.
    pub fn accept_violation(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        self.enqueue(Job::Violation(reason), 0, effects);
    }

    fn enqueue(&mut self, job: Job, cost_bytes: usize, effects: &mut Vec<Effect>) {
        if self.pending.is_none() && self.waiting.is_empty() {
            self.start(job, effects);
            return;
        }
        if matches!(self.waiting.back(), Some(Job::Violation(_))) {
            // It will never be carried out, so it must not take memory: a violation costs nothing by itself.
            return;
        }
        // A tiny command takes more room than its text.
        self.waiting_bytes += cost_bytes + size_of::<Job>();
        self.waiting.push_back(job);
    }

    /// Starts what waits, until something has to be waited for.
    fn resume(&mut self, effects: &mut Vec<Effect>) {
        while self.pending.is_none() {
            let Some(job) = self.waiting.pop_front() else {
                self.waiting = VecDeque::new();
                self.waiting_bytes = 0;
                return;
            };
            self.start(job, effects);
        }
    }

    fn start(&mut self, job: Job, effects: &mut Vec<Effect>) {
        match job {
            Job::Command(command) => self.execute(command, effects),
            Job::Order(Order::Subscribe { channel, data }) => self.enlist(channel, data, effects),
            Job::Order(Order::Unsubscribe { channel }) => self.expel(channel, effects),
            Job::Data(channel, data) => self.publish_data(&channel, data, effects),
            Job::Violation(reason) => self.close(reason, effects),
        }
    }

    fn close(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        // Nothing that waits is carried out any more.
        self.waiting.clear();
        effects.push(Effect::Close(reason));
    }

    fn execute(&mut self, command: Command, effects: &mut Vec<Effect>) {
        let Some(request) = command.request else { return self.close(CloseReason::BadRequest, effects) };
        let ticket = Ticket { id: command.id, name: request.name(), started_at: Instant::now() };
        let (id, name, started_at) = (ticket.id, ticket.name, ticket.started_at);
        let (outcome, answer) = match self.answer(request, ticket) {
            Ok(answer) => ("ok", answer),
            Err(error) => (error.label(), Answer::Reply(reply::error(id, error))),
        };
        match answer {
            Answer::Wait(pending, effect) => {
                self.pending = Some(pending);
                effects.push(effect);
                return;
            }
            Answer::Reply(reply) => effects.push(Effect::Send(reply)),
            Answer::Leave(channel, reply) => {
                effects.push(Effect::Unsubscribe(channel));
                effects.push(Effect::Send(reply));
            }
            Answer::Renew(expires_at, reply) => {
                effects.push(Effect::Renew(expires_at));
                effects.push(Effect::Send(reply));
            }
            Answer::Silence => {}
            Answer::Close(reason) => self.close(reason, effects),
        }
        self.context.metrics.command(name, outcome, started_at.elapsed());
    }

    fn answer(&mut self, request: Request, ticket: Ticket) -> Result<Answer, Error> {
        match request {
            // A second connect, or a ping, which no client sends.
            Request::Connect(_) | Request::Ping => Ok(Answer::Close(CloseReason::BadRequest)),
            Request::Subscribe(request) => self.subscribe(&request, ticket),
            Request::Unsubscribe(request) => Ok(self.unsubscribe(&request, ticket.id)),
            Request::Publish(request) => self.publish(request, ticket),
            Request::Presence(request) | Request::PresenceStats(request) | Request::SubRefresh(request) => {
                self.decline(&request)
            }
            Request::History(request) => self.history(request, ticket),
            Request::Rpc => Err(code::NOT_AVAILABLE),
            // Nobody listens to it; a client that says it does no harm.
            Request::Send => Ok(Answer::Silence),
            Request::Refresh(request) => Ok(self.refresh(&request, ticket.id)),
        }
    }

    fn subscribe(&mut self, request: &SubscribeRequest, ticket: Ticket) -> Result<Answer, Error> {
        let knows_delta = matches!(request.delta.as_str(), "" | "fossil");
        if request.channel.is_empty() || !knows_delta {
            return Ok(Answer::Close(CloseReason::BadRequest));
        }
        let channel = self.admit(&request.channel, !request.token.is_empty(), 0)?;
        if request.kind != 0 {
            return Err(code::NOT_AVAILABLE);
        }
        if request.has_filter {
            return Err(code::BAD_REQUEST);
        }
        let asks = (request.positioned, request.recoverable || request.recover);
        let since = request.recover.then(|| Since { epoch: request.epoch.clone(), offset: request.offset });
        let (wanted, is_recoverable) = self.wanted(channel.clone(), asks, since);
        let begun = Begun { start: None, is_recoverable, since: request.recover.then_some(request.offset) };
        let must_recover = request.flag & REJECT_UNRECOVERED != 0;
        let pending = Pending::Subscribe { ticket, channel, begun, must_recover };
        Ok(Answer::Wait(pending, Effect::Subscribe(vec![wanted])))
    }

    /// What to subscribe to `channel` with, and whether the subscription can catch up later. `asks` is whether
    /// the client asks for its position and for recovery.
    pub fn wanted(&self, channel: Channel, asks: (bool, bool), since: Option<Since>) -> (Wanted, bool) {
        let following = self.context.authority.following(&self.identity, &channel, asks.0, asks.1);
        let follow = following.map(|following| Follow {
            since: since.filter(|_| following.can_recover),
            mode: match following.mode {
                RecoveryMode::Cache if following.can_recover => Mode::Cache,
                _ => Mode::Stream,
            },
            publications_max: self.context.recovery_publications_max,
            bytes_max: self.context.recovery_bytes_max,
            meta_ttl: following.meta_ttl,
        });
        let slow_consumer = SlowConsumer::default();
        (Wanted { channel, follow, slow_consumer }, following.is_some_and(|following| following.can_recover))
    }

    /// Whether the client may subscribe to the channel called `name` now, beside `more` that are under way.
    ///
    /// # Errors
    /// The code that says why not.
    pub fn admit(&self, name: &str, has_token: bool, more: usize) -> Result<Channel, Error> {
        let authority = &self.context.authority;
        let channel = authority.channel(name)?;
        if self.subscriptions.contains_key(&channel) {
            return Err(code::ALREADY_SUBSCRIBED);
        }
        if self.subscriptions.len() + more >= self.context.channels_max {
            return Err(code::LIMIT_EXCEEDED);
        }
        if has_token {
            // A token decides by itself, and no key for subscription tokens is configured.
            return Err(code::PERMISSION_DENIED);
        }
        authority.may_subscribe(&self.identity, &channel)?;
        Ok(channel)
    }

    fn unsubscribe(&mut self, request: &ChannelRequest, id: u32) -> Answer {
        if request.channel.is_empty() {
            return Answer::Close(CloseReason::BadRequest);
        }
        let reply = reply::empty(id, "unsubscribe");
        match self.subscriptions.remove_entry(request.channel.as_str()) {
            Some((channel, _)) => Answer::Leave(channel, reply),
            None => Answer::Reply(reply),
        }
    }

    fn publish(&mut self, request: PublishRequest, ticket: Ticket) -> Result<Answer, Error> {
        if request.channel.is_empty() {
            return Ok(Answer::Close(CloseReason::BadRequest));
        }
        if request.kind != 0 {
            return Err(code::NOT_AVAILABLE);
        }
        let channel = self.context.authority.channel(&request.channel)?;
        self.may_publish(&channel)?;
        let data = request.data.ok_or(code::BAD_REQUEST)?;
        let publication = self.publication(data);
        let options = self.context.authority.publish_options(&channel);
        Ok(Answer::Wait(Pending::Publish { ticket }, Effect::Publish(channel, publication, options)))
    }

    /// Whether the client may publish to the channel called `name`, given whether it subscribes to it.
    ///
    /// # Errors
    /// The code that says why not.
    pub fn admit_publish(&self, name: &str, subscribed: bool) -> Result<Channel, Error> {
        let channel = self.context.authority.channel(name)?;
        self.context.authority.may_publish(&self.identity, &channel, subscribed)?;
        Ok(channel)
    }

    fn may_publish(&self, channel: &Channel) -> Result<(), Error> {
        let subscribed = self.subscriptions.contains_key(channel);
        Ok(self.context.authority.may_publish(&self.identity, channel, subscribed)?)
    }

    fn publication(&self, data: RawJson) -> Publication {
        let info = ClientInfo {
            user: self.identity.user.clone(),
            client: self.client,
            conn_info: self.identity.info.clone(),
            chan_info: None,
        };
        Publication { info: Some(Box::new(info)), ..Publication::of(data) }
    }

    /// Publishes without a command; in its manner an error cannot be told but by closing.
    fn publish_data(&mut self, channel: &Channel, data: RawJson, effects: &mut Vec<Effect>) {
        if self.may_publish(channel).is_err() {
            return self.close(CloseReason::PermissionDenied, effects);
        }
        let publication = self.publication(data);
        let ticket = Ticket { id: 0, name: "publish", started_at: Instant::now() };
        self.pending = Some(Pending::Publish { ticket });
        let options = self.context.authority.publish_options(channel);
        effects.push(Effect::Publish(channel.clone(), publication, options));
    }

    fn history(&self, request: HistoryRequest, ticket: Ticket) -> Result<Answer, Error> {
        if request.channel.is_empty() {
            return Ok(Answer::Close(CloseReason::BadRequest));
        }
        let authority = &self.context.authority;
        let channel = authority.channel(&request.channel)?;
        let retention = authority.retention(&channel).ok_or(code::NOT_AVAILABLE)?;
        authority.may_read_history(&self.identity, &channel, self.subscriptions.contains_key(&channel))?;
        let since = request.since.as_ref().map(|since| since.offset);
        if request.reverse && since == Some(0) {
            return Err(code::BAD_REQUEST);
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

    /// The answer to what is off: the channel is looked at first, as it would be if it were on.
    fn decline(&self, request: &ChannelRequest) -> Result<Answer, Error> {
        if request.channel.is_empty() {
            return Ok(Answer::Close(CloseReason::BadRequest));
        }
        self.context.authority.channel(&request.channel)?;
        Err(code::NOT_AVAILABLE)
    }

    /// Takes a newer token of the same user.
    fn refresh(&mut self, request: &RefreshRequest, id: u32) -> Answer {
        if request.token.is_empty() {
            return Answer::Close(CloseReason::BadRequest);
        }
        match self.context.authority.authenticate(&request.token) {
            Ok(identity) if identity.user == self.identity.user => {
                self.identity = identity;
                Answer::Renew(self.identity.expires_at, reply::refresh(id, self.identity.expires_at))
            }
            Err(TokenError::Expired) => Answer::Close(CloseReason::Expired),
            Ok(_) | Err(_) => Answer::Close(CloseReason::InvalidToken),
        }
    }

    /// The server subscribes the client. Who is subscribed already stays so.
    fn enlist(&mut self, channel: Channel, data: Option<RawJson>, effects: &mut Vec<Effect>) {
        if self.subscriptions.contains_key(&channel) {
            return;
        }
        if self.subscriptions.len() >= self.context.channels_max {
            return self.close(CloseReason::ChannelLimit, effects);
        }
        let (wanted, is_recoverable) = self.wanted(channel.clone(), (false, false), None);
        self.pending = Some(Pending::Enlist { channel, data, is_recoverable });
        effects.push(Effect::Subscribe(vec![wanted]));
    }

    /// The server ends a subscription, whoever made it.
    fn expel(&mut self, channel: Channel, effects: &mut Vec<Effect>) {
        if self.subscriptions.remove(&channel).is_none() {
            return;
        }
        let push = push::unsubscribe(&channel);
        effects.push(Effect::Unsubscribe(channel));
        self.tell(push, effects);
    }

    /// Sends a push, unless the client gets nothing but data.
    fn tell(&self, push: Vec<u8>, effects: &mut Vec<Effect>) {
        if self.manner != Manner::Data {
            effects.push(Effect::Send(push));
        }
    }

    /// Keeps commands waiting until [`opened`](Self::opened).
    pub fn hold(&mut self) {
        self.pending = Some(Pending::Opening);
    }

    /// The subscriptions that the handshake asked for are made: what waited is carried out.
    pub fn opened(&mut self, channels: impl IntoIterator<Item = Channel>, effects: &mut Vec<Effect>) {
        self.subscriptions.extend(channels.into_iter().map(|channel| (channel, Side::Client)));
        self.pending = None;
        self.resume(effects);
    }

    /// A slow effect has ended: answers its command, then goes on with what waits.
    pub fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        match (self.pending.take(), outcome) {
            (
                Some(Pending::Subscribe { ticket, channel, begun, must_recover }),
                Outcome::Subscribed(results),
            ) => match one(results) {
                Ok(start) => self.begin(&ticket, channel, &Begun { start, ..begun }, must_recover, effects),
                Err(SubscribeError::Gap(_)) => self.close(CloseReason::InsufficientState, effects),
                Err(SubscribeError::Broker(error)) => self.finish(&ticket, Err((&error).into()), effects),
            },
            (Some(Pending::Enlist { channel, data, is_recoverable }), Outcome::Subscribed(results)) => {
                match one(results) {
                    Ok(start) => {
                        let begun = Begun { start, is_recoverable, since: None };
                        self.tell(push::subscribe(&channel, &begun, data.as_ref()), effects);
                        self.subscriptions.insert(channel, Side::Server);
                    }
                    // The caller was told that it is done; only a new session makes that true.
                    Err(SubscribeError::Gap(_)) => self.close(CloseReason::InsufficientState, effects),
                    Err(SubscribeError::Broker(_)) => self.close(CloseReason::Internal, effects),
                }
            }
            (Some(Pending::History { ticket, epoch }), Outcome::History(result)) => {
                let result = result.map_err(|error| (&error).into()).and_then(|history| {
                    let is_known = epoch.is_empty() || epoch == history.top.epoch.as_str();
                    is_known.then(|| reply::history(ticket.id, &history)).ok_or(code::UNRECOVERABLE_POSITION)
                });
                self.finish(&ticket, result, effects);
            }
            (Some(Pending::Publish { ticket }), Outcome::Published(result)) => {
                if result.is_ok() {
                    self.context.metrics.publications_received(Source::Client, 1);
                }
                let result = result.map_err(|error| (&error).into());
                let result = result.map(|()| reply::empty(ticket.id, "publish"));
                self.finish(&ticket, result, effects);
            }
            (pending, outcome) => unreachable!("{outcome:?} is no answer to {pending:?}"),
        }
        self.resume(effects);
    }

    /// Answers a `subscribe` that the broker and the shard have carried out.
    fn begin(
        &mut self,
        ticket: &Ticket,
        channel: Channel,
        begun: &Begun,
        must_recover: bool,
        effects: &mut Vec<Effect>,
    ) {
        let recovered = self.count_recovery(begun);
        if must_recover && begun.since.is_some() && recovered == Some(false) {
            effects.push(Effect::Unsubscribe(channel));
            return self.finish(ticket, Err(code::UNRECOVERABLE_POSITION), effects);
        }
        self.subscriptions.insert(channel, Side::Client);
        self.finish(ticket, Ok(reply::subscribe(ticket.id, begun)), effects);
    }

    /// Counts whether a subscriber has caught up, if it asked for that, and says so.
    pub fn count_recovery(&self, begun: &Begun) -> Option<bool> {
        let recovered = begun.start.as_ref().and_then(|start| start.recovered);
        if let Some(recovered) = recovered {
            self.context.metrics.recovery(recovered);
        }
        recovered
    }

    /// The subscription missed something. The client can begin it anew, if it made it itself and can be told.
    pub fn on_lost(&mut self, channel: Channel, effects: &mut Vec<Effect>) {
        if self.subscriptions.remove(&channel) == Some(Side::Client) && self.manner != Manner::Data {
            let push = push::insufficient_state(&channel);
            effects.push(Effect::Unsubscribe(channel));
            effects.push(Effect::Send(push));
        } else {
            self.close(CloseReason::InsufficientState, effects);
        }
    }

    /// Answers a command that had to wait.
    fn finish(&mut self, ticket: &Ticket, result: Result<Vec<u8>, Error>, effects: &mut Vec<Effect>) {
        let outcome = result.as_ref().err().map_or("ok", |error| error.label());
        self.context.metrics.command(ticket.name, outcome, ticket.started_at.elapsed());
        match (result, self.manner) {
            (Ok(_), Manner::Data) => {}
            (Ok(_), _) if ticket.id == 0 && ticket.name == "publish" => {}
            (Err(error), Manner::Data) if error == code::TOO_MANY_REQUESTS => {
                self.close(CloseReason::TooManyRequests, effects);
            }
            (Err(_), Manner::Data) => self.close(CloseReason::Internal, effects),
            (Ok(reply), _) => effects.push(Effect::Send(reply)),
            (Err(error), _) => effects.push(Effect::Send(reply::error(ticket.id, error))),
        }
    }
}

/// The result of subscribing to one channel.
fn one(results: Vec<Result<Option<Start>, SubscribeError>>) -> Result<Option<Start>, SubscribeError> {
    results.into_iter().next().expect("each wanted channel is answered")
}
