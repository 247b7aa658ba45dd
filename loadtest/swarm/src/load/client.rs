//! One client: its socket, and whether what comes is what must come.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frame::{self, Frame, Opcode};
use super::handshake;
use super::heard::{Heard, Numbering};
use super::message::{self, Stamped};
use super::published::Published;
use super::sequence::Seen;
use super::stamp::Stamp;
use super::tally::Event;
use super::thread::Thread;
use super::tokens::TokenPlace;
use super::trouble::Trouble;
use crate::client::protocol::{self, Command, Connect, Incoming, Message, Refusal, Subscribe, Subscribed};

/// The command `connect`. Subscriptions have the numbers after it, each one of its own.
const CONNECT_ID: u32 = 1;
/// Commands whose answer makes no difference.
const OTHER_ID: u32 = u32::MAX;

/// One client of a thread. It holds a socket, its subscriptions, and of a frame only what has come without its end.
#[derive(Debug)]
pub struct Client {
    number: u32,
    thread: Rc<Thread>,
    stream: RefCell<Option<TcpStream>>,
    state: RefCell<State>,
    /// Counts how often it left: whoever reads an older connection is to stop.
    departures: Cell<u32>,
    /// Of whoever waits for the socket.
    reader: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct State {
    /// The start of a frame whose rest has not arrived; mostly empty.
    partial: Vec<u8>,
    subscriptions: Vec<Subscription>,
    /// Of the last subscription.
    last_id: u32,
    /// Answers that [`Client::connect`] still waits for.
    awaited: usize,
    /// Whether the server wants its pings answered.
    answers_pings: bool,
    /// What it has published and the server has not answered: command, channel and number.
    unanswered: Vec<(u32, u32, u64)>,
}

/// What a client has of one channel.
#[derive(Debug)]
struct Subscription {
    /// Of the command that asks for it, in every connection.
    id: u32,
    /// The number of the channel in the list of the load.
    channel: u32,
    heard: Heard,
    /// When the server has answered it, in nanoseconds of the clock of the load; 0 before.
    since_ns: u64,
    /// The last one, once there was one; the channel has a history then.
    offset: Option<u64>,
    epoch: Option<Box<str>>,
}

impl Client {
    pub(super) fn new(thread: Rc<Thread>, number: u32, channels: impl IntoIterator<Item = u32>) -> Self {
        let mut state = State {
            partial: Vec::new(),
            subscriptions: Vec::new(),
            last_id: CONNECT_ID,
            awaited: 0,
            answers_pings: false,
            unanswered: Vec::new(),
        };
        for channel in channels {
            state.add(channel, &thread);
        }
        Self {
            number,
            thread,
            stream: RefCell::new(None),
            state: RefCell::new(state),
            departures: Cell::new(0),
            reader: RefCell::new(None),
        }
    }

    /// The number of the client in the whole load; its token and its source go by it.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Connects, and subscribes to what it was made for, from where it is if it is there already and the settings say
    /// that clients recover. Returns when all of it is answered.
    ///
    /// Dropped before that, it leaves no connection behind.
    ///
    /// # Errors
    /// It is not connected, or not subscribed to everything; then there is no connection.
    pub async fn connect(&self) -> Result<(), Trouble> {
        let patience = self.thread.settings().patience;
        self.thread.tally().add(Event::Handshake, 1);
        // The future is large, and is needed for a moment only.
        let opening = Box::pin(self.open());
        let outcome = timeout(patience, opening).await.unwrap_or(Err(Trouble::Silent(patience)));
        match &outcome {
            Ok(()) => self.thread.tally().add(Event::Connected, 1),
            // Whoever made it leave has closed it, and there may be another connection already.
            Err(Trouble::Left) => {}
            Err(_) => _ = self.stream.take(),
        }
        outcome
    }

    /// Reads and checks what comes until the connection ends, and says why it did. There is no connection then.
    pub async fn listen(&self) -> Trouble {
        let connection = self.departures.get();
        loop {
            match self.read(connection).await {
                Ok(()) => {}
                Err(Trouble::Left) => return Trouble::Left,
                Err(trouble) => {
                    self.stream.take();
                    return trouble;
                }
            }
        }
    }

    /// Cuts the line without a goodbye: [`connect`](Self::connect) and [`listen`](Self::listen) end with
    /// [`Trouble::Left`]. The client may connect again at once.
    pub fn leave(&self) {
        self.departures.set(self.departures.get() + 1);
        self.stream.take();
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.stream.borrow().is_some()
    }

    /// Whether it knows its place in the history of every channel that it is subscribed to, and so can recover.
    pub fn has_positions(&self) -> bool {
        self.state.borrow().subscriptions.iter().all(|subscription| subscription.epoch.is_some())
    }

    /// Subscribes to one more channel, by its number. The answer is not waited for: it is counted
    /// ([`Event::Subscribed`]), and a refusal is told as an error.
    ///
    /// # Errors
    /// There is no connection, or it takes nothing more.
    pub fn subscribe(&self, channel: u32) -> Result<(), Trouble> {
        let mut state = self.state.borrow_mut();
        let line = self.subscribe_line(state.add(channel, &self.thread));
        self.write(Opcode::Text, line.as_bytes())
    }

    /// Ends the subscription to a channel, by its number. What still comes of it counts as others' publications.
    ///
    /// # Errors
    /// There is no connection, or it takes nothing more.
    pub fn unsubscribe(&self, channel: u32) -> Result<(), Trouble> {
        let mut state = self.state.borrow_mut();
        // Nobody looks at it again.
        let gaps = self.gaps_of(&state, channel);
        self.thread.talk().missed.extend(gaps);
        state.subscriptions.retain(|subscription| subscription.channel != channel);
        let line = protocol::unsubscribe_line(OTHER_ID, self.thread.channel(channel));
        self.write(Opcode::Text, line.as_bytes())
    }

    /// Publishes to a channel, by its number. The answer is not waited for: a refusal is told as an error, and what was
    /// refused is [doubtful](Thread::doubtful).
    ///
    /// # Errors
    /// There is no connection, or it takes nothing more. Then it is doubtful, too.
    pub fn publish(&self, channel: u32, stamp: Stamp) -> Result<(), Trouble> {
        let data = stamp.data(self.thread.settings().data_bytes);
        let id = {
            let mut state = self.state.borrow_mut();
            let id = state.next_id();
            state.unanswered.push((id, channel, stamp.number));
            id
        };
        let line = protocol::publish_line(id, self.thread.channel(channel), &data);
        self.write(Opcode::Text, line.as_bytes())
    }

    /// What it published and the server has not answered: channel and number.
    pub(super) fn unanswered(&self) -> Vec<(u32, u64)> {
        let state = self.state.borrow();
        state.unanswered.iter().map(|(_, channel, number)| (*channel, *number)).collect()
    }

    /// Of what was `said` in the channels that it is subscribed to, what it has not heard, by channel and number. What was
    /// said before the server had answered its subscription it need not have heard.
    ///
    /// `said` has everything of a channel: its number, and when it was said at the earliest, in nanoseconds of the clock of
    /// the load.
    pub fn unheard<'a>(&self, said: impl Fn(u32) -> &'a [(u64, u64)]) -> Vec<(u32, u64)> {
        let state = self.state.borrow();
        let answered = state.subscriptions.iter().filter(|subscription| subscription.since_ns > 0);
        let of_each = answered.flat_map(|subscription| {
            let owed = said(subscription.channel).iter().filter(|(_, at_ns)| *at_ns > subscription.since_ns);
            let unheard = owed.filter(|(number, _)| !subscription.heard.has(*number));
            unheard.map(|(number, _)| (subscription.channel, *number))
        });
        of_each.collect()
    }

    fn gaps_of(&self, state: &State, channel: u32) -> Vec<(u32, u32, u64)> {
        let subscription = state.subscriptions.iter().find(|subscription| subscription.channel == channel);
        let gaps = subscription.map(|subscription| subscription.heard.gaps()).unwrap_or_default();
        gaps.into_iter().map(|number| (self.number, channel, number)).collect()
    }

    /// What it was not given of what was published, for sure, by channel and number.
    pub(super) fn missing(&self, published: &Published) -> Vec<(u32, u64)> {
        let state = self.state.borrow();
        let of_each = state.subscriptions.iter().flat_map(|subscription| {
            let missing = subscription.heard.missing(published.last(subscription.channel));
            missing.into_iter().map(|number| (subscription.channel, number))
        });
        of_each.filter(|(channel, number)| !published.is_uncertain(*channel, *number)).collect()
    }

    /// How much more of each channel it was not given at least: of so many gaps only the first are kept.
    pub(super) fn forgotten(&self, published: &Published) -> Vec<(u32, u64)> {
        let state = self.state.borrow();
        let of_each = state.subscriptions.iter().map(|subscription| {
            let uncertain = published.uncertain(subscription.channel);
            (subscription.channel, subscription.heard.forgotten(uncertain))
        });
        of_each.filter(|(_, count)| *count > 0).collect()
    }

    async fn open(&self) -> Result<(), Trouble> {
        let (thread, connection) = (&self.thread, self.departures.get());
        let target = thread.settings().target(self.number);
        let mut stream = handshake::connect(target.address(), thread.settings().source(self.number)).await?;
        let token = thread.settings().tokens.of(self.number);
        let (in_query, in_command) = match thread.settings().token_place {
            TokenPlace::Query => (token, None),
            TokenPlace::Command => (None, token),
        };
        let rest = handshake::upgrade(&mut stream, target, in_query.as_deref()).await?;
        let greeting = self.greeting(in_command.as_deref());
        stream.write_all(&frame::write(Opcode::Text, greeting.as_bytes())).await?;
        if self.departures.get() != connection {
            return Err(Trouble::Left);
        }
        self.stream.replace(Some(stream));
        // The answers may already be there.
        self.take(&rest)?;
        while self.state.borrow().awaited > 0 {
            self.read(connection).await?;
        }
        Ok(())
    }

    /// Everything that it asks for, as one message.
    fn greeting(&self, token: Option<&str>) -> String {
        let mut state = self.state.borrow_mut();
        state.partial = Vec::new();
        state.awaited = 1 + state.subscriptions.len();
        let connect = Connect { token, name: "swarm" };
        let mut lines = Command { id: CONNECT_ID, connect: Some(connect), subscribe: None }.line();
        for subscription in &state.subscriptions {
            lines.push('\n');
            lines.push_str(&self.subscribe_line(subscription));
        }
        lines
    }

    fn subscribe_line(&self, subscription: &Subscription) -> String {
        let is_recoverable = self.thread.settings().is_recoverable;
        let since = subscription.epoch.as_deref().filter(|_| is_recoverable);
        let subscribe = Subscribe {
            channel: self.thread.channel(subscription.channel),
            positioned: is_recoverable,
            recoverable: is_recoverable,
            join_leave: self.thread.settings().is_hearing,
            recover: since.is_some(),
            epoch: since,
            offset: since.and(subscription.offset),
        };
        Command { id: subscription.id, connect: None, subscribe: Some(subscribe) }.line()
    }

    /// Takes in what the next read of this connection brings. The buffer is borrowed within one poll only, so one serves
    /// all.
    async fn read(&self, connection: u32) -> Result<(), Trouble> {
        poll_fn(|context| {
            if self.departures.get() != connection {
                return Poll::Ready(Err(Trouble::Left));
            }
            let mut buffer = self.thread.buffer();
            let mut buffer = ReadBuf::new(&mut buffer);
            let poll = match &mut *self.stream.borrow_mut() {
                Some(stream) => Pin::new(stream).poll_read(context, &mut buffer),
                None => return Poll::Ready(Err(Trouble::HungUp)),
            };
            match poll {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Err(Trouble::HungUp)),
                Poll::Ready(Ok(())) => Poll::Ready(self.take(buffer.filled())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.reader
                        .borrow_mut()
                        .get_or_insert_with(|| context.waker().clone())
                        .clone_from(context.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Checks the frames that `bytes` complete, and keeps the rest.
    fn take(&self, bytes: &[u8]) -> Result<(), Trouble> {
        self.thread.tally().add(Event::Byte, bytes.len() as u64);
        let mut state = self.state.borrow_mut();
        let now_ns = self.thread.now_ns();
        let mut whole = std::mem::take(&mut state.partial);
        if whole.is_empty() {
            let taken = self.frames(&mut state, bytes, now_ns)?;
            state.partial = bytes[taken..].to_vec();
        } else {
            whole.extend_from_slice(bytes);
            let taken = self.frames(&mut state, &whole, now_ns)?;
            state.partial = whole.split_off(taken);
        }
        self.thread.flush_deliveries();
        Ok(())
    }

    fn frames(&self, state: &mut State, bytes: &[u8], now_ns: u64) -> Result<usize, Trouble> {
        let mut taken = 0;
        while let Some((frame, length)) = frame::read(&bytes[taken..]).map_err(Trouble::Broken)? {
            taken += length;
            match frame {
                Frame::Message(payload) => {
                    for line in payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                        self.line(state, line, now_ns)?;
                    }
                }
                Frame::Ping(payload) => self.write(Opcode::Pong, payload)?,
                Frame::Pong => {}
                Frame::Close(code, reason) => return Err(self.closed(code, reason)),
            }
        }
        Ok(taken)
    }

    fn closed(&self, code: u16, reason: &[u8]) -> Trouble {
        let payload = if code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
        // The connection has ended, whether the server hears that or not.
        let _: Result<(), Trouble> = self.write(Opcode::Close, &payload);
        Trouble::Closed { code, reason: String::from_utf8_lossy(reason).into_owned() }
    }

    fn line(&self, state: &mut State, line: &[u8], now_ns: u64) -> Result<(), Trouble> {
        if let Some(Stamped { channel, offset, stamp }) = message::publication(line) {
            self.publication(state, channel, offset, Some(stamp), now_ns);
            return Ok(());
        }
        if line == b"{}" {
            return self.pong(state);
        }
        let broken =
            |error: &dyn std::error::Error| Trouble::Broken(format!("a line that makes no sense: {error}"));
        let line = std::str::from_utf8(line).map_err(|error| broken(&error))?;
        let message = protocol::read(line).map_err(|error| broken(&error))?;
        self.message(state, message, now_ns)
    }

    fn message(&self, state: &mut State, message: Message<'_>, now_ns: u64) -> Result<(), Trouble> {
        let Message { id, channel, incoming } = message;
        match incoming {
            Incoming::Ping => self.pong(state)?,
            Incoming::Connected(connected) => {
                state.answers_pings = connected.pong;
                state.awaited = state.awaited.saturating_sub(1);
            }
            Incoming::Subscribed(subscribed) => self.subscribed(state, id, &subscribed, now_ns),
            Incoming::Refused(id, refusal) => self.refused(state, id, &refusal)?,
            Incoming::Publication(publication) => {
                let stamp = Stamp::read(publication.data().as_bytes()).map(|(stamp, _)| stamp);
                let channel = channel.unwrap_or_default();
                self.publication(state, &channel, publication.offset, stamp, now_ns);
            }
            Incoming::Joined => self.thread.tally().add(Event::Joined, 1),
            Incoming::Left(_) => self.thread.tally().add(Event::Parted, 1),
            Incoming::Unsubscribed(code) => {
                let channel = channel.unwrap_or_default();
                self.thread.error(&format!("unsubscribed by the server with {code}"), || {
                    format!("client {}: unsubscribed from {channel} with {code}", self.number)
                });
            }
            Incoming::Other => _ = state.answered(id),
        }
        Ok(())
    }

    fn pong(&self, state: &State) -> Result<(), Trouble> {
        self.thread.tally().add(Event::Ping, 1);
        if state.answers_pings { self.write(Opcode::Text, protocol::PONG.as_bytes()) } else { Ok(()) }
    }

    fn refused(&self, state: &mut State, id: u32, refusal: &Refusal<'_>) -> Result<(), Trouble> {
        let published = state.answered(id);
        let command = match published {
            Some(_) => "publish",
            None if id == CONNECT_ID => "connect",
            None => "subscribe",
        };
        if let Some((channel, number)) = published {
            self.thread.doubt(channel, number);
        }
        let trouble =
            Trouble::Rejected { command, code: refusal.code, message: refusal.message.clone().into() };
        if state.awaited > 0 {
            return Err(trouble);
        }
        if id != OTHER_ID {
            self.thread.error(&trouble.kind(), || format!("client {}: {trouble}", self.number));
        }
        Ok(())
    }

    fn subscribed(&self, state: &mut State, id: u32, subscribed: &Subscribed<'_>, now_ns: u64) {
        state.awaited = state.awaited.saturating_sub(1);
        // It may have been ended since.
        let Some(subscription) = state.subscriptions.iter_mut().find(|subscription| subscription.id == id)
        else {
            return;
        };
        self.thread.tally().add(Event::Subscribed, 1);
        subscription.since_ns = now_ns.max(1);
        let was_here = self.thread.settings().is_recoverable && subscription.epoch.is_some();
        if was_here && subscribed.recovered {
            self.thread.tally().add(Event::Recovered, 1);
        } else {
            if was_here {
                self.thread.tally().add(Event::Unrecovered, 1);
            }
            subscription.begin(subscribed, &self.thread);
        }
        for publication in &subscribed.publications {
            let stamp = Stamp::read(publication.data().as_bytes()).map(|(stamp, _)| stamp);
            subscription.check(self, publication.offset, stamp, now_ns);
        }
    }

    fn publication(&self, state: &mut State, channel: &str, offset: u64, stamp: Option<Stamp>, now_ns: u64) {
        let is_it = |subscription: &&mut Subscription| self.thread.channel(subscription.channel) == channel;
        match state.subscriptions.iter_mut().find(is_it) {
            Some(subscription) => subscription.check(self, offset, stamp, now_ns),
            // Such as one that was on its way when the client unsubscribed.
            None => self.thread.tally().add(Event::Foreign, 1),
        }
    }

    /// Writes a frame, which must fit into the buffer of the socket.
    fn write(&self, opcode: Opcode, payload: &[u8]) -> Result<(), Trouble> {
        let frame = frame::write(opcode, payload);
        let stream = self.stream.borrow();
        let stream = stream.as_ref().ok_or(Trouble::HungUp)?;
        let written = stream.try_write(&frame)?;
        if written < frame.len() {
            return Err(Trouble::Broken("the server does not read: the socket takes nothing more".into()));
        }
        Ok(())
    }
}

impl State {
    fn add(&mut self, channel: u32, thread: &Thread) -> &Subscription {
        let subscription = Subscription {
            id: self.next_id(),
            channel,
            heard: thread.nothing_heard(channel),
            since_ns: 0,
            offset: None,
            epoch: None,
        };
        self.subscriptions.push_mut(subscription)
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// What a command has published that is answered now: channel and number; `None` if it has published nothing.
    fn answered(&mut self, id: u32) -> Option<(u32, u64)> {
        let index = self.unanswered.iter().position(|(of, ..)| *of == id)?;
        let (_, channel, number) = self.unanswered.swap_remove(index);
        Some((channel, number))
    }
}

impl Subscription {
    /// Begins where the server says; nothing before that is owed.
    fn begin(&mut self, subscribed: &Subscribed<'_>, thread: &Thread) {
        let has_history = !subscribed.epoch.is_empty();
        self.epoch = has_history.then(|| subscribed.epoch.as_ref().into());
        self.offset = has_history.then_some(subscribed.offset);
        self.heard = thread.nothing_heard(self.channel);
    }

    /// Takes one publication: its place in the history, and its number if it is of this run.
    fn check(&mut self, client: &Client, offset: u64, stamp: Option<Stamp>, now_ns: u64) {
        let thread = &*client.thread;
        if offset > 0 {
            let last = self.offset.replace(offset);
            if let Some(last) = last.filter(|last| last + 1 != offset) {
                let words = || format!("offset {offset} came where {} was due", last + 1);
                thread.fault(Event::OffsetBreak, 1, || self.words(client, &words()));
            }
        }
        let Some(stamp) = stamp.filter(|stamp| thread.is_ours(stamp)) else {
            return thread.tally().add(Event::Foreign, 1);
        };
        let number = stamp.number;
        let (seen, due) = self.heard.see(number);
        let words = |what: &str| self.words(client, &format!("{} {what}", self.heard.words(number)));
        if offset > 0 && thread.settings().numbering == Numbering::Speakers {
            self.check_place(client, offset, number);
        }
        match seen {
            Seen::Next => {}
            Seen::Gap(missing) => {
                thread.fault(Event::Gap, missing, || words(&format!("came where {due} was due")));
            }
            Seen::Late => {
                thread.fault(Event::Late, 1, || words(&format!("came after later ones; {due} was due")));
            }
            Seen::Repeat => {
                return thread.fault(Event::Repeat, 1, || words("came again"));
            }
        }
        thread.delivered(&stamp, now_ns);
    }

    /// Whether others were given the same at this place of the history.
    fn check_place(&self, client: &Client, offset: u64, number: u64) {
        let thread = &client.thread;
        let is_same = thread.talk().place(self.channel, self.epoch.as_deref(), offset, number);
        if !is_same {
            let what = || {
                format!("{} came at offset {offset}, and something else to others", self.heard.words(number))
            };
            thread.say(|| self.words(client, &what()));
        }
    }

    fn words(&self, client: &Client, what: &str) -> String {
        format!("client {}, {}: {what}", client.number, client.thread.channel(self.channel))
    }
}
