//! The cold part of a connection: what its task shares with the rest of the shard.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use super::hub::Held;
use super::outbox::Outbox;
use crate::model::{ClientId, CloseReason, UserId};
use crate::node::Order;
use crate::protocol::Heartbeat;

/// What the shard and a connection's task tell each other. All on one thread.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: ClientId,
    pub(super) outbox: RefCell<Outbox>,
    /// `None` until the client has authenticated.
    pub(super) user: RefCell<Option<UserId>>,
    pub(super) subscriptions: RefCell<Vec<Held>>,
    pub(super) heartbeat: Cell<Heartbeat>,
    pub(super) awaits_pong: Cell<bool>,
    /// Since when the socket has taken nothing; `None` while nothing waits.
    pub(super) blocked_since: Cell<Option<Instant>>,
    /// When what authenticated the client is no longer good; `None` if never.
    pub(super) expires_at: Cell<Option<Instant>>,
    /// Whether an alarm for a blocked socket is set.
    pub(super) watches_writes: Cell<bool>,
    orders: RefCell<VecDeque<Order>>,
    closing: RefCell<Option<CloseReason>>,
    waker: RefCell<Option<Waker>>,
}

impl Link {
    pub(super) fn new(client: ClientId) -> Self {
        Self {
            client,
            outbox: RefCell::default(),
            user: RefCell::default(),
            subscriptions: RefCell::default(),
            heartbeat: Cell::new(Heartbeat::Transport),
            awaits_pong: Cell::new(false),
            blocked_since: Cell::new(None),
            expires_at: Cell::new(None),
            watches_writes: Cell::new(false),
            orders: RefCell::default(),
            closing: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    /// Asks the connection's task to close, for the first reason that is given.
    pub(super) fn close(&self, reason: CloseReason) {
        self.closing.borrow_mut().get_or_insert(reason);
        self.wake();
    }

    /// Why it closes, if it does.
    pub(super) fn closing(&self) -> Option<CloseReason> {
        self.closing.borrow().clone()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    pub(super) fn order(&self, order: Order) {
        self.orders.borrow_mut().push_back(order);
        self.wake();
    }

    pub(super) fn next_order(&self) -> Option<Order> {
        self.orders.borrow_mut().pop_front()
    }

    pub(super) fn has_orders(&self) -> bool {
        !self.orders.borrow().is_empty()
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
