//! The cold part of a connection: what its task shares with the rest of the shard.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::hub::{ChannelKey, Held};
use super::outbox::Outbox;
use super::socket::Session;
use crate::model::{ClientId, CloseReason, Epoch, Position, Publication, TokenMark, UserId};
use crate::node::Order;
use crate::node::recovery::Aside;
use crate::protocol::Heartbeat;

/// What the shard and a connection's task tell each other. All on one thread.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: ClientId,
    pub(super) outbox: RefCell<Outbox>,
    /// `None` until the client has authenticated.
    pub(super) user: RefCell<Option<UserId>>,
    /// What the token that authenticated it can be revoked by.
    pub(super) mark: Cell<TokenMark>,
    pub(super) subscriptions: RefCell<Vec<Held>>,
    pub(super) heartbeat: Cell<Heartbeat>,
    pub(super) awaits_pong: Cell<bool>,
    /// Since when the socket has taken nothing; `None` while nothing waits.
    pub(super) blocked_since: Cell<Option<Instant>>,
    /// When what authenticated the client is no longer good.
    pub(super) expiry: Deadline,
    /// When the conversation wants to be reminded.
    pub(super) reminder: Deadline,
    /// Whether that time has come, and the conversation does not know yet.
    pub(super) is_reminded: Cell<bool>,
    /// Whether an alarm for a blocked socket is set.
    pub(super) watches_writes: Cell<bool>,
    /// Boxed: while a client idles there is nothing of it.
    news: RefCell<Option<Box<News>>>,
    /// When it was opened, and when the client last said something; in turns of the wheel since the shard began.
    pub(super) opened_at: Cell<u32>,
    pub(super) heard_at: Cell<u32>,
    recalled: Cell<Option<Recall>>,
    /// Boxed: a connection closes once.
    closing: OnceCell<Box<CloseReason>>,
    waker: RefCell<Option<Waker>>,
    /// What encrypts for it, if it speaks TLS.
    session: OnceCell<Rc<RefCell<Session>>>,
}

// With the two counters of an `Rc` it takes one of the allocator's places of 320 bytes.
const _: () = assert!(size_of::<Link>() + 16 <= 320);

/// What the shard has for a connection's task, until it takes it.
#[derive(Debug, Default)]
struct News {
    /// What came for subscriptions whose history is being read.
    asides: Vec<(ChannelKey, Aside)>,
    /// Channels of which something was missed, and the conversation does not know yet.
    lost: Vec<ChannelKey>,
    orders: VecDeque<Order>,
}

impl News {
    fn is_empty(&self) -> bool {
        self.asides.is_empty() && self.lost.is_empty() && self.orders.is_empty()
    }
}

/// Why a connection is asked to come again, to whichever node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// The node stops.
    Shutdown,
    /// Other nodes have far fewer clients.
    Rebalance,
    /// It lived as long as it may.
    Lifetime,
}

impl From<Recall> for CloseReason {
    fn from(recall: Recall) -> Self {
        match recall {
            Recall::Shutdown => Self::Shutdown,
            Recall::Rebalance => Self::Rebalance,
            Recall::Lifetime => Self::Lifetime,
        }
    }
}

/// A time that may lie days ahead and may change, and that a wheel of alarms is to watch; in turns of the wheel since the
/// shard began.
#[derive(Debug)]
pub(super) struct Deadline {
    /// [`NEVER`](Self::NEVER) if it does not come.
    pub(super) at: Cell<u32>,
    /// When the next alarm for it comes; in the past if none is set.
    pub(super) looked_at: Cell<u32>,
}

impl Deadline {
    pub(super) const NEVER: u32 = u32::MAX;
}

impl Default for Deadline {
    fn default() -> Self {
        Self { at: Cell::new(Self::NEVER), looked_at: Cell::new(0) }
    }
}

impl Link {
    pub(super) fn new(client: ClientId) -> Self {
        Self {
            client,
            outbox: RefCell::default(),
            user: RefCell::default(),
            mark: Cell::default(),
            subscriptions: RefCell::default(),
            heartbeat: Cell::new(Heartbeat::Transport),
            awaits_pong: Cell::new(false),
            blocked_since: Cell::new(None),
            expiry: Deadline::default(),
            reminder: Deadline::default(),
            is_reminded: Cell::new(false),
            watches_writes: Cell::new(false),
            news: RefCell::default(),
            opened_at: Cell::new(0),
            heard_at: Cell::new(0),
            recalled: Cell::new(None),
            closing: OnceCell::new(),
            waker: RefCell::default(),
            session: OnceCell::new(),
        }
    }

    /// Asks the connection's task to close, for the first reason that is given.
    pub(super) fn close(&self, reason: CloseReason) {
        self.closing.get_or_init(|| Box::new(reason));
        self.wake();
    }

    /// Asks the connection's task to close once what the client has asked for is done, for the first reason that is given.
    pub(super) fn recall(&self, recall: Recall) {
        if self.recalled.get().is_none() {
            self.recalled.set(Some(recall));
            self.wake();
        }
    }

    pub(super) fn is_recalled(&self) -> bool {
        self.recalled.get().is_some()
    }

    /// Closes it, if it was recalled, whatever is under way.
    pub(super) fn close_recalled(&self) {
        if let Some(recall) = self.recalled.get() {
            self.close(recall.into());
        }
    }

    /// Why it closes, if it does.
    pub(super) fn closing(&self) -> Option<&CloseReason> {
        self.closing.get().map(|reason| &**reason)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.get().is_some()
    }

    pub(super) fn order(&self, order: Order) {
        self.tell(|news| news.orders.push_back(order));
        self.wake();
    }

    pub(super) fn next_order(&self) -> Option<Order> {
        self.ask(|news| news.orders.pop_front())
    }

    pub(super) fn has_orders(&self) -> bool {
        self.news.borrow().as_ref().is_some_and(|news| !news.orders.is_empty())
    }

    /// Something of `channel` was missed.
    pub(super) fn lose(&self, channel: ChannelKey) {
        self.tell(|news| news.lost.push(channel));
        self.wake();
    }

    pub(super) fn has_lost(&self) -> bool {
        self.news.borrow().as_ref().is_some_and(|news| !news.lost.is_empty())
    }

    pub(super) fn take_lost(&self) -> Vec<ChannelKey> {
        self.ask(|news| std::mem::take(&mut news.lost))
    }

    /// Sets `publications` aside for a subscription whose history is being read.
    pub(super) fn set_aside(
        &self,
        channel: ChannelKey,
        epoch: &Epoch,
        publications: &[Arc<Publication>],
        bytes_max: usize,
    ) {
        self.with_aside(channel, |aside| aside.add(epoch, publications, bytes_max));
    }

    /// What has not come of `channel` up to `top` will not come, as a subscription has to know whose history is
    /// being read.
    pub(super) fn set_loss_aside(&self, channel: ChannelKey, top: &Position) {
        self.with_aside(channel, |aside| aside.lose(top));
    }

    fn with_aside(&self, channel: ChannelKey, change: impl FnOnce(&mut Aside)) {
        self.tell(|News { asides, .. }| {
            let known = asides.iter().position(|(known, _)| *known == channel);
            let index = known.unwrap_or_else(|| {
                asides.push((channel, Aside::default()));
                asides.len() - 1
            });
            change(&mut asides[index].1);
        });
    }

    /// What was set aside, which ends it.
    pub(super) fn take_aside(&self, channel: ChannelKey) -> Aside {
        self.ask(|news| {
            let known = news.asides.iter().position(|(known, _)| *known == channel);
            known.map(|index| news.asides.swap_remove(index).1).unwrap_or_default()
        })
    }

    fn tell(&self, tell: impl FnOnce(&mut News)) {
        tell(self.news.borrow_mut().get_or_insert_default());
    }

    /// What is taken of the news, which are dropped with the last of it.
    fn ask<T: Default>(&self, take: impl FnOnce(&mut News) -> T) -> T {
        let mut news = self.news.borrow_mut();
        let taken = news.as_mut().map(|news| take(news)).unwrap_or_default();
        if news.as_ref().is_some_and(|news| news.is_empty()) {
            *news = None;
        }
        taken
    }

    /// What goes to its client is encrypted by `session`.
    pub(super) fn protect(&self, session: Rc<RefCell<Session>>) {
        // It is set once, before the table has the connection.
        drop(self.session.set(session));
    }

    /// What encrypts for it, if it speaks TLS.
    pub(super) fn session(&self) -> Option<&RefCell<Session>> {
        self.session.get().map(|session| &**session)
    }

    /// The task that waits; it is woken by what happens to the link.
    pub(super) fn register(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
