//! The state of a client that has authenticated: its subscriptions, and its commands in their order.
//!
//! This file owns what waits and what is under way. What a command means is in `session/`: how a session opens,
//! subscriptions, and requests that leave them as they are.

mod by_channel;
mod flood;
mod opening;
mod requests;
mod subscriptions;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use self::by_channel::ByChannel;
use self::flood::Flood;
use self::opening::Opening;
pub use self::opening::all_wanted;
pub use self::subscriptions::Admitted;
use self::subscriptions::one;
use super::Codec;
use super::code::{self, Error};
use super::command::{Command, Request};
use super::push::Push;
use super::reply::Reply;
use crate::auth::Refusal;
use crate::config::NamespaceId;
use crate::metrics::{Origin, Source};
use crate::model::{Channel, ClientId, CloseReason, Identity, Payload};
use crate::node::{Order, PublishError};
use crate::protocol::{Context, Effect, Inappropriate, Outcome};

/// Most commands that wait for another. Tiny ones take thirty times the room of their bytes, so a limit in bytes is
/// not enough.
const WAITING_MAX: usize = 4_096;

/// A presence of more members is told in pieces.
const MEMBERS_AT_ONCE_MAX: usize = 100;

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
    codec: Codec,
    subscriptions: ByChannel,
    /// Boxed: mostly there is none.
    pending: Option<Box<Pending>>,
    waiting: VecDeque<Job>,
    waiting_bytes: usize,
    errors: Flood,
    /// There may be another subscription that ends first.
    expiries_changed: bool,
}

// One of the allocator's places; the next larger is of 256 bytes.
const _: () = assert!(size_of::<Session>() <= 224);

/// What is to be done, in the order in which it came.
#[derive(Debug)]
enum Job {
    Command(Command),
    Order(Order),
    /// The client broke the protocol: what came before is done, then the connection closes.
    Violation(CloseReason),
    Data(Channel, Payload),
    /// Look which subscriptions have outlived what allowed them.
    Expiries,
}

/// What the session waits for.
#[derive(Debug)]
enum Pending {
    /// The subscriptions that the handshake of the bare form asked for.
    Handshake,
    /// Those that the server makes when the session opens.
    Opening(Opening),
    Subscribe {
        ticket: Ticket,
        admitted: Box<Admitted>,
    },
    /// The server subscribes the client.
    Enlist(Box<Admitted>),
    Publish {
        ticket: Ticket,
        namespace: NamespaceId,
    },
    History {
        ticket: Ticket,
        /// What the client believes the epoch to be; empty if nothing.
        epoch: String,
    },
    Presence(Ticket),
}

/// What is needed to answer a command later.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) id: u32,
    pub(super) name: &'static str,
    pub(super) started_at: Instant,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The client is told.
    Error(Error),
    /// The connection closes.
    Close(CloseReason),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal.into())
    }
}

impl From<CloseReason> for Refused {
    fn from(reason: CloseReason) -> Self {
        Self::Close(reason)
    }
}

/// What a command leads to.
#[derive(Debug)]
enum Answer {
    Reply(Reply),
    /// Do this, then reply.
    After(Vec<Effect>, Reply),
    Silence,
    Wait(Pending, Effect),
}

impl Session {
    /// The session of `client`, which is `identity`.
    pub fn new(
        context: Arc<Context>,
        client: ClientId,
        identity: Identity,
        (manner, codec): (Manner, Codec),
    ) -> Self {
        Self {
            context,
            client,
            identity,
            manner,
            codec,
            subscriptions: ByChannel::default(),
            pending: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            errors: Flood::default(),
            expiries_changed: false,
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
    pub fn accept_data(&mut self, channel: Channel, data: Payload, effects: &mut Vec<Effect>) {
        let cost_bytes = data.as_bytes().len();
        self.enqueue(Job::Data(channel, data), cost_bytes, effects);
    }

    /// Closes as soon as the commands before are done.
    pub fn accept_violation(&mut self, reason: CloseReason, effects: &mut Vec<Effect>) {
        self.enqueue(Job::Violation(reason), 0, effects);
    }

    /// Looks, as soon as the commands before are done, which subscriptions have come to their end.
    pub fn on_reminder(&mut self, effects: &mut Vec<Effect>) {
        self.enqueue(Job::Expiries, 0, effects);
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
        if self.waiting.len() >= WAITING_MAX {
            // What waits is carried out, then it closes.
            self.waiting.push_back(Job::Violation(CloseReason::TooManyRequests));
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
            Job::Order(order) => self.obey(order, effects),
            Job::Data(channel, data) => self.publish_data(&channel, data, effects),
            Job::Violation(reason) => self.close(reason, effects),
            Job::Expiries => self.end_expired(effects),
        }
    }

    fn obey(&mut self, order: Order, effects: &mut Vec<Effect>) {
        match order {
            Order::Subscribe { channel, grant, since } => self.enlist(channel, grant, since, effects),
            Order::Unsubscribe { channel } => self.expel(&channel, effects),
            Order::Refresh { expires_at, info } => {
                let info = info.or_else(|| self.identity.info.clone());
                let identity = Identity { expires_at, info, ..self.identity.clone() };
                effects.extend(self.become_known_as(identity));
                self.tell(&Push::Refresh(expires_at), effects);
            }
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
        let mut outcome = "ok";
        match self.answer(request, ticket) {
            Ok(Answer::Wait(pending, effect)) => {
                self.pending = Some(Box::new(pending));
                effects.push(effect);
                return;
            }
            Ok(Answer::Reply(reply)) => self.reply(id, &reply, effects),
            Ok(Answer::After(first, reply)) => {
                effects.extend(first);
                self.reply(id, &reply, effects);
            }
            Ok(Answer::Silence) => {}
            Err(Refused::Error(error)) => {
                outcome = error.label();
                self.reply(id, &Reply::Error(error), effects);
            }
            Err(Refused::Close(reason)) => {
                outcome = reason.label();
                self.close(reason, effects);
            }
        }
        self.context.metrics.command(name, outcome, started_at.elapsed());
        self.watch_expiries(effects);
    }

    fn answer(&mut self, request: Request, ticket: Ticket) -> Result<Answer, Refused> {
        match request {
            // A second connect, or a ping, which no client sends.
            Request::Connect(_) | Request::Ping => Err(CloseReason::BadRequest.into()),
            Request::Subscribe(request) => self.subscribe(&request, ticket),
            Request::Unsubscribe(request) => self.unsubscribe(&request),
            Request::Publish(request) => self.publish(request, ticket),
            Request::Presence(request) => self.presence(&request, ticket, Effect::Presence),
            Request::PresenceStats(request) => self.presence(&request, ticket, Effect::PresenceStats),
            Request::SubRefresh(request) => self.refresh_subscription(&request),
            Request::History(request) => self.history(request, ticket),
            Request::Rpc => Err(code::NOT_AVAILABLE.into()),
            // Nobody listens to it; a client that says it does no harm.
            Request::Send => Ok(Answer::Silence),
            Request::Refresh(request) => self.refresh(&request),
        }
    }

    /// Sends a push, unless the client gets nothing but data.
    fn tell(&mut self, push: &Push<'_>, effects: &mut Vec<Effect>) {
        if self.manner != Manner::Data {
            self.say(self.codec.push(push), effects);
        }
    }

    /// Sends the reply to the command `id`. Who does nothing but err is closed.
    fn reply(&mut self, id: u32, reply: &Reply, effects: &mut Vec<Effect>) {
        self.say(self.codec.reply(id, reply), effects);
        if matches!(reply, Reply::Error(_)) && self.errors.is_too_much(Instant::now()) {
            self.close(CloseReason::TooManyErrors, effects);
        }
    }

    fn say(&mut self, message: Result<Vec<u8>, Inappropriate>, effects: &mut Vec<Effect>) {
        match message {
            // After a close nothing is said.
            _ if matches!(effects.last(), Some(Effect::Close(_))) => {}
            Ok(message) => effects.push(Effect::Send(message)),
            Err(Inappropriate) => self.close(CloseReason::InappropriateProtocol, effects),
        }
    }

    /// A slow effect has ended: answers its command, then goes on with what waits.
    pub fn on_outcome(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        match (self.pending.take().map(|pending| *pending), outcome) {
            (Some(Pending::Opening(opening)), Outcome::Subscribed(results)) => {
                self.opened_with(opening, results, effects);
            }
            (Some(Pending::Subscribe { ticket, admitted }), Outcome::Subscribed(results)) => {
                self.subscribed(&ticket, *admitted, one(results), effects);
            }
            (Some(Pending::Enlist(admitted)), Outcome::Subscribed(results)) => {
                self.enlisted(*admitted, one(results), effects);
            }
            (Some(Pending::History { ticket, epoch }), Outcome::History(result)) => {
                let result = result.map_err(|error| (&error).into()).and_then(|history| {
                    let is_known = epoch.is_empty() || epoch == history.top.epoch.as_str();
                    is_known.then_some(Reply::History(history)).ok_or(code::UNRECOVERABLE_POSITION)
                });
                self.finish(&ticket, result, effects);
            }
            (Some(Pending::Presence(ticket)), Outcome::Presence(Ok(members)))
                if members.len() > MEMBERS_AT_ONCE_MAX =>
            {
                self.context.metrics.command(ticket.name, "ok", ticket.started_at.elapsed());
                effects.push(Effect::SendDrawn(self.codec.presence(ticket.id, members)));
            }
            (Some(Pending::Presence(ticket)), Outcome::Presence(result)) => {
                self.finish(&ticket, result.map(Reply::Presence).map_err(|error| (&error).into()), effects);
            }
            (Some(Pending::Presence(ticket)), Outcome::PresenceStats(result)) => {
                let result = result.map(Reply::PresenceStats).map_err(|error| (&error).into());
                self.finish(&ticket, result, effects);
            }
            (Some(Pending::Publish { ticket, namespace }), Outcome::Published(result)) => {
                let origin = Origin { source: Source::Client, namespace };
                self.count_publication(origin, &ticket, &result);
                let result = result.map(|()| Reply::Publish).map_err(|error| (&error).into());
                self.finish(&ticket, result, effects);
            }
            (pending, outcome) => unreachable!("{outcome:?} is no answer to {pending:?}"),
        }
        self.watch_expiries(effects);
        self.resume(effects);
    }

    fn count_publication(&self, origin: Origin, ticket: &Ticket, result: &Result<(), PublishError>) {
        let metrics = &self.context.metrics;
        metrics.publish_answered(origin, ticket.started_at.elapsed());
        match result {
            Ok(()) => metrics.publications_received(origin, 1),
            Err(error) => metrics.publications_failed(origin, error.label(), 1),
        }
    }

    /// Answers a command that had to wait.
    fn finish(&mut self, ticket: &Ticket, result: Result<Reply, Error>, effects: &mut Vec<Effect>) {
        let outcome = result.as_ref().err().map_or("ok", |error| error.label());
        self.context.metrics.command(ticket.name, outcome, ticket.started_at.elapsed());
        match (result, self.manner) {
            (Ok(_), Manner::Data) => {}
            (Ok(_), _) if ticket.id == 0 && ticket.name == "publish" => {}
            (Err(error), Manner::Data) if error == code::TOO_MANY_REQUESTS => {
                self.close(CloseReason::TooManyRequests, effects);
            }
            (Err(_), Manner::Data) => self.close(CloseReason::Internal, effects),
            (Ok(reply), _) => self.reply(ticket.id, &reply, effects),
            (Err(error), _) => self.reply(ticket.id, &Reply::Error(error), effects),
        }
    }
}
