//! The facade that sessions and the server API call: subscribe, publish, address users.
//!
//! It owns which channels this node holds, who of its subscribers is present, the inboxes of the shards, the broker
//! and the presence. It knows no client
//! protocol and no socket. Enter through [`Node::new`].

mod attendance;
mod control;
mod delivery;
mod inbox;
mod interest;
mod local;
#[cfg(test)]
mod races;
pub mod recovery;
mod users;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::attendance::Roll;
use self::interest::Fate;
use self::recovery::Follow;
use self::users::Users;
pub use crate::cluster::{Order, Target};
pub use attendance::{Attendance, Entrant, PresenceSettings, Seat};
pub use control::Control;
pub use delivery::Dispatch;
pub use inbox::{Cargo, Delivery, INBOX_BYTES_MAX, Inbox, InboxFull};

use crate::broker::{Broker, BrokerError, Draft, History, PublishOptions, Published, Range};
use crate::cluster;
use crate::cluster::{Cluster, Local};
use crate::config::NamespaceId;
use crate::metrics::Metrics;
use crate::model::{Channel, ClientId, ClientInfo, NodeId, UserId};
use crate::presence::{Presence, PresenceError, PresenceStats};
use crate::redis::Hearing;
use crate::telemetry::traces::Traces;

/// How long the broker stays subscribed to a channel whose last local subscriber left: reconnects are common.
const UNSUBSCRIBE_GRACE: Duration = Duration::from_secs(5);

/// Most channels that wait for the end of their grace. Above it there is no grace: clients must not be able to
/// fill the memory with channels that nobody holds.
const LEAVING_MAX: usize = 10_000;
/// How long a shard may take to say who its users are.
const USERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Names one shard of a node: 0, 1, …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardId(u16);

impl ShardId {
    /// The shard with this index.
    ///
    /// # Panics
    /// Above 65,535.
    pub fn new(index: usize) -> Self {
        Self(u16::try_from(index).expect("a node has at most 65,535 shards"))
    }

    /// Its index, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A publication was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The shards have more to deliver than they should; nothing was published. Try again later.
    #[error("too much is waiting for delivery")]
    Overloaded,
    /// The broker did not answer: it may or may not have been published.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl PublishError {
    const ALL: [Self; 4] = [
        Self::Overloaded,
        Self::Broker(BrokerError::Unavailable),
        Self::Broker(BrokerError::Refused),
        Self::Broker(BrokerError::Full),
    ];

    /// A word for it, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Overloaded => "busy",
            Self::Broker(error) => error.label(),
        }
    }
}

/// Has the counts of what may fail begin at zero.
pub fn expect(metrics: &Metrics) {
    PublishError::ALL.iter().for_each(|error| metrics.expect_failed_publication(error.label()));
}

/// What a node shares with others.
pub struct Backends {
    /// Carries publications and notices.
    pub broker: Arc<dyn Broker>,
    /// Knows who is subscribed.
    pub presence: Arc<dyn Presence>,
    /// How this node keeps its subscribers there.
    pub presence_settings: PresenceSettings,
    /// How it knows of other nodes.
    pub cluster: cluster::Options,
}

/// One running gateway process, as sessions and the server API see it. Shared by all threads.
pub struct Node {
    cluster: Arc<Cluster>,
    clients: AtomicUsize,
    users: Users,
    dispatch: Arc<Dispatch>,
    broker: Arc<dyn Broker>,
    presence: Arc<dyn Presence>,
    roll: Roll,
    metrics: Arc<Metrics>,
    backbone: Handle,
    leaving: mpsc::Sender<Leaving>,
}

/// A channel whose last local subscriber left.
struct Leaving {
    channel: Channel,
    since: Instant,
}

/// Lets channels go when their grace is over. Ends with the node.
async fn let_go_of(mut channels: mpsc::Receiver<Leaving>, node: Weak<Node>) {
    while let Some(Leaving { channel, since }) = channels.recv().await {
        // All have the same grace, so the first to leave is the first to go.
        tokio::time::sleep_until(since + UNSUBSCRIBE_GRACE).await;
        let Some(node) = node.upgrade() else { return };
        match node.dispatch.interests.fate(&channel, UNSUBSCRIBE_GRACE) {
            Fate::Taken => {}
            Fate::Idle => node.let_go(&channel).await,
            Fate::LeftAgain(since) => node.let_go_later(Leaving { channel, since }),
        }
    }
}

/// Renews what the presence may have lost, whenever the Redis that keeps it is back. Ends with the node.
async fn refresh_after_outages(mut hearing: watch::Receiver<Hearing>, node: Weak<Node>) {
    while hearing.wait_for(|hearing| !hearing.is_heard()).await.is_ok()
        && hearing.wait_for(|hearing| hearing.is_heard()).await.is_ok()
        && let Some(node) = node.upgrade()
    {
        node.refresh_presence();
    }
}

/// A local subscriber's claim on a channel: while it lives, the node holds the channel.
///
/// Dropping it counts the subscriber out; the broker is unsubscribed some seconds after the last one.
pub struct Interest {
    node: Arc<Node>,
    shard: ShardId,
    namespace: NamespaceId,
    channel: Channel,
}

impl Interest {
    /// That of the channel.
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if self.node.dispatch.interests.remove(self.shard, &self.channel) {
            self.node.let_go_later(Leaving { channel: self.channel.clone(), since: Instant::now() });
        }
    }
}

impl Node {
    /// A node whose publications travel through the broker of `backends` and come back through `dispatch`.
    ///
    /// Timers, and the work on the presence, run on `backbone`.
    pub fn new(
        name: String,
        dispatch: Arc<Dispatch>,
        backends: Backends,
        metrics: Arc<Metrics>,
        backbone: Handle,
    ) -> Arc<Self> {
        let roll = Roll::open(&backends, &backbone);
        let Backends { broker, presence, cluster, .. } = backends;
        let hearing = cluster.hearing.clone();
        let clients = AtomicUsize::new(0);
        let (leaving, channels) = mpsc::channel(LEAVING_MAX);
        let tasks = backbone.clone();
        let node = Arc::new_cyclic(|myself: &Weak<Self>| Self {
            cluster: {
                let (local, broker) = (Weak::clone(myself) as Weak<dyn Local>, Arc::clone(&broker));
                Cluster::new(name, cluster, broker, local, Arc::clone(&metrics), backbone.clone())
            },
            users: Users::new(),
            clients,
            dispatch,
            broker,
            presence,
            roll,
            metrics,
            backbone,
            leaving,
        });
        node.dispatch.hand_commands_to(&node.cluster);
        if let Some(hearing) = hearing {
            tasks.spawn(refresh_after_outages(hearing, Arc::downgrade(&node)));
        }
        tasks.spawn(let_go_of(channels, Arc::downgrade(&node)));
        node
    }

    /// Its id, random at every start.
    pub fn id(&self) -> NodeId {
        self.cluster.id()
    }

    /// Its part of the cluster: what all nodes do, and know of one another.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// The queue of a shard.
    pub fn inbox(&self, shard: ShardId) -> &Arc<Inbox> {
        &self.dispatch.inboxes[shard.index()]
    }

    /// Claims `channel`, which is of `namespace`, for a subscriber of `shard`.
    ///
    /// What is published after this returned reaches the shard's inbox. Dropping the future gives the
    /// claim back.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker could not be subscribed; the claim is given back.
    pub async fn subscribe(
        self: &Arc<Self>,
        shard: ShardId,
        channel: Channel,
        namespace: NamespaceId,
    ) -> Result<Interest, BrokerError> {
        let feed = self.dispatch.interests.add(shard, &channel, namespace);
        let interest = Interest { node: Arc::clone(self), shard, namespace, channel };
        let mut subscribed = feed.subscribed.lock().await;
        if !*subscribed {
            self.broker.subscribe(&interest.channel).await?;
            *subscribed = true;
        }
        Ok(interest)
    }

    /// Unsubscribes the broker in a while; at once if too many channels are waiting for that.
    fn let_go_later(self: &Arc<Self>, leaving: Leaving) {
        if let Err(refused) = self.leaving.try_send(leaving) {
            let Leaving { channel, .. } = refused.into_inner();
            self.dispatch.interests.skip_grace(&channel);
            let node = Arc::clone(self);
            self.backbone.spawn(async move { node.let_go(&channel).await });
        }
    }

    /// Unsubscribes the broker, unless somebody is interested again.
    async fn let_go(&self, channel: &Channel) {
        let interests = &self.dispatch.interests;
        let Some(feed) = interests.idle_feed(channel) else { return };
        let mut subscribed = feed.subscribed.lock().await;
        // While we waited for the lock the channel may have been taken again, or forgotten and made anew.
        if !interests.idle_feed(channel).is_some_and(|now| Arc::ptr_eq(&now, &feed)) {
            return;
        }
        // Also if this fails: it may have taken effect all the same, and the next subscriber must not rely on it.
        *subscribed = false;
        // A subscribe that failed or was given up may have taken effect as well, so what the flag said is no matter.
        match self.broker.unsubscribe(channel).await {
            Ok(()) => interests.forget(channel),
            Err(error) => self.let_go_again(channel, &error),
        }
    }

    /// The broker could not be unsubscribed: it is tried again, as long as not too many channels wait for that.
    fn let_go_again(&self, channel: &Channel, error: &BrokerError) {
        let interests = &self.dispatch.interests;
        if !interests.leave_again(channel) {
            return;
        }
        tracing::debug!(%error, "could not unsubscribe a channel that nobody holds; it is tried again");
        if self.leaving.try_send(Leaving { channel: channel.clone(), since: Instant::now() }).is_err() {
            tracing::warn!(%error, "the broker may stay subscribed to a channel that nobody holds");
            interests.skip_grace(channel);
            interests.forget(channel);
        }
    }

    /// Publishes `drafts` to `channel` on every node, in this order and in one piece, and keeps them if `options`
    /// say so. Answers what became of each, in order.
    ///
    /// Publications of one channel reach every subscriber in the order in which the broker took them.
    /// Delivery is at most once.
    ///
    /// # Errors
    /// [`PublishError::Overloaded`]: nothing was published. [`PublishError::Broker`]: not known.
    pub async fn publish(
        &self,
        channel: &Channel,
        mut drafts: Vec<Draft>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        if self.dispatch.inboxes.iter().any(|inbox| inbox.is_above_watermark()) {
            return Err(PublishError::Overloaded);
        }
        let publications = drafts.iter_mut().map(|draft| &mut draft.publication);
        let publishing = self.dispatch.traces().publishing(channel, publications);
        let published = self.broker.publish(channel, drafts, options).await;
        match &published {
            Ok(published) => publishing.accepted(
                published.iter().map(|published| (published.position.as_ref(), published.is_suppressed)),
            ),
            Err(error) => publishing.failed(error.label()),
        }
        Ok(published?)
    }

    /// What it traces with.
    pub fn traces(&self) -> &Traces {
        self.dispatch.traces()
    }

    /// Reads `range` of the history of `channel`, whose epoch and top are kept for `meta_ttl` from now on.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    pub async fn history(
        &self,
        channel: &Channel,
        range: Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.broker.history(channel, range, meta_ttl).await
    }

    /// Reads what a subscriber needs to `follow` the history of `channel`, for [`recovery::join`].
    ///
    /// It must be registered before: the answer may be what was just delivered here, and what comes after that was
    /// delivered only to who is registered.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    pub async fn catch_up(&self, channel: &Channel, follow: &Follow) -> Result<History, BrokerError> {
        let epoch = follow.since.as_ref().map_or("", |since| &since.epoch);
        self.broker.catch_up(channel, epoch, follow.range(), follow.meta_ttl).await
    }

    /// Removes what is kept of `channel`; epoch and top stay.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker did not answer.
    pub async fn remove_history(&self, channel: &Channel) -> Result<(), BrokerError> {
        self.broker.remove_history(channel).await
    }

    /// Makes a subscriber present in `channel`; waits until it is, behind what happened there before.
    ///
    /// Dropping the future undoes it.
    ///
    /// # Errors
    /// [`PresenceError`] when it cannot be said that it is listed; it is removed again, to be sure.
    pub async fn enter(&self, channel: Channel, entrant: Entrant) -> Result<Seat, PresenceError> {
        self.roll.enter(channel, entrant).await
    }

    /// Has the entries of all subscribers renewed now: to be called when the presence may have lost them, as a Redis
    /// that was started anew has. Whoever is missing comes back without a join.
    pub fn refresh_presence(&self) {
        self.roll.refresh();
    }

    /// Waits until everything is done that was asked of seats before this call: entries removed, leaves announced.
    /// What the presence does not answer is not waited for.
    pub async fn seats_settled(&self) {
        self.roll.settled().await;
    }

    /// Who is present in `channel`, on all nodes, in no order.
    ///
    /// # Errors
    /// [`PresenceError`] when the presence did not answer.
    pub async fn presence(&self, channel: &Channel) -> Result<Vec<Arc<ClientInfo>>, PresenceError> {
        self.presence.members(channel).await
    }

    /// How many are present in `channel`, on all nodes.
    ///
    /// # Errors
    /// [`PresenceError`] when the presence did not answer.
    pub async fn presence_stats(&self, channel: &Channel) -> Result<PresenceStats, PresenceError> {
        self.presence.stats(channel).await
    }

    /// The distinct users connected to this node, the anonymous one included if there is one.
    ///
    /// A shard that does not answer within a second, as one that stops, has none.
    pub async fn users(&self) -> HashSet<UserId> {
        let ask = |inbox: &Arc<Inbox>| {
            let (answer, answered) = oneshot::channel();
            inbox.control(Control::Users(answer));
            answered
        };
        let asked: Vec<_> = self.dispatch.inboxes.iter().map(ask).collect();
        let deadline = Instant::now() + USERS_TIMEOUT;
        let mut users = HashSet::new();
        for answered in asked {
            if let Ok(Ok(known)) = tokio::time::timeout_at(deadline, answered).await {
                users.extend(known);
            }
        }
        users
    }

    /// A client has authenticated as `user`; `false` if that user has `connections_max` connections already, and
    /// nothing is counted then. 0 is no limit.
    #[must_use]
    pub fn client_opened(&self, user: &UserId, client: ClientId, connections_max: usize) -> bool {
        let is_admitted = self.users.enter(user, connections_max);
        if is_admitted {
            self.clients.fetch_add(1, Ordering::Relaxed);
            self.cluster.connection_opened(user, client);
        }
        is_admitted
    }

    /// The client, which had authenticated as `user`, is gone.
    pub fn client_closed(&self, user: &UserId, client: ClientId) {
        self.users.leave(user);
        self.clients.fetch_sub(1, Ordering::Relaxed);
        self.cluster.connection_closed(user, client);
    }

    /// Clients that have authenticated on this node and are not gone.
    pub fn client_count(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Channels of this node for which `wanted` holds, with the number of subscribers here.
    ///
    /// Looks at every channel: for diagnosis.
    pub fn channels(&self, wanted: impl Fn(&Channel) -> bool) -> Vec<(Channel, usize)> {
        self.dispatch.interests.list(wanted)
    }

    /// Channels with at least one subscriber on this node.
    pub fn channel_count(&self) -> usize {
        self.metrics.channel_count()
    }

    /// Subscribers of all channels on this node.
    pub fn subscription_count(&self) -> usize {
        self.metrics.subscription_count()
    }

    /// Channels that take memory, with subscribers or without.
    #[cfg(test)]
    pub(crate) fn known_channels(&self) -> usize {
        self.dispatch.interests.known()
    }

    /// What happened on this node, in numbers.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::model::{Notice, Publication, RawJson};
    use crate::presence::MemoryPresence;

    /// Counts what a node asks of its broker.
    #[derive(Default)]
    struct Counting {
        subscribed: AtomicUsize,
        unsubscribed: AtomicUsize,
        failing: std::sync::atomic::AtomicBool,
    }

    #[async_trait]
    impl Broker for Counting {
        async fn subscribe(&self, _: &Channel) -> Result<(), BrokerError> {
            tokio::task::yield_now().await;
            if self.failing.load(Ordering::SeqCst) {
                return Err(BrokerError::Unavailable);
            }
            self.subscribed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn unsubscribe(&self, _: &Channel) -> Result<(), BrokerError> {
            self.unsubscribed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn publish(
            &self,
            _: &Channel,
            drafts: Vec<Draft>,
            _: PublishOptions,
        ) -> Result<Vec<Published>, BrokerError> {
            Ok(drafts.iter().map(|_| Published { position: None, is_suppressed: false }).collect())
        }

        async fn announce(&self, _: &Channel, _: Notice) -> Result<(), BrokerError> {
            Ok(())
        }

        async fn history(&self, _: &Channel, _: Range, _: Duration) -> Result<History, BrokerError> {
            Err(BrokerError::Unavailable)
        }

        async fn remove_history(&self, _: &Channel) -> Result<(), BrokerError> {
            Ok(())
        }
    }

    fn node(inbox_bytes_max: usize) -> (Arc<Node>, Arc<Counting>) {
        let metrics = Arc::new(Metrics::new());
        let dispatch = Dispatch::new(2, inbox_bytes_max, Arc::clone(&metrics));
        let broker = Arc::new(Counting::default());
        let backbone = Handle::current();
        let backends = Backends {
            broker: Arc::clone(&broker) as _,
            presence: Arc::new(MemoryPresence::new()),
            presence_settings: PresenceSettings::default(),
            cluster: cluster::Options::alone(Arc::default()),
        };
        (Node::new("test".into(), dispatch, backends, metrics, backbone), broker)
    }

    fn channel() -> Channel {
        Channel::parse("a", 255).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_broker_is_subscribed_by_the_first_and_let_go_some_seconds_after_the_last() {
        let (node, broker) = node(INBOX_BYTES_MAX);
        let (first, second) = tokio::join!(
            node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE),
            node.subscribe(ShardId::new(1), channel(), NamespaceId::NONE)
        );
        assert_eq!(broker.subscribed.load(Ordering::SeqCst), 1);
        assert_eq!((node.channel_count(), node.subscription_count()), (1, 2));
        drop((first, second));
        assert_eq!((node.channel_count(), node.subscription_count()), (0, 0));
        tokio::time::sleep(UNSUBSCRIBE_GRACE - Duration::from_secs(1)).await;
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_counts_in_its_namespace_while_it_has_subscribers() {
        let (node, _) = node(INBOX_BYTES_MAX);
        let says = |line: &str| {
            let text = String::from_utf8(node.metrics().render(0)).unwrap();
            assert!(text.contains(&format!("\nclarion_{line}\n")), "{line} is not in {text}");
        };
        let subscribe =
            async |namespace| node.subscribe(ShardId::new(0), channel(), namespace).await.unwrap();
        let first = subscribe(NamespaceId::UNKNOWN).await;
        drop(subscribe(NamespaceId::UNKNOWN).await);
        says("subscriptions{channel_namespace=\"other\"} 1");
        drop(first);
        says("subscriptions{channel_namespace=\"other\"} 0");
        says("channels{channel_namespace=\"other\"} 0");
        // Within the grace, and once the channel is forgotten.
        for _ in 0..2 {
            drop(subscribe(NamespaceId::UNKNOWN).await);
            says("channels{channel_namespace=\"other\"} 0");
            tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
            assert_eq!(node.known_channels(), 0);
            says("channels{channel_namespace=\"other\"} 0");
        }
        let again = subscribe(NamespaceId::NONE).await;
        says("channels{channel_namespace=\"other\"} 0");
        says("channels{channel_namespace=\"without_namespace\"} 1");
        drop(again);
    }

    #[tokio::test(start_paused = true)]
    async fn who_returns_within_the_grace_keeps_the_broker_subscribed() {
        let (node, broker) = node(INBOX_BYTES_MAX);
        drop(node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await);
        tokio::time::sleep(UNSUBSCRIBE_GRACE / 2).await;
        let interest = node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await;
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 3).await;
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), 0);
        assert_eq!(broker.subscribed.load(Ordering::SeqCst), 1);
        drop(interest);
    }

    #[tokio::test(start_paused = true)]
    async fn however_often_the_last_one_leaves_it_is_seen_to_once() {
        let (node, broker) = node(INBOX_BYTES_MAX);
        for _ in 0..1_000 {
            drop(node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await);
        }
        assert!(node.leaving.capacity() >= LEAVING_MAX - 1);
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
        assert_eq!(broker.subscribed.load(Ordering::SeqCst), 1);
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), 1);
        drop(node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await);
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn with_too_many_channels_in_their_grace_the_next_has_none() {
        let (node, broker) = node(INBOX_BYTES_MAX);
        for index in 0..LEAVING_MAX + 100 {
            let channel = Channel::parse(&index.to_string(), 255).unwrap();
            drop(node.subscribe(ShardId::new(0), channel, NamespaceId::NONE).await);
        }
        tokio::time::sleep(UNSUBSCRIBE_GRACE / 2).await;
        let at_once = broker.unsubscribed.load(Ordering::SeqCst);
        assert!((1..=100).contains(&at_once), "{at_once}");
        tokio::time::sleep(UNSUBSCRIBE_GRACE * 2).await;
        assert_eq!(broker.unsubscribed.load(Ordering::SeqCst), LEAVING_MAX + 100);
        assert_eq!(node.dispatch.interests.known(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_or_abandoned_subscribe_leaves_nothing_behind() {
        let (node, broker) = node(INBOX_BYTES_MAX);
        broker.failing.store(true, Ordering::SeqCst);
        assert!(node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await.is_err());
        let abandoned = tokio::time::timeout(
            Duration::ZERO,
            node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE),
        )
        .await;
        assert!(abandoned.is_err());
        assert_eq!((node.channel_count(), node.subscription_count()), (0, 0));
        broker.failing.store(false, Ordering::SeqCst);
        assert!(node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await.is_ok());
    }

    #[tokio::test]
    async fn a_publisher_is_turned_away_while_the_shards_are_behind() {
        use crate::broker::Receiver;
        let (node, _) = node(1_000);
        let interest = node.subscribe(ShardId::new(0), channel(), NamespaceId::NONE).await;
        let publication = || Publication::of(RawJson::string(&"x".repeat(200)));
        let (channel, options) = (channel(), PublishOptions::default());
        let publish = || node.publish(&channel, vec![Draft::of(publication())], options);
        assert!(publish().await.is_ok());
        for _ in 0..5 {
            node.dispatch.deliver(&channel, None, &[Arc::new(publication())]);
        }
        assert!(matches!(publish().await, Err(PublishError::Overloaded)));
        drop(interest);
    }
}
