//! The heartbeat: this node says that it lives, hears who else does, and sees to what was missed.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::MissedTickBehavior;

use super::process::{self, Gauge, Process};
use super::rebalance::Balance;
use super::registry::{Heard, Lapsed};
use super::roster::{Load, Report};
use super::{Cluster, RegistryError};
use crate::model::{NodeEpoch, Tenure};

/// How long a node that stops tries to say so.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(300);

/// Revocations that the registry is told of at once, when it has lost them.
const REMINDED_AT_ONCE: usize = 500;

/// How often users are counted, in beats: every shard has to name all of its own.
const BEATS_PER_COUNT: usize = 5;

/// What is remembered from one beat to the next.
#[derive(Debug)]
pub(super) struct Heart {
    gauge: Gauge,
    /// Whether the tenure has begun.
    is_known: bool,
    /// Whether what belonged to an earlier tenure has to be kept anew.
    has_lapsed: bool,
    /// Whether the registry did not answer the last time.
    is_failing: bool,
    balance: Balance,
}

impl Cluster {
    /// Takes part from now on: hears commands, knows what was revoked, is known to the others. What cannot be done now
    /// is tried again for ever.
    ///
    /// Others are told that its internal listener is at `address`; empty if they cannot reach it.
    pub async fn join(self: &Arc<Self>, address: String) {
        // Who joins twice is known by its first address.
        let _known = self.address.set(address);
        // Nobody is connected yet, and there may be nobody to ask.
        self.beat(Load::default()).await;
        self.backbone.spawn(go_on(Arc::downgrade(self)));
        self.spawn_quota();
        self.spawn_readiness();
    }

    /// Says that this node stops. In time or not: the others notice.
    pub async fn leave(&self) {
        // First, so that nobody here keeps anything for others to see, or takes it back, once they clear it away.
        self.options.tenure.send_modify(|tenure| {
            self.has_stopped.store(true, Ordering::Release);
            tenure.until = Instant::now();
        });
        let leaving = async {
            // A beat that is under way comes before.
            let _heart = self.heart.lock().await;
            self.options.registry.leave(self.epoch()).await
        };
        if !matches!(tokio::time::timeout(LEAVE_TIMEOUT, leaving).await, Ok(Ok(()))) {
            tracing::warn!("could not tell the other nodes that this one stops");
        }
    }

    /// Names the current tenure.
    pub(super) fn epoch(&self) -> NodeEpoch {
        self.options.tenure.borrow().epoch
    }

    /// This node as it is now.
    pub async fn report(&self) -> Report {
        let load = match self.local.upgrade() {
            Some(local) => Load { users: local.count_users().await, ..local.load() },
            None => Load::default(),
        };
        let process = process::resident_bytes().map(|rss| Process { cpu: *self.cpu.lock(), rss });
        Report { process, ..self.report_of(load) }
    }

    fn report_of(&self, load: Load) -> Report {
        Report {
            id: self.id,
            epoch: self.epoch(),
            name: self.name.clone(),
            release: env!("CARGO_PKG_VERSION").into(),
            address: self.address.get().cloned().unwrap_or_default(),
            uptime: self.uptime(),
            load,
            process: None,
            is_draining: self.is_draining.load(Ordering::Acquire),
            handshakes_per_second: self.options.handshakes_per_second,
        }
    }

    async fn beat(self: &Arc<Self>, load: Load) {
        let mut heart = self.heart.lock().await;
        if self.has_stopped.load(Ordering::Acquire) {
            return;
        }
        // After a silence the registry may have given up what it knew of this node.
        let was_silent = heart.is_failing || self.options.tenure.borrow().held().is_none();
        let mut beaten = self.beat_once(&mut heart, load).await;
        if matches!(beaten, Ok(Err(Lapsed))) {
            tracing::warn!("this node was taken for dead; what it keeps for others to see is kept anew");
            self.options.tenure.send_replace(Tenure::unheard());
            heart.has_lapsed = true;
            beaten = self.beat_once(&mut heart, load).await;
        }
        heart.note(&beaten);
        match beaten {
            Ok(Ok(heard)) => {
                let is_forgotten = std::mem::replace(&mut heart.is_known, true) && heard.is_new;
                self.hear(heard);
                self.even_out(&mut heart.balance);
                let has_lapsed = std::mem::take(&mut heart.has_lapsed);
                if is_forgotten && !has_lapsed {
                    tracing::warn!("the registry of the cluster has lost what it held; it is told again");
                }
                if is_forgotten || has_lapsed {
                    self.renew().await;
                }
                if self.quota.has_lost_count() || was_silent {
                    self.count_all();
                }
            }
            _ => self.is_behind.store(true, Ordering::Release),
        }
        drop(heart);
        self.beaten.notify_waiters();
        self.see_to_the_rest().await;
    }

    async fn beat_once(&self, heart: &mut Heart, load: Load) -> Result<Result<Heard, Lapsed>, RegistryError> {
        let process = heart.gauge.look();
        *self.cpu.lock() = process.map_or(0.0, |process| process.cpu);
        let report = Report { process, ..self.report_of(load) };
        // From before it was said: later the others might think otherwise.
        let until = Instant::now() + self.options.node_ttl;
        let beaten = self.options.registry.beat(&report, self.options.node_ttl).await?;
        if beaten.is_ok() {
            self.options.tenure.send_modify(|tenure| {
                if !self.has_stopped.load(Ordering::Acquire) {
                    tenure.until = tenure.until.max(until);
                }
            });
        }
        Ok(beaten)
    }

    /// The registry has lost what it held, or what belonged to a tenure that ended: all of it is told again.
    async fn renew(&self) {
        self.is_behind.store(true, Ordering::Release);
        self.is_to_remind.store(true, Ordering::Release);
        self.count_all();
        if let Some(local) = self.local.upgrade() {
            local.renew().await;
        }
    }

    /// Tells the registry what it may have lost of what was revoked, if that is still to be done and nobody is at it.
    /// Beats do not wait for it.
    fn spawn_reminding(&self) {
        let cluster = self.myself.clone();
        self.backbone.spawn(async move {
            let Some(cluster) = cluster.upgrade() else { return };
            let Ok(_turn) = cluster.reminding.try_lock() else { return };
            // Before: what is lost from now on has to be told once more.
            cluster.is_to_remind.store(false, Ordering::Release);
            if let Err(error) = cluster.remind().await {
                tracing::warn!(%error, "a node that starts later may not know what was revoked");
                // It is tried again, unless there is no room.
                let is_to_remind = error == RegistryError::Unavailable;
                cluster.is_to_remind.fetch_or(is_to_remind, Ordering::AcqRel);
            }
        });
    }

    async fn remind(&self) -> Result<(), RegistryError> {
        for some in self.revocations().all().chunks(REMINDED_AT_ONCE) {
            self.options.registry.remember_all(some).await?;
        }
        Ok(())
    }

    fn hear(self: &Arc<Self>, heard: Heard) {
        let Heard { mut others, dead, .. } = heard;
        others.sort_by(|one, other| {
            (&one.name, one.epoch.to_string()).cmp(&(&other.name, other.epoch.to_string()))
        });
        self.metrics.cluster_nodes(others.len() + 1);
        tell_changes(&self.others(), &others);
        *self.others.write() = others;
        for epoch in dead {
            let cluster = Arc::clone(self);
            self.backbone.spawn(async move { cluster.clear_up(epoch).await });
        }
    }

    /// Clears up after a node that died. If that fails, somebody is asked to do it again.
    async fn clear_up(&self, epoch: NodeEpoch) {
        let Some(local) = self.local.upgrade() else { return };
        if !local.clear_up(epoch).await {
            return;
        }
        self.metrics.node_death();
        if self.options.registry.bury(epoch).await.is_err() {
            tracing::debug!("a node that died is cleared up after once more");
        }
    }

    /// Listens if it does not yet, and reads what it may have missed.
    async fn see_to_the_rest(&self) {
        self.revocations().forget_expired(SystemTime::now());
        if !self.is_listening.load(Ordering::Acquire) && self.listen().await.is_err() {
            return;
        }
        // After listening has begun, so that nothing comes in between.
        if self.is_behind.load(Ordering::Acquire) && self.catch_up().await.is_err() {
            tracing::debug!("could not read what was revoked; it is tried again");
        }
        if self.is_to_remind.load(Ordering::Acquire) {
            self.spawn_reminding();
        }
        self.metrics.revocations(self.revocations().len());
    }
}

/// Beats until the node is gone.
async fn go_on(cluster: Weak<Cluster>) {
    let Some((interval, hurry, pulse)) = cluster.upgrade().map(|cluster| {
        (cluster.options.heartbeat_interval, Arc::clone(&cluster.hurry), Arc::clone(&cluster.pulse))
    }) else {
        return;
    };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut beats, mut users) = (0, 0);
    loop {
        let is_beat = tokio::select! {
            _ = ticks.tick() => true,
            () = pulse.notified() => true,
            () = hurry.notified() => false,
        };
        let Some(cluster) = cluster.upgrade() else { return };
        let Some(local) = cluster.local.upgrade() else { return };
        if !is_beat {
            cluster.see_to_the_rest().await;
            continue;
        }
        if beats % BEATS_PER_COUNT == 0 {
            users = local.count_users().await;
        }
        beats += 1;
        cluster.beat(Load { users, ..local.load() }).await;
    }
}

impl Heart {
    pub(super) fn new() -> Self {
        let gauge = Gauge::new();
        Self { gauge, is_known: false, has_lapsed: false, is_failing: false, balance: Balance::default() }
    }

    /// Says once that the registry is away, and once that it is back.
    fn note(&mut self, beaten: &Result<Result<Heard, Lapsed>, RegistryError>) {
        let was_failing = std::mem::replace(&mut self.is_failing, beaten.is_err());
        match beaten {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "the other nodes do not hear that this one lives");
            }
            Ok(_) if was_failing => tracing::info!("the other nodes hear this one again"),
            _ => {}
        }
    }
}

fn tell_changes(known: &[Report], now: &[Report]) {
    let ids = |reports: &[Report]| reports.iter().map(|report| report.id).collect::<HashSet<_>>();
    let (known_ids, ids) = (ids(known), ids(now));
    let come: Vec<_> = now.iter().filter(|report| !known_ids.contains(&report.id)).collect();
    let gone: Vec<_> = known.iter().filter(|report| !ids.contains(&report.id)).collect();
    // A line for each of many would be left out as a repetition.
    match *come {
        [] => {}
        [one] => tracing::info!(node.id = %one.id, node.name = one.name, "a node is there"),
        _ => tracing::info!(nodes = names(&come), "nodes are there"),
    }
    match *gone {
        [] => {}
        [one] => tracing::info!(node.id = %one.id, node.name = one.name, "a node is gone"),
        _ => tracing::info!(nodes = names(&gone), "nodes are gone"),
    }
}

/// Name and id of each.
fn names(reports: &[&Report]) -> String {
    reports.iter().map(|report| format!("{} ({})", report.name, report.id)).collect::<Vec<_>>().join(", ")
}
