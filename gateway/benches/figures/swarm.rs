//! The process that holds the clients' sockets: one thread, one task per client, one read buffer for all.
//!
//! Every client checks that publications come in order and without a gap, so their sum tells whether all have all.

mod client;

use std::cell::{Cell, RefCell};
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use jsonwebtoken::{EncodingKey, Header};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::client::{Client, Link};
use super::clients::{Answer, Lateness, Order, Status};
use super::frame::{self, CHANNEL, Wishes};
use super::helper::say;
use super::options::{Spread, SwarmArguments};

/// Handshakes under way at a time: below the listener's backlog, above what two cores need to be busy.
const HANDSHAKES_MAX: u32 = 32;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long all clients together may take to get a publication before it counts as lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// How long this process stays away before it waits for sockets. Who sends on loopback pays for waking the receiver,
/// between once per publication and once per delivery, as it happens to come; clients elsewhere cost a server
/// nothing of the kind. A receiver that does not wait when the bytes come is not woken by them.
const NAP: Duration = Duration::from_millis(1);

/// The process itself: connects, then obeys [`Order`]s until its input ends.
pub(crate) fn run(arguments: &SwarmArguments) -> Result<()> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    if !arguments.timed {
        builder.on_thread_park(|| thread::sleep(NAP));
    }
    let outcome = builder.build_local(LocalOptions::default())?.block_on(obey(arguments));
    if let Err(error) = outcome {
        // Sent as an answer, so that the bench reports it once and in context.
        answer(&Answer::Failed(format!("{error:#}")))?;
    }
    Ok(())
}

async fn obey(arguments: &SwarmArguments) -> Result<()> {
    let mut orders = read_orders();
    let mut key = None;
    if !arguments.bare {
        let Some(Order::Secret(secret)) = orders.recv().await else { bail!("the first order is no secret") };
        key = Some(EncodingKey::from_secret(secret.as_bytes()));
    }
    let swarm = Rc::new(Swarm::new(arguments, key));
    swarm.connect_all(!arguments.apart).await?;
    answer(&Answer::Connected)?;
    while let Some(order) = orders.recv().await {
        answer(&swarm.carry_out(order).await?)?;
    }
    Ok(())
}

/// Orders from standard input, which only a thread of its own can wait for.
fn read_orders() -> mpsc::Receiver<Order> {
    let (tx, rx) = mpsc::channel(1);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { return };
            if tx.blocking_send(order).is_err() {
                return;
            }
        }
    });
    rx
}

fn answer(answer: &Answer) -> Result<()> {
    say(&serde_json::to_string(answer)?)
}

/// What all clients share.
#[derive(Debug)]
struct Swarm {
    address: SocketAddr,
    connections: u32,
    /// What the clients take turns to subscribe to.
    channels: Vec<String>,
    is_hearing: bool,
    is_timed: bool,
    /// What tokens are signed with; `None` for bare sockets.
    key: Option<EncodingKey>,
    /// The open sockets, and the tasks that read them.
    links: RefCell<Vec<Link>>,
    listeners: RefCell<JoinSet<()>>,
    started: Cell<u32>,
    /// Of the channel's history, if it has one.
    epoch: RefCell<String>,
    /// What every client that connects has already.
    base: Cell<u64>,
    /// What those that recover must have afterwards.
    recovered: Cell<u64>,
    /// Clients that have the reply to `subscribe`.
    subscribed: Cell<u32>,
    /// Publications received, by all clients together.
    deliveries: Cell<u64>,
    /// The number of deliveries somebody waits for.
    awaited: Cell<u64>,
    /// When the awaited publication was published, in nanoseconds since 1970.
    published_ns: Cell<u64>,
    lateness_us: RefCell<Vec<u64>>,
    notices: Cell<u64>,
    pings: Cell<u64>,
    sample: RefCell<Vec<u8>>,
    failure: RefCell<Option<String>>,
    /// `awaited` or all subscribers are reached, or there is a `failure`.
    changed: Notify,
    buffer: RefCell<Box<[u8]>>,
}

impl Swarm {
    fn new(arguments: &SwarmArguments, key: Option<EncodingKey>) -> Self {
        Self {
            address: arguments.address,
            connections: arguments.connections,
            channels: arguments.spread.as_ref().map_or_else(|| vec![CHANNEL.to_owned()], Spread::channels),
            is_hearing: arguments.hearing,
            is_timed: arguments.timed,
            key,
            links: RefCell::default(),
            listeners: RefCell::default(),
            started: Cell::new(0),
            epoch: RefCell::default(),
            base: Cell::new(0),
            recovered: Cell::new(0),
            subscribed: Cell::new(0),
            deliveries: Cell::new(0),
            awaited: Cell::new(u64::MAX),
            published_ns: Cell::new(0),
            lateness_us: RefCell::default(),
            notices: Cell::new(0),
            pings: Cell::new(0),
            sample: RefCell::default(),
            failure: RefCell::default(),
            changed: Notify::new(),
            buffer: RefCell::new(vec![0; READ_BUFFER_BYTES].into()),
        }
    }

    async fn carry_out(self: &Rc<Self>, order: Order) -> Result<Answer> {
        match order {
            Order::Secret(_) => bail!("a second secret"),
            Order::Subscribe => self.subscribe_all(&self.wishes(0)).await.map(|()| Answer::Subscribed),
            Order::Leave => {
                self.leave().await;
                Ok(Answer::Left)
            }
            Order::Return => self.connect_all(false).await.map(|()| Answer::Connected),
            Order::Recover(sequence) => {
                self.recovered.set(sequence);
                let since = Some((self.epoch.borrow().clone(), self.base.get()));
                self.subscribe_all(&Wishes { since, ..self.wishes(0) }).await?;
                Ok(Answer::Subscribed)
            }
            Order::Await(sequence, published_ns) => {
                self.published_ns.set(published_ns);
                self.received(sequence).await.map(|()| Answer::Received)
            }
            Order::Status => self.status().map(Answer::Status),
        }
    }

    fn wishes(&self, index: u32) -> Wishes {
        let channel = self.channels[index as usize % self.channels.len()].clone();
        Wishes { channel, since: None, hearing: self.is_hearing }
    }

    /// Connects every client; each is subscribed as well if it `subscribes`.
    async fn connect_all(self: &Rc<Self>, subscribes: bool) -> Result<()> {
        let mut handshakes = JoinSet::new();
        self.started.set(0);
        for _ in 0..HANDSHAKES_MAX {
            handshakes.spawn_local(Rc::clone(self).connect_some(subscribes));
        }
        while let Some(outcome) = handshakes.join_next().await {
            outcome??;
        }
        Ok(())
    }

    /// Connects one client after another until all are started.
    async fn connect_some(self: Rc<Self>, subscribes: bool) -> Result<()> {
        while self.started.get() < self.connections {
            let index = self.started.replace(self.started.get() + 1);
            let greeting = self.greeting(index, subscribes)?;
            let client = timeout(HANDSHAKE_TIMEOUT, Client::connect(&self, greeting));
            let client =
                client.await.with_context(|| format!("the handshake of client {index} takes too long"))?;
            let client = client.with_context(|| format!("connecting client {index}"))?;
            self.links.borrow_mut().push(client.link());
            self.listeners.borrow_mut().spawn_local(client.listen(Rc::clone(&self)));
        }
        Ok(())
    }

    /// What client `index` says first, and how many replies that has; `None` for a bare socket.
    fn greeting(&self, index: u32, subscribes: bool) -> Result<Option<(Vec<u8>, u32)>> {
        let Some(key) = &self.key else { return Ok(None) };
        let token = sign(key, index)?;
        Ok(Some(match subscribes {
            true => (frame::connect_and_subscribe(&token, &self.wishes(index)), 2),
            false => (frame::connect(&token), 1),
        }))
    }

    /// Subscribes every client that is connected, all at once and to the same channel.
    async fn subscribe_all(&self, wishes: &Wishes) -> Result<()> {
        self.subscribed.set(0);
        let subscribe = frame::subscribe(wishes);
        for link in &*self.links.borrow() {
            link.write(&subscribe)?;
        }
        let outcome =
            timeout(DELIVERY_TIMEOUT, self.until(|| self.subscribed.get() == self.connections)).await;
        self.check()?;
        outcome.with_context(|| format!("{} clients are subscribed", self.subscribed.get()))
    }

    /// Cuts every line, without a goodbye.
    async fn leave(&self) {
        let mut listeners = self.listeners.take();
        self.links.borrow_mut().clear();
        listeners.shutdown().await;
    }

    /// Waits until every client has every publication up to `sequence`.
    async fn received(&self, sequence: u64) -> Result<()> {
        let awaited = sequence * u64::from(self.connections);
        self.awaited.set(awaited);
        let outcome = timeout(DELIVERY_TIMEOUT, self.until(|| self.deliveries.get() >= awaited)).await;
        self.check()?;
        self.base.set(sequence);
        let missing = awaited.saturating_sub(self.deliveries.get());
        outcome.with_context(|| format!("{missing} deliveries up to publication {sequence} are lost"))
    }

    /// Waits until there is what `is_reached` looks for, or a failure.
    async fn until(&self, is_reached: impl Fn() -> bool) {
        while !is_reached() && self.failure.borrow().is_none() {
            self.changed.notified().await;
        }
    }

    fn status(&self) -> Result<Status> {
        self.check()?;
        Ok(Status {
            pings: self.pings.get(),
            notices: self.notices.get(),
            sample: self.sample.borrow().clone(),
            lateness: lateness(self.lateness_us.take()),
        })
    }

    fn check(&self) -> Result<()> {
        match &*self.failure.borrow() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    fn delivered(&self, published_ns: Option<u64>) {
        if self.is_timed {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let published_ns = published_ns.unwrap_or_else(|| self.published_ns.get());
            let late_ns = now.saturating_sub(u128::from(published_ns));
            self.lateness_us.borrow_mut().push(u64::try_from(late_ns / 1_000).unwrap_or(u64::MAX));
        }
        self.deliveries.set(self.deliveries.get() + 1);
        if self.deliveries.get() == self.awaited.get() {
            self.changed.notify_one();
        }
    }

    fn subscribed(&self) {
        self.subscribed.set(self.subscribed.get() + 1);
        if self.subscribed.get() == self.connections {
            self.changed.notify_one();
        }
    }

    fn fail(&self, error: &anyhow::Error) {
        self.failure.borrow_mut().get_or_insert_with(|| format!("{error:#}"));
        self.changed.notify_one();
    }
}

fn lateness(mut late_us: Vec<u64>) -> Lateness {
    late_us.sort_unstable();
    let at = |percent: usize| late_us.get(late_us.len() * percent / 100).copied().unwrap_or(0);
    let max_us = late_us.last().copied().unwrap_or(0);
    Lateness { deliveries: late_us.len(), p50_us: at(50), p99_us: at(99), max_us }
}

/// The token of client `index`: each is a user of its own.
pub(crate) fn sign(key: &EncodingKey, index: u32) -> Result<String> {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + TOKEN_LIFETIME;
    let claims = serde_json::json!({"sub": format!("bench-{index}"), "exp": expires.as_secs()});
    Ok(jsonwebtoken::encode(&Header::default(), &claims, key)?)
}
