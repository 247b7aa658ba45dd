//! How many connections a user may have on all nodes together.
//!
//! Each node admits by its own count at once, and has the registry add up what all of them count. The registry counts
//! one after another, so of two nodes that admitted the last connection at the same time exactly one hears that it is
//! one too many; it closes that one. While the registry is away each node's own limit holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Cluster, Local, RegistryError, Target};
use crate::model::{ClientId, CloseReason, UserId};

/// Most users that are counted in one go.
const USERS_AT_ONCE: usize = 256;
/// How long to wait for a registry that did not answer.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often everybody is counted anew, so that the registry can forget who is gone.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// Most users whose changes wait to be counted. They wait long only while the registry is away; who is above that is
/// counted with everybody else when it is back.
const CHANGED_MAX: usize = 100_000;

/// Users whose connections have changed since they were counted.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// With the connections that came, oldest first, and are still there.
    changed: Mutex<HashMap<UserId, Vec<ClientId>>>,
    /// Whether there were too many to note all of them.
    has_lost_count: AtomicBool,
    wake: Arc<Notify>,
}

impl Quota {
    fn change(&self, user: &UserId, change: impl FnOnce(&mut Vec<ClientId>)) {
        let mut changed = self.changed.lock();
        if changed.len() < CHANGED_MAX || changed.contains_key(user) {
            change(changed.entry(user.clone()).or_default());
        } else {
            self.has_lost_count.store(true, Ordering::Release);
        }
        drop(changed);
        self.wake.notify_one();
    }

    /// These have to be counted, however many they are.
    fn count_anew(&self, users: Vec<UserId>) {
        let mut changed = self.changed.lock();
        for user in users {
            changed.entry(user).or_default();
        }
        drop(changed);
        self.wake.notify_one();
    }

    /// Whether somebody was not noted who changed; says so once.
    pub(super) fn has_lost_count(&self) -> bool {
        self.has_lost_count.swap(false, Ordering::AcqRel)
    }

    /// Some of those that have to be counted.
    fn take(&self) -> HashMap<UserId, Vec<ClientId>> {
        let mut changed = self.changed.lock();
        let users: Vec<_> = changed.keys().take(USERS_AT_ONCE).cloned().collect();
        users.into_iter().filter_map(|user| changed.remove_entry(&user)).collect()
    }

    /// From now on more change than can be noted.
    #[cfg(test)]
    pub(super) fn fill_up(&self) {
        let mut changed = self.changed.lock();
        let users = (0..CHANGED_MAX).map(|index| UserId::parse(&format!("u{index}")).expect("it is short"));
        changed.extend(users.map(|user| (user, Vec::new())));
    }

    /// They could not be counted.
    fn put_back(&self, users: HashMap<UserId, Vec<ClientId>>) {
        let mut changed = self.changed.lock();
        for (user, mut came) in users {
            let later = changed.entry(user).or_default();
            came.append(later);
            *later = came;
        }
    }
}

impl Cluster {
    /// Whether connections are counted on all nodes.
    fn has_quota(&self) -> bool {
        self.options.user_connections_max > 0 && self.options.registry.is_shared()
    }

    /// A connection of `user` was admitted by this node's own count.
    pub fn connection_opened(&self, user: &UserId, client: ClientId) {
        if self.has_quota() && !user.is_anonymous() {
            self.quota.change(user, |came| came.push(client));
        }
    }

    /// It is gone.
    pub fn connection_closed(&self, user: &UserId, client: ClientId) {
        if self.has_quota() && !user.is_anonymous() {
            self.quota.change(user, |came| came.retain(|known| *known != client));
        }
    }

    /// What was counted is void: everybody is counted anew.
    pub(super) fn count_all(&self) {
        let Some(local) = self.local.upgrade().filter(|_| self.has_quota()) else { return };
        self.quota.count_anew(local.counted_users());
    }

    /// Counts whoever changes, as long as the node lives.
    pub(super) fn spawn_quota(self: &Arc<Self>) {
        if self.has_quota() {
            self.backbone.spawn(count_changes(Arc::downgrade(self), Arc::clone(&self.quota.wake)));
        }
    }

    /// Counts some of those who changed, and closes who is one too many; `false` if nobody is left to count.
    async fn count_some(&self) -> Result<bool, RegistryError> {
        let (users, local) = (self.quota.take(), self.local.upgrade());
        let Some(local) = local.filter(|_| !users.is_empty()) else { return Ok(false) };
        let counts: Vec<_> = users.keys().map(|user| (user.clone(), local.connections_of(user))).collect();
        let alive: Vec<_> = self.others.read().iter().map(|report| report.epoch).collect();
        match self.options.registry.count(self.epoch(), &alive, &counts).await {
            Ok(totals) => {
                for ((user, _), total) in counts.iter().zip(totals) {
                    self.close_surplus(&*local, user, &users[user], total);
                }
                Ok(true)
            }
            Err(error) => {
                self.quota.put_back(users);
                Err(error)
            }
        }
    }

    /// Closes the newest of those that `came`, as many as there are above the limit.
    fn close_surplus(&self, local: &dyn Local, user: &UserId, came: &[ClientId], total: usize) {
        let surplus = total.saturating_sub(self.options.user_connections_max);
        for client in came.iter().rev().take(surplus) {
            let target = Target { user: user.clone(), client: Some(*client) };
            local.disconnect(&target, &CloseReason::ConnectionLimit, std::collections::HashSet::new());
        }
    }
}

async fn count_changes(cluster: Weak<Cluster>, wake: Arc<Notify>) {
    let mut recount = tokio::time::interval(RECOUNT_INTERVAL);
    loop {
        tokio::select! {
            () = wake.notified() => {}
            _ = recount.tick() => {
                let Some(cluster) = cluster.upgrade() else { return };
                cluster.count_all();
            }
        }
        loop {
            let Some(cluster) = cluster.upgrade() else { return };
            match cluster.count_some().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => tokio::time::sleep(RETRY_DELAY).await,
            }
        }
    }
}
