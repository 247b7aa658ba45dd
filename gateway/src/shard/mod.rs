//! One core's world: its sockets, its subscribers, and what goes out to them.
//!
//! Everything about a socket lives and dies on the thread of one shard, so the state has no locks. Only a
//! shard writes to its sockets, through one door per connection: [`Shard::offer`]. It never parses a
//! message and never asks Redis. Other threads reach it through its inbox alone.

#[cfg(test)]
mod comings;
mod connection;
mod drain;
mod drawing;
mod fanout;
mod heartbeat;
mod hub;
mod link;
mod operation;
mod outbox;
mod position;
mod run;
#[cfg(test)]
mod schedules;
mod shedding;
mod slow;
mod socket;
mod subscription;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::RandomState;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use connection::{Arrival, Permit};
pub use outbox::Budget;
pub use socket::Socket;

use self::heartbeat::{Alarm, TICK, Wheel};
use self::hub::{Form, Hub};
use self::link::{Deadline, Link};
use self::table::{Entry, Key, Sink, Table};
use crate::metrics::Metrics;
use crate::model::{Channel, CloseReason, UserId, Whose};
use crate::node::{Control, Inbox, Interest, Node, Order, ShardId, Target};
use crate::protocol::Heartbeat;
use crate::telemetry;
use crate::wire::{self, Opcode};

/// Size of the one buffer that all connections of a shard read into.
const READ_BUFFER_BYTES: usize = 64 << 10;
/// A timer this late says that we were not running, not that clients are gone.
const LAG_MAX: Duration = Duration::from_secs(1);

/// A deadline further away than that is looked at again by then, so that the wheel forgets a connection that is
/// gone. A token may be good for days.
const DEADLINE_LOOK: Duration = Duration::from_secs(30);

/// What connections of a node have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two pings; zero for none.
    pub ping_interval: Duration,
    /// How long a pong may take.
    pub pong_timeout: Duration,
    /// How long a client may take to authenticate.
    pub stale_close_delay: Duration,
    /// How long a connection may live on after its token expired.
    pub expired_close_delay: Duration,
    /// Most connections of one user on the node; 0 for no limit.
    pub user_connections_max: usize,
    /// Largest incoming message.
    pub message_bytes_max: usize,
    /// Most frames of a client in a second; 0 for no limit.
    pub frames_per_second_max: usize,
    /// Most bytes queued for one connection.
    pub outbox_bytes_max: usize,
    /// How long a socket may take nothing.
    pub write_timeout: Duration,
    /// How long a subscriber that missed something may not know it; zero: for ever.
    pub position_check_interval: Duration,
    /// How long a connection may live; zero: for ever.
    pub lifetime_max: Duration,
    /// A client that has said nothing for so long is idle.
    pub idle_after: Duration,
}

/// What became of a frame that was offered to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::shard) enum Offer {
    /// Written to the socket.
    Sent,
    /// In the outbox.
    Queued,
    /// The outbox was full; the connection is being closed.
    SlowConsumer,
    /// The connection is gone or going.
    Closed,
}

/// The world of one core. Lives on one thread, in a [`tokio::runtime::LocalRuntime`].
pub struct Shard {
    id: ShardId,
    node: Arc<Node>,
    settings: Settings,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
    table: RefCell<Table>,
    hub: RefCell<Hub>,
    users: RefCell<HashMap<UserId, SmallVec<[Key; 1]>>>,
    wheel: RefCell<Wheel>,
    read_buffer: RefCell<Box<[u8]>>,
    /// Where the keys of publications are told apart while they wait in outboxes.
    slots: RandomState,
    /// Tasks of connections that have not ended, those in their closing handshake included.
    connections: Cell<usize>,
    started_at: Instant,
    stopping: Cell<bool>,
    /// Connections that were closed with something that the client had not taken.
    cut: Cell<usize>,
    emptied: Notify,
    /// The frames of pings, each made once.
    pings: RefCell<SmallVec<[(Heartbeat, Bytes); 3]>>,
}

impl Shard {
    /// A shard without connections.
    pub fn new(id: ShardId, node: Arc<Node>, settings: Settings, budget: Arc<Budget>) -> Rc<Self> {
        let metrics = Arc::clone(node.metrics());
        let started_at = Instant::now();
        Rc::new(Self {
            id,
            node,
            settings,
            budget,
            metrics,
            table: RefCell::default(),
            hub: RefCell::default(),
            users: RefCell::default(),
            wheel: RefCell::new(Wheel::new(started_at)),
            read_buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
            slots: RandomState::new(),
            connections: Cell::new(0),
            started_at,
            stopping: Cell::new(false),
            cut: Cell::new(0),
            emptied: Notify::new(),
            pings: RefCell::default(),
        })
    }

    /// Starts the shard's own tasks: delivery and the wheel. They run until the runtime ends.
    ///
    /// # Panics
    /// Outside of a local runtime.
    pub fn start(self: &Rc<Self>) {
        let runtime = tokio::runtime::Handle::current().metrics();
        self.metrics.watch_runtime(format!("shard-{}", self.id.index()), runtime);
        supervise(tokio::task::spawn_local(fanout::run(Rc::clone(self))));
        supervise(tokio::task::spawn_local(turn_wheel(Rc::clone(self))));
        supervise(tokio::task::spawn_local(position::run(Rc::clone(self))));
    }

    /// Waits until the last connection has ended of a shard that [drains](Self::drain). Cancel safe.
    pub async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.stopping.get() && self.connections.get() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Whether it drains, or has.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Connections whose tasks have not ended.
    pub fn connection_count(&self) -> usize {
        self.connections.get()
    }

    /// How many connections were closed so far with something that the client had not taken.
    pub fn cut(&self) -> usize {
        self.cut.get()
    }

    /// The node that this shard is part of.
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn inbox(&self) -> &Arc<Inbox> {
        self.node.inbox(self.id)
    }

    /// The one door to a connection's socket: sends `frame`, or queues it behind what waits.
    ///
    /// Never waits. Frames leave in the order in which they were offered.
    fn offer(&self, key: Key, frame: &Bytes) -> Offer {
        match self.table.borrow().get(key) {
            Some(entry) => self.offer_to(entry, key, frame),
            None => Offer::Closed,
        }
    }

    fn offer_to(&self, entry: &Entry, key: Key, frame: &Bytes) -> Offer {
        match self.write(entry, key, frame) {
            Some(written) if written == frame.len() => Offer::Sent,
            Some(0) => self.queue(entry, key, frame),
            Some(written) => {
                entry.link.outbox.borrow_mut().push_rest(frame.slice(written..), &self.budget);
                self.watch_writes(entry, key);
                Offer::Queued
            }
            None => Offer::Closed,
        }
    }

    /// Gives the socket as much of `frame` as it takes, which is nothing while something waits; answers how many bytes
    /// it was. `None` if the connection is gone.
    fn write(&self, entry: &Entry, key: Key, frame: &[u8]) -> Option<usize> {
        if entry.blocked.get() {
            return Some(0);
        }
        let written = match &entry.sink {
            Sink::Direct(stream) => stream.try_write(frame),
            Sink::Protected => self.write_protected(entry, key, frame),
        };
        match written {
            Ok(written) => Some(written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(_) => {
                entry.link.close(CloseReason::ConnectionLost);
                entry.blocked.set(true);
                None
            }
        }
    }

    /// The same under TLS. Who takes everything at once is charged nothing, as on a plain socket: the record at which
    /// the socket stopped counts as taken, is charged, and waits for the connection's task.
    fn write_protected(&self, entry: &Entry, key: Key, frame: &[u8]) -> io::Result<usize> {
        let Some(session) = entry.link.session() else { return Ok(0) };
        let mut session = session.borrow_mut();
        let written = session.write_all(frame, &self.budget);
        if session.wants_write() {
            self.watch_writes(entry, key);
        }
        written
    }

    fn queue(&self, entry: &Entry, key: Key, frame: &Bytes) -> Offer {
        let link = &entry.link;
        if link.is_closing() {
            return Offer::Closed;
        }
        let mut outbox = link.outbox.borrow_mut();
        if outbox.push(frame.clone(), self.settings.outbox_bytes_max, &self.budget).is_err() {
            outbox.keep_started(&self.budget);
            entry.blocked.set(true);
            link.close(CloseReason::SlowConsumer);
            return Offer::SlowConsumer;
        }
        drop(outbox);
        self.watch_writes(entry, key);
        Offer::Queued
    }

    /// Something waits for the socket: its task flushes when it can, an alarm comes when it cannot for long.
    fn watch_writes(&self, entry: &Entry, key: Key) {
        let link = &entry.link;
        if entry.blocked.replace(true) && link.blocked_since.get().is_some() {
            return;
        }
        let now = Instant::now();
        link.blocked_since.set(Some(now));
        if !link.watches_writes.replace(true) {
            self.wheel.borrow_mut().set(now + self.settings.write_timeout, key, Alarm::Write);
        }
        link.wake();
    }

    fn set_alarm(&self, after: Duration, key: Key, alarm: Alarm) {
        self.wheel.borrow_mut().set(Instant::now() + after, key, alarm);
    }

    /// Carries out an alarm. `late` says that this thread did not run for a while.
    fn on_alarm(&self, key: Key, alarm: Alarm, late: bool) {
        let link = match self.table.borrow().get(key) {
            Some(entry) => Rc::clone(&entry.link),
            None => return,
        };
        match alarm {
            Alarm::Stale if link.user.borrow().is_none() => link.close(CloseReason::Stale),
            Alarm::Stale => {}
            Alarm::Expiry if self.is_due(&link.expiry, key, alarm) => link.close(CloseReason::Expired),
            Alarm::Reminder if self.is_due(&link.reminder, key, alarm) => {
                link.reminder.at.set(Deadline::NEVER);
                link.is_reminded.set(true);
                link.wake();
            }
            Alarm::Expiry | Alarm::Reminder => {}
            Alarm::Ping => {
                let ping = self.ping(link.heartbeat.get());
                link.awaits_pong.set(true);
                if matches!(self.offer(key, &ping), Offer::Sent | Offer::Queued) {
                    self.metrics.bytes_sent(ping.len());
                }
                self.set_alarm(self.settings.pong_timeout, key, Alarm::Pong);
            }
            // Late: it may be us who did not read. Blocked: the ping may wait behind much that the client is taking;
            // one that takes nothing is closed by the alarm for writes.
            Alarm::Pong
                if link.awaits_pong.get()
                    && (late || link.blocked_since.get().is_some() || self.has_unread(key)) =>
            {
                self.set_alarm(self.settings.pong_timeout, key, Alarm::Pong);
            }
            Alarm::Pong if link.awaits_pong.get() => link.close(CloseReason::NoPong),
            Alarm::Pong => {
                let rest = self.settings.ping_interval.saturating_sub(self.settings.pong_timeout);
                self.set_alarm(rest, key, Alarm::Ping);
            }
            Alarm::Recall => link.close_recalled(),
            Alarm::Lifetime => self.on_lifetime(key, &link),
            // It may be us who did not write.
            Alarm::Write if late => self.set_alarm(self.settings.write_timeout, key, Alarm::Write),
            Alarm::Write => self.on_write_alarm(key, &link),
        }
    }

    /// Whether the client has said something that this thread has not read: one that hardly gets to run, although it is
    /// not late at the moment, must not blame others.
    fn has_unread(&self, key: Key) -> bool {
        let has_some = |stream: &TcpStream| rustix::io::ioctl_fionread(stream).is_ok_and(|bytes| bytes > 0);
        let table = self.table.borrow();
        table.get(key).is_some_and(|entry| match &entry.sink {
            Sink::Direct(stream) => has_some(stream),
            Sink::Protected => {
                entry.link.session().is_some_and(|session| has_some(session.borrow().stream()))
            }
        })
    }

    /// The frame of a ping, shared by all connections that are pinged so.
    fn ping(&self, heartbeat: Heartbeat) -> Bytes {
        let mut pings = self.pings.borrow_mut();
        if let Some((_, ping)) = pings.iter().find(|(known, _)| *known == heartbeat) {
            return ping.clone();
        }
        let ping = match heartbeat {
            Heartbeat::Text(text) => frame(Opcode::Text, text.as_bytes()),
            Heartbeat::Binary(bytes) => frame(Opcode::Binary, bytes),
            Heartbeat::Transport => frame(Opcode::Ping, b""),
        };
        pings.push((heartbeat, ping.clone()));
        ping
    }

    /// Moves the deadline to where `after` has passed; `None`: it never comes.
    fn move_deadline(&self, deadline: &Deadline, key: Key, alarm: Alarm, after: Option<Duration>) {
        deadline.at.set(after.map_or(Deadline::NEVER, |after| self.ticks_after(after)));
        self.watch(deadline, key, alarm);
    }

    /// Whether the deadline whose alarm came has come; else it is watched on.
    fn is_due(&self, deadline: &Deadline, key: Key, alarm: Alarm) -> bool {
        let is_due = deadline.at.get() <= self.ticks();
        if !is_due {
            self.watch(deadline, key, alarm);
        }
        is_due
    }

    /// Sees to it that an alarm comes when the deadline does, or before. However often a client moves it, alarms do
    /// not pile up in the wheel: one that comes first, or with the same tick, is enough.
    fn watch(&self, deadline: &Deadline, key: Key, alarm: Alarm) {
        let at = deadline.at.get();
        if at == Deadline::NEVER {
            return;
        }
        let look_at = at.min(self.ticks_after(DEADLINE_LOOK));
        let known = deadline.looked_at.get();
        if self.ticks() < known && known <= look_at.saturating_add(1) {
            return;
        }
        deadline.looked_at.set(look_at);
        self.wheel.borrow_mut().set(self.started_at + TICK * look_at, key, alarm);
    }

    fn on_write_alarm(&self, key: Key, link: &Link) {
        link.watches_writes.set(false);
        let Some(since) = link.blocked_since.get() else { return };
        let rest = self.settings.write_timeout.saturating_sub(since.elapsed());
        if rest.is_zero() {
            return link.close(CloseReason::WriteTimeout);
        }
        link.watches_writes.set(true);
        self.set_alarm(rest, key, Alarm::Write);
    }

    fn on_control(&self, control: Control) {
        match control {
            Control::Order { target, order } => {
                self.for_each_target(&target, |link| {
                    if let Order::Unsubscribe { channel } = &order {
                        self.mute(channel, link);
                    }
                    link.order(order.clone());
                });
            }
            Control::Disconnect { target, reason, except } => self.for_each_target(&target, |link| {
                if !except.contains(&link.client) {
                    link.close(reason.clone());
                }
            }),
            Control::Shed(count) => self.shed(count),
            Control::Revoke(whose) => self.close_revoked(whose.as_ref()),
            Control::Users(answer) => {
                let users = self.users.borrow().keys().cloned().collect();
                // Who asked may have gone away; then nobody needs the answer.
                drop(answer.send(users));
            }
        }
    }

    /// Closes the connections whose tokens are among these; `None`: among all that were revoked.
    fn close_revoked(&self, whose: Option<&Whose>) {
        let known = self.node.cluster().revocations();
        let is_revoked = |user: &UserId, mark| match whose {
            Some(whose) => whose.includes(user, mark),
            None => known.include(user, mark),
        };
        for entry in self.table.borrow().entries() {
            let link = &entry.link;
            // Who has not authenticated yet is looked at as it does.
            if link.user.borrow().as_ref().is_some_and(|user| is_revoked(user, link.mark.get())) {
                link.close(CloseReason::Revoked);
            }
        }
    }

    fn for_each_target(&self, target: &Target, mut each: impl FnMut(&Link)) {
        let users = self.users.borrow();
        let table = self.table.borrow();
        for key in users.get(&target.user).into_iter().flatten() {
            if let Some(entry) = table.get(*key)
                && target.covers(&target.user, entry.link.client)
            {
                each(&entry.link);
            }
        }
    }

    /// The connection can be addressed by its user from now on.
    fn add_user(&self, user: &UserId, key: Key) {
        self.users.borrow_mut().entry(user.clone()).or_default().push(key);
    }

    fn subscribe(&self, channel: &Channel, key: Key, link: &Link, form: Form, interest: Interest) {
        let held = self.hub.borrow_mut().add(channel, key, form, interest);
        let mut subscriptions = link.subscriptions.borrow_mut();
        if subscriptions.is_empty() {
            // The first growth of a vector would make room for four: most connections have one.
            subscriptions.reserve_exact(1);
        }
        subscriptions.push(held);
    }

    fn unsubscribe(&self, channel: &Channel, link: &Link) {
        let position = self.hub.borrow().position(channel, &link.subscriptions.borrow());
        let Some(position) = position else { return };
        let held = link.subscriptions.borrow_mut().swap_remove(position);
        // What was set aside for it must not meet the next one.
        drop(link.take_aside(held.channel));
        link.outbox.borrow_mut().keep_all(held.channel);
        self.remove_subscriber(&held);
    }

    /// Nothing more of `channel` goes to the connection, whose conversation is still to hear that its subscription has
    /// ended: a client that takes nothing could put that off.
    fn mute(&self, channel: &Channel, link: &Link) {
        let mut hub = self.hub.borrow_mut();
        let subscriptions = link.subscriptions.borrow();
        if let Some(position) = hub.position(channel, &subscriptions) {
            hub.mute(&subscriptions[position]);
        }
    }

    fn remove_subscriber(&self, held: &hub::Held) {
        let moved = self.hub.borrow_mut().remove(held);
        if let Some(moved) = moved {
            self.apply(&moved);
        }
    }

    fn apply(&self, moved: &hub::Moved) {
        if let Some(entry) = self.table.borrow().get(moved.connection) {
            moved.apply(&mut entry.link.subscriptions.borrow_mut());
        }
    }

    /// Removes the connection from everything that could still send to it. Again is harmless.
    ///
    /// Answers what waits until everybody sees of it what they are to see: who comes back finds its place.
    fn forget(&self, key: Key, reason: &CloseReason) -> Vec<impl Future<Output = ()> + use<>> {
        let link = self.table.borrow().get(key).map(|entry| Rc::clone(&entry.link));
        let Some(link) = link else { return Vec::new() };
        let subscriptions = std::mem::take(&mut *link.subscriptions.borrow_mut());
        for held in &subscriptions {
            self.remove_subscriber(held);
        }
        let seats = subscriptions.into_iter().filter_map(|held| held.seat);
        let lost = seats.filter_map(|seat| reason.comes_back().then(|| seat.lose()).flatten()).collect();
        if let Some(user) = link.user.borrow_mut().take() {
            self.node.client_closed(&user, link.client);
            let mut users = self.users.borrow_mut();
            if let Some(keys) = users.get_mut(&user) {
                keys.retain(|known| *known != key);
                if keys.is_empty() {
                    users.remove(&user);
                }
            }
        }
        self.table.borrow_mut().remove(key);
        lost
    }
}

/// Ends the process if `task` panics: a shard that accepts and does not deliver is worse than a node that is gone.
fn supervise(task: JoinHandle<()>) {
    tokio::task::spawn_local(async move {
        if let Err(error) = task.await
            && error.is_panic()
        {
            tracing::error!("a shard's own task panicked; the node ends");
            telemetry::finish();
            std::process::abort();
        }
    });
}

/// Turns the wheel for ever.
async fn turn_wheel(shard: Rc<Shard>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut due = Vec::new();
    loop {
        interval.tick().await;
        let lag = shard.wheel.borrow_mut().turn(Instant::now(), &mut due);
        shard.metrics.shard_lag(shard.id.index(), lag);
        for (key, alarm) in due.drain(..) {
            shard.on_alarm(key, alarm, lag > LAG_MAX);
        }
        if due.capacity() > 1024 {
            due = Vec::new();
        }
    }
}

fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(wire::frame_bytes(payload.len()));
    wire::encode_frame(opcode, payload, &mut out);
    out.into()
}

#[cfg(test)]
mod tests;
