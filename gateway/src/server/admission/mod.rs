//! The door of a node: who comes in, who waits a moment for its turn, and who is sent away and told when to come again.
//!
//! One [`Admission`] for all shards. It looks at where somebody comes from and at what the node has left, and knows
//! nothing of tokens or protocols. [`Admission::enter`] asks as a connection is accepted, before anything of it is read;
//! whoever is let in is a [`Visit`], whose permit goes with the connection to its end. To send somebody away is cheap:
//! no HTTP is parsed and nothing is verified, and [`Admission::send_away`] sees to it that the answer arrives.
//!
//! What is asked, in this order: is there a place among the connections, memory, a place and a turn for the address,
//! and a turn of the node. Only who is sent away for what the node lacks takes a place in the queue of promises, so that
//! a herd is told to come back in the time that it takes to let it in (`turns`).

// Bytes of strangers come here: none of them may panic.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod address;
mod addresses;
mod farewell;
mod memory;
mod notice;
mod refusal;
mod turns;

use std::cell::RefCell;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use governor::clock::DefaultClock;
use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

pub use self::memory::MemoryLimits;
pub use self::refusal::{Reason, Refusal};

use self::address::Proxies;
use self::addresses::{Addresses, TooMuch};
use self::memory::{Memory, Usage};
use self::notice::{Notice, Notices};
use self::turns::{Turn, Turns};
use crate::metrics::Metrics;
use crate::shard::Permit;

/// Between two looks at memory and at whether the door is open.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Addresses are forgotten every so many looks.
const PURGE_LOOKS: u32 = 4;
/// Below this share of `connections_soft_max` a node that had too many connections is ready again, in percent.
const READY_BELOW: usize = 95;
/// What somebody is told at least and at most who finds no place, in seconds: nobody knows when there is one.
const NO_PLACE_SECONDS: std::ops::RangeInclusive<u64> = 1..=5;
/// The same for an address that has all its places: only it can give one up.
const NO_PLACE_OF_ADDRESS_SECONDS: std::ops::RangeInclusive<u64> = 5..=10;
/// The same while the node stops: another one takes it.
const STOPPING_SECONDS: std::ops::RangeInclusive<u64> = 1..=2;
/// The alert `internal_error`, which is fatal (RFC 8446 §6).
const TLS_ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// How much a node takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections.
    pub connections_max: usize,
    /// Connections above which the node is not ready; 0 for none.
    pub connections_soft_max: usize,
    /// Handshakes in a second; at least 1.
    pub handshakes_per_second: usize,
    /// Connections of an address; 0 for no limit.
    pub address_connections_max: usize,
    /// Handshakes of an address in a second; 0 for no limit.
    pub address_handshakes_per_second: usize,
    /// Proxies whose word on a client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether clients must come with TLS: to this node, or to a proxy that says so.
    pub requires_tls: bool,
    /// Memory.
    pub memory: MemoryLimits,
    /// How many may be told at a time that they are sent away; each is an open file.
    pub farewells_max: usize,
}

/// Lets clients in, or sends them away.
pub struct Admission {
    limits: Limits,
    connections: Arc<Semaphore>,
    turns: Mutex<Turns>,
    proxies: Proxies,
    addresses: Addresses<DefaultClock>,
    is_short_of_memory: AtomicBool,
    is_crowded: AtomicBool,
    farewells: Arc<Semaphore>,
    notices: Mutex<Notices>,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Admission").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Admission {
    /// An open door.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        let permits = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        metrics.connections_limit(limits.connections_max);
        metrics.memory_limit(limits.memory.resident_bytes_max);
        Arc::new(Self {
            connections: permits(limits.connections_max),
            turns: Mutex::new(Turns::new(limits.handshakes_per_second, Instant::now())),
            proxies: Proxies::new(limits.trusted_proxies.clone()),
            addresses: Addresses::new(
                limits.address_handshakes_per_second,
                limits.address_connections_max,
                DefaultClock::default(),
            ),
            is_short_of_memory: AtomicBool::new(false),
            is_crowded: AtomicBool::new(false),
            farewells: permits(limits.farewells_max),
            notices: Mutex::default(),
            limits,
            metrics,
        })
    }

    /// Asks for whoever connects from `peer`, of which nothing was read yet. Never waits: what is let in may have to,
    /// see [`Visit::turn`].
    ///
    /// # Errors
    /// [`Refusal`]: it is to be sent away, and is counted as such.
    pub fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Visit, Refusal> {
        let connections = Arc::clone(&self.connections);
        let node = connections.try_acquire_owned().map_err(|_| self.refuse(Reason::ConnectionsMax))?;
        if self.is_short_of_memory.load(Ordering::Relaxed) {
            return Err(self.refuse(Reason::Memory));
        }
        let is_trusted = self.proxies.include(peer);
        let is_proxy = is_trusted && self.addresses.are_limited();
        // Of whom a proxy speaks is known once the head of the request is read.
        let address = if is_proxy { None } else { self.admit_address(peer)? };
        let turn = self.turns.lock().take(Instant::now());
        match turn {
            Turn::TooLate => Err(self.refuse(Reason::Rate)),
            Turn::After(wait) => Ok(Visit {
                admission: Arc::clone(self),
                wait,
                is_trusted,
                proxy: is_proxy.then_some(peer),
                permit: RefCell::new(Some(Permit { node, address })),
            }),
        }
    }

    /// Tells whoever is on `stream` why it is sent away, and closes. Never waits; if not too many are being told, this
    /// goes on for two seconds at the most, so that the answer arrives.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn send_away(&self, stream: TcpStream, refusal: Refusal) {
        let answer = refusal.to_text();
        match Arc::clone(&self.farewells).try_acquire_owned() {
            Ok(permit) => drop(tokio::spawn(async move {
                farewell::part(stream, &answer).await;
                drop(permit);
            })),
            Err(_) => farewell::hang_up(&stream, answer.as_bytes()),
        }
    }

    /// Sends whoever is on `stream` away from a listener of TLS, in one step: with an alert that says nothing. An answer
    /// that can be read would cost the handshake that is refused.
    pub fn send_away_from_tls(&self, stream: &TcpStream) {
        farewell::hang_up(stream, TLS_ALERT);
    }

    /// The same in one step: there is no file, or no time, for more.
    pub fn send_away_at_once(&self, stream: &TcpStream, refusal: Refusal) {
        farewell::hang_up(stream, refusal.to_text().as_bytes());
    }

    /// Waits until everybody is told who is being told now, at most for `patience`.
    pub async fn farewells_ended(&self, patience: Duration) {
        let all = u32::try_from(self.limits.farewells_max).unwrap_or(u32::MAX);
        // Whoever takes longer is left behind.
        drop(tokio::time::timeout(patience, self.farewells.acquire_many(all)).await);
    }

    /// Counts somebody who is sent away for `reason`, and says when it may come again.
    pub fn refuse(&self, reason: Reason) -> Refusal {
        let retry_after = match reason {
            Reason::Stopping => rand::random_range(STOPPING_SECONDS),
            Reason::Rate => self.promise(),
            // They all come back, whatever it was for.
            Reason::ConnectionsMax | Reason::Memory | Reason::Files => {
                self.promise().max(rand::random_range(NO_PLACE_SECONDS))
            }
            Reason::InternalConnectionsMax | Reason::AddressRate => rand::random_range(NO_PLACE_SECONDS),
            Reason::AddressConnectionsMax => rand::random_range(NO_PLACE_OF_ADDRESS_SECONDS),
            Reason::HeaderTimeout | Reason::Tls | Reason::TlsRequired => 0,
        };
        self.refused(Refusal { reason, retry_after })
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        let Refusal { reason, .. } = refusal;
        self.metrics.handshake_rejected(reason.code());
        let is_door =
            matches!(reason, Reason::Rate | Reason::ConnectionsMax | Reason::Memory | Reason::Files);
        if is_door && let Some(notice) = self.notices.lock().refused(Instant::now()) {
            tell(notice, Some(reason));
        }
        refusal
    }

    fn promise(&self) -> u64 {
        let place = self.turns.lock().promise(Instant::now());
        turns::advice(place, rand::random_range(0.0..1.0))
    }

    /// Counts a handshake of an address; its place among the connections of that address, if they are counted.
    fn admit_address(&self, address: IpAddr) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        self.addresses.admit(address.into()).map_err(|too_much| match too_much {
            TooMuch::Connections => self.refuse(Reason::AddressConnectionsMax),
            TooMuch::Handshakes(wait) => {
                let retry_after = wait.as_secs() + rand::random_range(STOPPING_SECONDS);
                self.refused(Refusal { reason: Reason::AddressRate, retry_after })
            }
        })
    }

    /// How many connections there are, those whose handshake is not over included.
    pub fn connections(&self) -> usize {
        self.limits.connections_max.saturating_sub(self.connections.available_permits())
    }

    /// Whether others should be sent here: there are not more connections than `connections_soft_max`, or not so many
    /// any more that one more would make it too many again.
    pub fn has_room(&self) -> bool {
        let (soft_max, connections) = (self.limits.connections_soft_max, self.connections());
        let was_crowded = self.is_crowded.load(Ordering::Relaxed);
        let is_crowded = is_crowded(connections, soft_max, was_crowded);
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
        !is_crowded
    }

    /// Looks after the door for as long as the future is polled: at memory, and at what may be forgotten.
    pub async fn watch(self: Arc<Self>) {
        let mut memory = Memory::new(self.limits.memory);
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        for look in 1u32.. {
            ticks.tick().await;
            if let Some(usage) = Usage::now() {
                self.is_short_of_memory.store(memory.is_short(usage), Ordering::Relaxed);
            }
            // It remembers: who asks seldom must not miss that there were too many.
            self.has_room();
            if let Some(notice) = self.notices.lock().look(Instant::now()) {
                tell(notice, None);
            }
            if look.is_multiple_of(PURGE_LOOKS) {
                self.addresses.purge();
            }
        }
    }
}

fn is_crowded(connections: usize, soft_max: usize, was_crowded: bool) -> bool {
    match was_crowded {
        _ if soft_max == 0 => false,
        true => connections.saturating_mul(100) >= soft_max.saturating_mul(READY_BELOW),
        false => connections > soft_max,
    }
}

fn tell(notice: Notice, reason: Option<Reason>) {
    match notice {
        Notice::Closed => {
            let reason = reason.map_or("", Reason::code);
            tracing::warn!(reason, "the door is closed: clients are sent away and told when to come again");
        }
        Notice::Open { refused } => tracing::info!(refused, "the door is open again"),
    }
}

/// Somebody who was let in, until it is a connection of a shard.
#[derive(Debug)]
pub struct Visit {
    admission: Arc<Admission>,
    wait: Duration,
    /// Whether it comes from a proxy whose word is taken.
    is_trusted: bool,
    /// Where it comes from, if a proxy there says whose request it is.
    proxy: Option<IpAddr>,
    /// `None` once the connection has it.
    permit: RefCell<Option<Permit>>,
}

impl Visit {
    /// Waits for its turn, about a second at the most. Before that nothing of it is to be read.
    ///
    /// # Errors
    /// [`Refusal`]: it is to be sent away after all, because memory ran short meanwhile.
    pub async fn turn(&self) -> Result<(), Refusal> {
        if self.wait.is_zero() {
            return Ok(());
        }
        let waiting = Waiting::begin(&self.admission.metrics);
        tokio::time::sleep(self.wait).await;
        drop(waiting);
        match self.admission.is_short_of_memory.load(Ordering::Relaxed) {
            true => Err(self.admission.refuse(Reason::Memory)),
            false => Ok(()),
        }
    }

    /// Looks whose request this is, if a proxy has sent it, and whether the client spoke TLS, if it has to. The connection
    /// is counted to this address from now on. `is_protected` says that the request came over TLS.
    ///
    /// # Errors
    /// [`Refusal`]: the answer to this request, which is counted as such.
    pub fn identify(&self, headers: &HeaderMap, is_protected: bool) -> Result<(), Refusal> {
        if self.admission.limits.requires_tls && !self.came_by_tls(headers, is_protected) {
            return Err(self.admission.refuse(Reason::TlsRequired));
        }
        let Some(proxy) = self.proxy else { return Ok(()) };
        let client = self.admission.proxies.client(proxy, headers);
        if let Some(permit) = self.permit.borrow_mut().as_mut() {
            // A proxy may send requests of several clients on one connection, one after another.
            permit.address = None;
            permit.address = self.admission.admit_address(client)?;
        }
        Ok(())
    }

    /// What a proxy says of the client's own connection goes before what we know of the proxy's.
    fn came_by_tls(&self, headers: &HeaderMap, is_protected: bool) -> bool {
        let said = if self.is_trusted { address::came_by_tls(headers) } else { None };
        said.unwrap_or(is_protected)
    }

    /// The places that it holds, for the connection that it becomes. Once.
    pub fn take_permit(&self) -> Option<Permit> {
        self.permit.take()
    }
}

/// Somebody who waits, counted.
struct Waiting<'a>(&'a Metrics);

impl<'a> Waiting<'a> {
    fn begin(metrics: &'a Metrics) -> Self {
        metrics.handshakes_waiting(1);
        Self(metrics)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.handshakes_waiting(-1);
    }
}

#[cfg(test)]
mod tests;
