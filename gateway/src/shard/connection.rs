//! One client's task: what it sends is decoded and handed to its conversation, and what that wants is done.

mod closing;
mod pace;
mod speech;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker, ready};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use self::closing::Ending;
use self::pace::Pace;
use self::speech::Said;
use super::Shard;
use super::heartbeat::Alarm;
use super::link::{Link, Recall};
use super::operation::{Finished, Operation};
use super::socket::Socket;
use super::subscription::{Claim, Subscriber};
use super::table::{Entry, Key, Sink};
use crate::model::{ClientId, CloseReason, Identity};
use crate::node::Node;
use crate::protocol::{Conversation, Effect, Heartbeat, Message, Outcome};
use crate::wire::{self, DecodeError, Decoded, Decoder, Event, Opcode, Role};

/// How much is read before the others of the shard have their turn. The runtime counts reads, not what is in
/// them: 64 KiB hold thousands of tiny frames, and a client that floods would keep the thread for seconds.
const READ_BYTES_PER_TURN: usize = 64 << 10;

/// A client whose handshake is done.
pub struct Arrival {
    /// Its socket, registered with the runtime of this shard.
    pub socket: Socket,
    /// What the client sent after the head of its request.
    pub unread: Bytes,
    /// Its side of a protocol.
    pub conversation: Box<dyn Conversation>,
    /// Its id.
    pub client: ClientId,
    /// The places that it takes; `None` if nobody counts.
    pub permit: Option<Permit>,
}

/// The places that a connection takes, given back when its socket is closed.
#[derive(Debug)]
pub struct Permit {
    /// Among the connections that the node may have.
    pub node: OwnedSemaphorePermit,
    /// Among those that its address may have; `None` if there may be any number.
    pub address: Option<OwnedSemaphorePermit>,
}

/// How much is said in one piece, or a little more.
const SAID_BYTES_MAX: usize = 64 << 10;
/// How many slow effects that need not wait are carried out before the others of the shard have their turn.
const ROUNDS_PER_TURN: usize = 256;

/// What a connection's task wakes up for.
enum Wake {
    Readable,
    Writable,
    Finished(Finished),
    Told,
    Lost,
    Reminded,
}

/// What runs a connection, written by hand: a task takes a multiple of 128 bytes, this one the first of them, and an `async`
/// block with the same loop a second.
struct Task {
    open: Option<Box<Connection>>,
    /// Boxed, so that an open connection does not carry the room for closing.
    closing: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

// The allocator has places of 256 bytes and then of 320: what does not fit costs every idle connection.
const _: () = assert!(size_of::<Connection>() <= 256);
// With what the runtime adds it is 128 bytes.
const _: () = assert!(size_of::<Task>() <= 24);

struct Connection {
    shard: Rc<Shard>,
    key: Key,
    link: Rc<Link>,
    socket: Socket,
    decoder: Decoder,
    pace: Pace,
    conversation: Box<dyn Conversation>,
    operation: Option<Operation>,
    /// There is more to do, after the others of the shard had their turn.
    yields: bool,
    /// Whether the client's close frame was read.
    peer_closed: bool,
    /// Whether what it sends can no longer be read as frames.
    is_garbled: bool,
    /// `None` until it has ended. Boxed: most of its life a connection has none.
    ending: Option<Box<Ending>>,
    _permit: Option<Permit>,
}

impl Shard {
    /// Takes a client in: its task runs on this thread until the socket is closed.
    ///
    /// # Panics
    /// Outside of the shard's runtime.
    pub fn take_in(self: &Rc<Self>, arrival: Arrival) {
        let link = Rc::new(Link::new(arrival.client));
        link.opened_at.set(self.ticks());
        link.heard_at.set(self.ticks());
        let sink = match arrival.socket.session() {
            Some(session) => {
                link.protect(Rc::clone(session));
                Sink::Protected
            }
            None => Sink::Direct(Rc::clone(arrival.socket.stream())),
        };
        let entry = Entry { sink, blocked: false.into(), link: Rc::clone(&link) };
        let key = self.table.borrow_mut().insert(entry);
        self.connections.set(self.connections.get() + 1);
        self.metrics.connection_accepted();
        self.metrics.connection_opened(arrival.conversation.name());
        self.set_alarm(self.settings.stale_close_delay, key, Alarm::Stale);
        if self.stopping.get() {
            link.recall(Recall::Shutdown);
        }
        let mut connection = Box::new(Connection {
            shard: Rc::clone(self),
            key,
            link,
            socket: arrival.socket,
            decoder: Decoder::new(Role::Server, self.settings.message_bytes_max),
            pace: Pace::default(),
            conversation: arrival.conversation,
            operation: None,
            yields: false,
            peer_closed: false,
            is_garbled: false,
            ending: None,
            _permit: arrival.permit,
        });
        connection.start(arrival.unread);
        tokio::task::spawn_local(Task { open: Some(connection), closing: None });
    }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, ctx: &mut TaskContext<'_>) -> Poll<()> {
        if let Some(open) = &mut self.open {
            let reason = ready!(open.poll_closing(ctx));
            self.closing = self.open.take().map(|connection| Box::pin(connection.finish(reason)) as _);
        }
        self.closing.as_mut().map_or(Poll::Ready(()), |closing| closing.as_mut().poll(ctx))
    }
}

impl Connection {
    /// Does what there is to do, until the connection has to close.
    fn poll_closing(&mut self, ctx: &mut TaskContext<'_>) -> Poll<CloseReason> {
        let mut read_bytes = 0;
        loop {
            if let Some(reason) = self.link.closing() {
                return Poll::Ready(reason.clone());
            }
            match ready!(self.poll_wake(ctx)) {
                Wake::Readable => read_bytes += self.read(),
                Wake::Writable => self.flush(),
                Wake::Finished(finished) => self.on_finished(finished),
                Wake::Told => self.take_orders(),
                Wake::Lost => self.tell_lost(),
                Wake::Reminded => self.remind(),
            }
            if read_bytes >= READ_BYTES_PER_TURN || std::mem::take(&mut self.yields) {
                return yield_now(ctx);
            }
        }
    }

    fn start(&mut self, unread: Bytes) {
        self.watch_unsent();
        let mut effects = Vec::new();
        self.conversation.on_start(&mut effects);
        self.carry_out(effects);
        if !unread.is_empty() && !self.link.is_closing() {
            self.shard.metrics.bytes_received(unread.len());
            self.take_in(&mut BytesMut::from(unread));
        }
    }

    fn poll_wake(&mut self, ctx: &mut TaskContext<'_>) -> Poll<Wake> {
        self.link.register(ctx.waker());
        if self.operation.is_none() && self.link.is_recalled() {
            self.link.close_recalled();
        }
        if self.link.is_closing() || self.link.has_orders() {
            return Poll::Ready(Wake::Told);
        }
        // Not while a command is under way: what it does may be about the very subscription.
        if self.operation.is_none() && self.link.has_lost() {
            return Poll::Ready(Wake::Lost);
        }
        if self.link.is_reminded.get() {
            return Poll::Ready(Wake::Reminded);
        }
        // Polled whatever the client takes: it may hold what others wait for. How it ended can wait.
        let has_ended = self.operation.as_mut().is_some_and(|operation| operation.poll(ctx));
        if has_ended
            && !self.is_congested()
            && let Some(finished) = self.take_finished()
        {
            return Poll::Ready(Wake::Finished(finished));
        }
        // An error of either is seen by the read or write that follows.
        if self.link.blocked_since.get().is_some() && self.socket.poll_write_ready(ctx).is_ready() {
            return Poll::Ready(Wake::Writable);
        }
        let is_read = self.conversation.backlog_bytes() <= self.shard.settings.message_bytes_max;
        if is_read && self.socket.poll_read_ready(ctx).is_ready() {
            return Poll::Ready(Wake::Readable);
        }
        Poll::Pending
    }

    /// Takes in what the socket has, up to the size of the buffer; answers how many bytes it was.
    fn read(&mut self) -> usize {
        let shard = Rc::clone(&self.shard);
        let mut buffer = shard.read_buffer.borrow_mut();
        let read = self.socket.try_read(&mut buffer);
        self.watch_unsent();
        match read {
            Ok(0) => self.link.close(CloseReason::ConnectionLost),
            Ok(count) => {
                shard.metrics.bytes_received(count);
                self.take_in(&mut buffer[..count]);
                return count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.yields = true,
            Err(_) => self.link.close(CloseReason::ConnectionLost),
        }
        0
    }

    /// TLS may have an answer of its own to what was read, which nobody has offered.
    fn watch_unsent(&self) {
        if self.socket.has_unsent()
            && let Some(entry) = self.shard.table.borrow().get(self.key)
        {
            self.shard.watch_writes(entry, self.key);
        }
    }

    /// Decodes what the client sent, event by event, until one of them closes.
    ///
    /// Pongs to pings that follow one another leave in one piece: a flood of pings is no flood of sends.
    fn take_in(&mut self, mut input: &mut [u8]) {
        let mut pongs = Vec::new();
        while !self.link.is_closing() {
            let Decoded { consumed, frames, event } = match self.decoder.decode(input) {
                Ok(decoded) => decoded,
                Err(error) => {
                    self.is_garbled = true;
                    return self.link.close(close_reason(error));
                }
            };
            if self.is_too_fast(frames) {
                self.peer_closed |= matches!(event, Some(Event::Close(_)));
                self.link.close(CloseReason::TooManyRequests);
            } else {
                let Some(event) = event else { break };
                if !matches!(event, Event::Ping(_)) {
                    self.offer_all(&mut pongs);
                }
                self.on_event(&event, &mut pongs);
            }
            input = &mut input[consumed..];
        }
        self.offer_all(&mut pongs);
        // What came with the cause of the close may hold the peer's own close frame.
        if self.link.is_closing() && !self.peer_closed {
            self.look_for_close(input);
        }
    }

    fn on_event(&mut self, event: &Event<'_>, pongs: &mut Vec<u8>) {
        let mut effects = Vec::new();
        if matches!(event, Event::Text(_) | Event::Binary(_)) {
            self.link.heard_at.set(self.shard.ticks());
        }
        match event {
            Event::Text(text) => self.conversation.on_message(Message::Text(text), &mut effects),
            Event::Binary(bytes) => self.conversation.on_message(Message::Binary(bytes), &mut effects),
            Event::Ping(payload) => wire::encode_frame(Opcode::Pong, payload, pongs),
            Event::Pong(_) if self.link.heartbeat.get() == Heartbeat::Transport => {
                self.link.awaits_pong.set(false);
            }
            Event::Pong(_) => {}
            Event::Close(frame) => {
                tracing::debug!(
                    client.id = %self.link.client,
                    close.code = frame.as_ref().map(|frame| frame.code),
                    "client closes"
                );
                self.peer_closed = true;
                let code = frame.as_ref().map(|frame| frame.code);
                self.link.close(CloseReason::ByClient { code });
            }
        }
        self.carry_out(effects);
    }

    fn take_orders(&mut self) {
        while let Some(order) = self.link.next_order() {
            let mut effects = Vec::new();
            self.conversation.on_order(order, &mut effects);
            self.carry_out(effects);
        }
    }

    fn on_finished(&mut self, finished: Finished) {
        let mut effects = Vec::new();
        if let Some(outcome) = self.settle(finished) {
            self.conversation.on_outcome(outcome, &mut effects);
        }
        self.carry_out(effects);
    }

    /// Tells the conversation which subscriptions missed something. One that was given up or made anew since
    /// has missed nothing.
    fn tell_lost(&mut self) {
        for key in self.link.take_lost() {
            let channel = {
                let subscriptions = self.link.subscriptions.borrow();
                let held = subscriptions.iter().find(|held| held.channel == key);
                held.and_then(|held| self.shard.hub.borrow().lost(held))
            };
            let Some(channel) = channel else { continue };
            let mut effects = Vec::new();
            self.conversation.on_lost(channel, &mut effects);
            self.carry_out(effects);
        }
    }

    fn remind(&mut self) {
        self.link.is_reminded.set(false);
        let mut effects = Vec::new();
        self.conversation.on_reminder(&mut effects);
        self.carry_out(effects);
    }

    /// Does what the conversation wants, slow effects too as far as they do not have to wait, then says what
    /// it said. No publication gets between a subscription and the reply to it: nothing here awaits.
    fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        let mut said = Said::default();
        let mut rounds = 0;
        loop {
            // What comes after a close, or after a refusal to open, does not happen.
            while !self.link.is_closing()
                && let Some(effect) = effects.pop_front()
            {
                self.perform(effect, &mut said);
            }
            // A quarter of the outbox may be full, a reply takes half of it at most, and pushes need room as well.
            if said.bytes > SAID_BYTES_MAX.min(self.shard.settings.outbox_bytes_max / 8) {
                self.say(&mut said);
            }
            if self.link.is_closing() {
                break;
            }
            if self.is_congested() || rounds == ROUNDS_PER_TURN {
                // What is left goes on from the task's loop.
                self.yields = true;
                break;
            }
            rounds += 1;
            let Some(operation) = &mut self.operation else { break };
            let mut ctx = TaskContext::from_waker(Waker::noop());
            // Polled again with the task's own waker if it has to wait.
            if !operation.poll(&mut ctx) {
                break;
            }
            let Some(finished) = self.take_finished() else { break };
            let Some(outcome) = self.settle(finished) else { continue };
            let mut next = Vec::new();
            self.conversation.on_outcome(outcome, &mut next);
            effects.extend(next);
        }
        self.say(&mut said);
    }

    /// Whether the client has so much to take that its next commands can wait: what it asks for must not fill its
    /// own outbox.
    fn is_congested(&self) -> bool {
        let outbox = self.link.outbox.borrow();
        outbox.is_drawing() || outbox.bytes() > self.shard.settings.outbox_bytes_max / 4
    }

    fn perform(&mut self, effect: Effect, said: &mut Said) {
        match effect {
            Effect::Send(message) => said.push(message),
            Effect::SendBinary(message) => {
                self.say(said);
                self.offer(&super::frame(Opcode::Binary, &message));
            }
            Effect::SendDrawn(drawn) => {
                self.say(said);
                self.draw(drawn);
            }
            Effect::Open(identity, heartbeat) => self.open(&identity, heartbeat),
            Effect::Renew(mark, expires_at) => {
                self.link.mark.set(mark);
                self.expire_at(expires_at);
            }
            Effect::Pong => self.link.awaits_pong.set(false),
            Effect::Appear(channel, info) => self.shard.rename(&channel, &self.link, info),
            Effect::Unsubscribe(channel) => self.shard.unsubscribe(&channel, &self.link),
            Effect::Subscribe(wanted) => {
                self.operation = Some(Operation::claim(self.node(), self.shard.id, wanted));
            }
            Effect::Publish(channel, publication, options) => {
                self.operation = Some(Operation::publish(self.node(), channel, publication, options));
            }
            Effect::History(channel, range, meta_ttl) => {
                self.operation = Some(Operation::history(self.node(), channel, range, meta_ttl));
            }
            Effect::Presence(channel) => {
                self.operation = Some(Operation::presence(self.node(), channel));
            }
            Effect::PresenceStats(channel) => {
                self.operation = Some(Operation::presence_stats(self.node(), channel));
            }
            Effect::Remind(at) => self.remind_at(at),
            Effect::Close(reason) => {
                self.say(said);
                self.link.close(reason);
            }
        }
    }

    fn node(&self) -> Arc<Node> {
        Arc::clone(&self.shard.node)
    }

    /// How the operation ended, if it has.
    fn take_finished(&mut self) -> Option<Finished> {
        let operation = self.operation.take_if(|operation| operation.has_ended());
        operation.and_then(Operation::into_finished)
    }

    /// Makes what a slow effect brought true in the shard, and says how it ended; `None` if it goes on.
    fn settle(&mut self, finished: Finished) -> Option<Outcome> {
        let encoding = self.conversation.encoding();
        let subscriber = Subscriber { shard: &self.shard, key: self.key, link: &self.link, encoding };
        match finished {
            Finished::Published(result) => Some(Outcome::Published(result)),
            Finished::History(result) => Some(Outcome::History(result)),
            Finished::Presence(result) => Some(Outcome::Presence(result)),
            Finished::PresenceStats(result) => Some(Outcome::PresenceStats(result)),
            Finished::Prepared(claims) => Some(Outcome::Subscribed(subscriber.go_live(claims))),
            Finished::Claimed(mut claims) => {
                subscriber.register(&mut claims);
                if !claims.iter().any(Claim::has_to_prepare) {
                    return Some(Outcome::Subscribed(subscriber.go_live(claims)));
                }
                self.operation = Some(Operation::prepare(self.node(), claims));
                None
            }
        }
    }

    /// The client has authenticated: it can be addressed, is pinged, and ends with its token.
    fn open(&mut self, identity: &Identity, heartbeat: Heartbeat) {
        let node = &self.shard.node;
        // The word of it may have come after the token was verified, and before anybody could find this connection.
        if node.cluster().revocations().include(&identity.user, identity.mark) {
            return self.link.close(CloseReason::Revoked);
        }
        if !node.client_opened(&identity.user, self.link.client, self.shard.settings.user_connections_max) {
            return self.link.close(CloseReason::ConnectionLimit);
        }
        self.link.mark.set(identity.mark);
        self.shard.add_user(&identity.user, self.key);
        *self.link.user.borrow_mut() = Some(identity.user.clone());
        self.link.heartbeat.set(heartbeat);
        let interval = self.shard.settings.ping_interval;
        if !interval.is_zero() {
            // The first ping comes at a random time, so that connections made together are not pinged together.
            let first = interval.mul_f64(rand::random_range(0.5..1.0));
            self.shard.set_alarm(first, self.key, Alarm::Ping);
        }
        self.expire_at(identity.expires_at);
        self.shard.limit_lifetime(self.key, &self.link);
        let protocol = self.conversation.name();
        tracing::debug!(client.id = %self.link.client, protocol, "connection opened");
    }

    fn expire_at(&self, expires_at: Option<SystemTime>) {
        let rest =
            expires_at.map(|expires_at| expires_at.duration_since(SystemTime::now()).unwrap_or_default());
        let after = rest.map(|rest| rest.saturating_add(self.shard.settings.expired_close_delay));
        self.shard.move_deadline(&self.link.expiry, self.key, Alarm::Expiry, after);
    }

    fn remind_at(&self, at: SystemTime) {
        let rest = at.duration_since(SystemTime::now()).unwrap_or_default();
        let reminder = &self.link.reminder;
        if self.shard.ticks_after(rest) < reminder.at.get() {
            self.shard.move_deadline(reminder, self.key, Alarm::Reminder, Some(rest));
        }
    }
}

/// The others of the shard have their turn, and sockets are looked at; then the task is polled again.
fn yield_now<T>(ctx: &mut TaskContext<'_>) -> Poll<T> {
    // What it is woken by outlives it.
    let _pending = pin!(tokio::task::yield_now()).poll(ctx);
    Poll::Pending
}

fn close_reason(error: DecodeError) -> CloseReason {
    match error {
        DecodeError::Protocol(_) => CloseReason::FrameError,
        DecodeError::InvalidUtf8 => CloseReason::InvalidUtf8,
        DecodeError::TooBig { .. } => CloseReason::TooBig,
    }
}
