//! Many clients that come back when they lose their connection, as the SDKs do.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

use crate::client::{Client, Ended, Orders, Phase, Shared};
use crate::clock::Clock;
use crate::findings::{CrowdFindings, Verdict};
use crate::published::Published;
use crate::records::Records;

/// Who connects where, and listens to what.
#[derive(Clone, Debug)]
pub struct CrowdSettings {
    /// Public addresses: a load balancer, or nodes in turn. They are read for each attempt.
    pub targets: Arc<RwLock<Vec<SocketAddr>>>,
    /// Where on them the WebSocket is, such as `/connection/websocket`.
    pub path: String,
    /// How many clients there are. Client `i` is the user `u{i}` and listens to channel `i % channels`.
    pub clients: usize,
    /// What they listen to. The first client of each channel also hears who joins and leaves.
    pub channels: Vec<String>,
    /// How many clients start per second.
    pub connects_per_second: u32,
    /// Signs the clients' tokens (HS256).
    pub secret: String,
    /// Where a client shows its token.
    pub token: TokenPlace,
    /// Addresses to connect from, in turn. Empty: the kernel's choice, which is good for some 25,000 clients per target.
    pub sources: Vec<IpAddr>,
    /// A fault of the clients themselves, to see that the oracle finds it.
    pub plant: Option<Plant>,
}

/// Where a client shows its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In the query of the handshake, as `token`.
    Query,
    /// In its command `connect`.
    Command,
}

/// A fault of the clients themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Clients that come back do not recover.
    Forget,
    /// One client is shown one publication twice.
    Repeat,
}

/// How long [`Crowd::finish`] waits for clients to have everything.
const PATIENCE: Duration = Duration::from_secs(5);

/// Many clients. Dropping it ends them at once, without a judgement.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    clients: JoinSet<Ended>,
}

impl Crowd {
    /// Starts the clients, one after the other. `published` knows the same channels, in the same order.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and without channels.
    pub fn start(settings: CrowdSettings, clock: Clock, published: Arc<Published>) -> Self {
        assert!(!settings.channels.is_empty(), "every client listens to a channel");
        let records = Records::new(settings.clients);
        let orders = watch::Sender::new(Orders { cuts: 0, phase: Phase::Run });
        let shared = Arc::new(Shared { settings, clock, published, records });
        let mut clients = JoinSet::new();
        for index in 0..shared.settings.clients {
            let delay = ramp(index, shared.settings.connects_per_second);
            clients.spawn(Client::new(index, Arc::clone(&shared), orders.subscribe()).run(delay));
        }
        Self { shared, orders, clients }
    }

    /// Waits until every client is live: connected, subscribed, and caught up.
    ///
    /// # Errors
    /// How many are, when that took longer than `within`.
    pub async fn all_live(&self, within: Duration) -> Result<(), usize> {
        let mut live = self.shared.records.watch_live();
        let all = live.wait_for(|&live| live == self.shared.settings.clients);
        match time::timeout(within, all).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.live()),
        }
    }

    /// Drops the TCP connection of every client at one instant, without a close frame. They come back as after any other
    /// end of a connection.
    pub fn cut_all(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }

    /// How many clients are live now.
    pub fn live(&self) -> usize {
        *self.shared.records.watch_live().borrow()
    }

    /// Per channel, the ids that the server gave to those clients that are live now.
    pub fn present(&self) -> HashMap<String, Vec<String>> {
        let channels = &self.shared.settings.channels;
        let mut present: HashMap<_, _> = channels.iter().map(|name| (name.clone(), Vec::new())).collect();
        self.shared.records.each_live(|client, id| {
            present.entry(channels[client % channels.len()].clone()).or_default().push(id.to_owned());
        });
        present
    }

    /// Waits, but no longer than five seconds, until every live client has everything that was acknowledged; then closes
    /// all of them and judges. To be called when nothing more is published. Who is away stays away: wait for
    /// [`Crowd::all_live`] before.
    pub async fn finish(mut self) -> CrowdFindings {
        let live_at_end = self.live();
        self.orders.send_modify(|orders| orders.phase = Phase::Settle);
        let mut ended = Vec::new();
        // What has ended by then stays in the list.
        let _ = time::timeout(PATIENCE, self.collect(&mut ended)).await;
        self.orders.send_modify(|orders| orders.phase = Phase::Stop);
        self.collect(&mut ended).await;
        let findings = CrowdFindings { live_at_end, ..self.shared.records.take() };
        CrowdFindings { verdict: self.judge(ended), ..findings }
    }

    /// Adds to `ended` who ends, until all have. Nobody is lost when it is cancelled.
    async fn collect(&mut self, ended: &mut Vec<Ended>) {
        while let Some(client) = self.clients.join_next().await {
            match client {
                Ok(client) => ended.push(client),
                Err(error) => self.shared.records.failure(|| format!("a client broke down: {error}")),
            }
        }
    }

    fn judge(&self, mut ended: Vec<Ended>) -> Verdict {
        ended.sort_unstable_by_key(|ended| ended.client);
        let channels = &self.shared.settings.channels;
        let mut verdict = Verdict::default();
        for Ended { client, is_live, walk } in ended {
            let channel = client % channels.len();
            let found = walk.finish(&self.shared.published.log(channel), is_live);
            verdict.add(found, &format!("client {client} in {}", channels[channel]));
        }
        verdict.add(self.shared.published.verdict(), "in");
        verdict
    }
}

/// When client `index` starts.
fn ramp(index: usize, connects_per_second: u32) -> Duration {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    Duration::from_secs(1) * index / connects_per_second.max(1)
}
