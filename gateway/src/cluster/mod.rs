//! What the nodes of a cluster know of one another and do together: heartbeats, commands to all nodes, surveys,
//! revoked tokens, limits that count on all nodes.
//!
//! Nodes talk through the [`Broker`], on channels of the gateway itself, so that what heals publications heals commands
//! too, and one node alone does the same as many. What has to be kept is in a [`Registry`]. The cluster knows no
//! connection and no shard: it asks the node it is part of through [`Local`]. Enter by [`Cluster::send`].

mod beat;
mod codec;
mod command;
mod drain;
mod glob;
mod peers;
mod process;
mod quota;
mod readiness;
mod rebalance;
mod registry;
mod roster;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use command::{Command, Dismissal, Order, Target};
pub use glob::{BadGlob, Glob};
pub use process::Process;
pub use registry::{Alone, Heard, Lapsed, RedisRegistry, Registry, RegistryError};
pub use roster::{Load, Report};
pub use survey::{Silent, Survey};

use self::beat::Heart;
use self::codec::Unreadable;
use self::quota::Quota;
use self::survey::Surveys;
use crate::auth::Revocations;
use crate::broker::{Broker, BrokerError, Draft, PublishOptions, Range, Receiver, Retention};
use crate::config::TlsFiles;
use crate::metrics::{Metrics, NodeCommand};
use crate::model::{
    Channel, ClientId, CloseReason, Epoch, NodeEpoch, NodeId, Notice, Payload, Position, Publication,
    Revocation, Tenure, UserId, Whose,
};
use crate::redis::Hearing;

/// Most revocations that are remembered at a time: each node holds all of them in memory.
pub const REVOCATIONS_MAX: usize = 100_000;

/// How commands are kept, for nodes that miss one: they are of no use for long.
const RETENTION: Retention =
    Retention { size: 1_000, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(24 * 3600) };

/// The node that a cluster is part of, as the cluster sees it.
#[async_trait]
pub trait Local: Send + Sync + 'static {
    /// Gives `order` to the targeted connections of this node. Never waits.
    fn order(&self, target: &Target, order: &Order);

    /// Closes the targeted connections of this node, but for those in `except`. Never waits.
    fn disconnect(&self, target: &Target, reason: &CloseReason, except: HashSet<ClientId>);

    /// Closes the connections of this node whose tokens are among these; `None`: among all that were revoked. Looks at
    /// every connection, but never waits.
    fn revoke(&self, whose: Option<&Whose>);

    /// Asks `count` connections of this node to come again, to whichever node: of those that will hardly notice, and fewer
    /// if there are fewer. Looks at every connection, but never waits.
    fn shed(&self, count: usize);

    /// The channels of this node that `glob` matches, with the number of subscribers here. Looks at every channel.
    fn subscribers(&self, glob: &Glob) -> Vec<(Channel, usize)>;

    /// What this node has to do, but for its users.
    fn load(&self) -> Load;

    /// How many distinct users this node has, the anonymous one included if there is one.
    async fn count_users(&self) -> usize;

    /// How many connections `user` has here; known only where they are limited.
    fn connections_of(&self, user: &UserId) -> usize;

    /// Everybody who has connections here that are counted.
    fn counted_users(&self) -> Vec<UserId>;

    /// What this node keeps for others to see may be lost; or the tenure in which it did has ended, and another begun.
    async fn renew(&self);

    /// Clears up what a node left for others to see in a tenure that has ended. Again is harmless; `false`: it has to be
    /// done again.
    async fn clear_up(&self, epoch: NodeEpoch) -> bool;
}

/// How a node is part of a cluster.
pub struct Options {
    /// The id of this node, random at every start.
    pub id: NodeId,
    /// What the nodes have in common.
    pub registry: Arc<dyn Registry>,
    /// Where tokens are refused that were revoked.
    pub revocations: Arc<Revocations>,
    /// Between two heartbeats; above zero.
    pub heartbeat_interval: Duration,
    /// A node silent for longer is dead.
    pub node_ttl: Duration,
    /// Most connections of one user on all nodes; 0 for no limit.
    pub user_connections_max: usize,
    /// Most handshakes that this node takes in a second; 0 for no limit.
    pub handshakes_per_second: usize,
    /// Whether this node lets go of clients when it has far more than the others.
    pub is_rebalancing: bool,
    /// Where others on this node hear of its tenure.
    pub tenure: watch::Sender<Tenure>,
    /// Whether this node hears its broker; `None` if that is a part of it.
    pub hearing: Option<watch::Receiver<Hearing>>,
    /// What internal listeners show, this node's and others'; `None` if they do not speak TLS.
    pub tls: Option<TlsFiles>,
}

impl Options {
    /// Those of a node that stands alone.
    pub fn alone(revocations: Arc<Revocations>) -> Self {
        Self {
            id: NodeId::random(),
            registry: Arc::new(Alone::default()),
            revocations,
            heartbeat_interval: Duration::from_secs(3),
            node_ttl: Duration::from_secs(15),
            user_connections_max: 0,
            handshakes_per_second: 0,
            is_rebalancing: false,
            // There is nobody who could take it for dead.
            tenure: watch::Sender::new(Tenure::endless()),
            hearing: None,
            tls: None,
        }
    }
}

/// Not every node is known to have heard a command. This one has carried it out.
#[derive(Debug, thiserror::Error)]
#[error("not every node is known to have heard it")]
pub struct Unheard(#[source] pub BrokerError);

/// It is not known that every node refuses the tokens, and will. This one does, as long as it runs, unless there is
/// no room.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It may be forgotten; without room it is, and other nodes are not told.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It is remembered, but other nodes hear of it late.
    #[error(transparent)]
    Unheard(#[from] Unheard),
}

/// A node's part of a cluster. Shared by all threads.
pub struct Cluster {
    id: NodeId,
    name: String,
    started_at: Instant,
    /// Where others reach the internal listener, once that is known.
    address: OnceLock<String>,
    options: Options,
    local: Weak<dyn Local>,
    broker: Arc<dyn Broker>,
    metrics: Arc<Metrics>,
    backbone: Handle,
    /// Where every node hears commands.
    control: Channel,
    /// Where this node hears answers.
    mailbox: Channel,
    /// Whether this node hears commands by the broker.
    is_listening: AtomicBool,
    /// Whether revocations may have been missed.
    is_behind: AtomicBool,
    /// Whether the registry may have lost revocations that this node knows.
    is_to_remind: AtomicBool,
    /// Held by who tells it again.
    reminding: tokio::sync::Mutex<()>,
    /// Whether the node was told to stop.
    is_draining: AtomicBool,
    /// Whether there will be no other beat. Changes under the lock of the tenure.
    has_stopped: AtomicBool,
    /// Something has to be seen to before the next heartbeat.
    hurry: Arc<Notify>,
    /// A heartbeat is wanted before it is time.
    pulse: Arc<Notify>,
    /// A heartbeat is over, whatever came of it.
    beaten: Notify,
    others: RwLock<Vec<Report>>,
    heart: tokio::sync::Mutex<Heart>,
    /// What the process took of a CPU at the last heartbeat, in percent.
    cpu: Mutex<f64>,
    surveys: Surveys,
    quota: Quota,
    is_ready: AtomicBool,
    myself: Weak<Self>,
}

impl Cluster {
    /// The part of the node `local`, which is called `name`, in the cluster that meets at `broker` and in the registry
    /// of `options`. Tasks run on `backbone`.
    pub fn new(
        name: String,
        options: Options,
        broker: Arc<dyn Broker>,
        local: Weak<dyn Local>,
        metrics: Arc<Metrics>,
        backbone: Handle,
    ) -> Arc<Self> {
        let id = options.id;
        Command::LABELS.iter().for_each(|command| metrics.expect_node_command(command));
        Arc::new_cyclic(|myself| Self {
            id,
            name,
            started_at: Instant::now(),
            address: OnceLock::new(),
            local,
            broker,
            metrics,
            backbone,
            control: Channel::system("control"),
            mailbox: mailbox(id),
            is_listening: AtomicBool::new(false),
            is_behind: AtomicBool::new(true),
            is_to_remind: AtomicBool::new(false),
            reminding: tokio::sync::Mutex::default(),
            is_draining: AtomicBool::new(false),
            has_stopped: AtomicBool::new(false),
            hurry: Arc::default(),
            pulse: Arc::default(),
            beaten: Notify::new(),
            others: RwLock::default(),
            heart: tokio::sync::Mutex::new(Heart::new()),
            cpu: Mutex::default(),
            surveys: Surveys::default(),
            // A broker that is a part of the node is heard.
            is_ready: AtomicBool::new(options.hearing.is_none()),
            myself: myself.clone(),
            quota: Quota::default(),
            options,
        })
    }

    /// The id of this node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started_at.elapsed()
    }

    /// The tokens that were revoked.
    pub fn revocations(&self) -> &Revocations {
        &self.options.revocations
    }

    /// The other nodes, as they last said.
    pub fn others(&self) -> Vec<Report> {
        self.others.read().clone()
    }

    /// Has every node carry out `command`, this one included. Commands take effect on each node in the same order.
    ///
    /// # Errors
    /// [`Unheard`] when the broker did not take it. This node has carried it out then; others may have.
    pub async fn send(&self, command: Command) -> Result<(), Unheard> {
        // Before it is sent: whoever begins to listen meanwhile may hear it or not.
        let is_heard_here = self.is_listening.load(Ordering::Acquire);
        let bytes = codec::command(self.id, &command);
        let mut sent = self.publish(&self.control, bytes.clone(), command.options()).await;
        if matches!(sent, Err(BrokerError::Full)) {
            // Whoever listens hears it all the same; who misses it cannot read it after the fact.
            sent = self.publish(&self.control, bytes, PublishOptions::default()).await;
        }
        if sent.is_err() || !is_heard_here {
            self.carry_out(self.id, command);
        }
        sent.map_err(Unheard)
    }

    /// Has every node refuse some tokens, and close whoever came with them; remembers it for nodes that start later.
    /// This node does so at once, and whoever drops the future only does not hear what became of the rest.
    ///
    /// # Errors
    /// [`RevokeError`] when it cannot be said that others do, or will.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), RevokeError> {
        // Of what the registry has no room for, this node must not hold more and more.
        if self.revocations().len() < REVOCATIONS_MAX {
            self.carry_out(self.id, Command::Revoke(revocation.clone()));
        }
        let cluster = self.myself.upgrade().ok_or(RegistryError::Unavailable)?;
        let spreading = self.backbone.spawn(async move { cluster.spread(revocation).await });
        // An error means that the node ends.
        spreading.await.unwrap_or(Err(RegistryError::Unavailable.into()))
    }

    async fn spread(self: Arc<Self>, revocation: Revocation) -> Result<(), RevokeError> {
        match self.options.registry.remember(&revocation).await {
            // First, so that a node that starts knows it or hears it.
            Ok(()) => Ok(self.send(Command::Revoke(revocation)).await?),
            Err(RegistryError::Full) => Err(RegistryError::Full.into()),
            Err(RegistryError::Unavailable) => {
                self.is_to_remind.store(true, Ordering::Release);
                // Whoever hears of it does so while the caller is told to come again: it may not be heard.
                let backbone = self.backbone.clone();
                backbone.spawn(async move { self.send(Command::Revoke(revocation)).await });
                Err(RegistryError::Unavailable.into())
            }
        }
    }

    async fn publish(
        &self,
        channel: &Channel,
        bytes: Vec<u8>,
        options: PublishOptions,
    ) -> Result<(), BrokerError> {
        let draft = Draft::of(Publication::of(Payload::binary(bytes.into())));
        self.broker.publish(channel, vec![draft], options).await.map(drop)
    }

    /// Does here what `from` wants every node to do. Never waits.
    fn carry_out(&self, from: NodeId, command: Command) {
        let Some(local) = self.local.upgrade() else { return };
        match command {
            Command::Order { target, order } => local.order(&target, &order),
            Command::Disconnect { target, reason, except } => {
                local.disconnect(&target, &reason.into(), except);
            }
            Command::Revoke(revocation) => {
                // First, so that whoever is not found among the connections is turned away. Whom it was known for is
                // closed already.
                if self.revocations().add(&revocation) {
                    local.revoke(Some(&revocation.whose));
                }
            }
            // Who asks looks at its own channels itself.
            Command::Survey(_) if from == self.id => {}
            Command::Survey(question) => self.answer(local, from, &question),
        }
    }

    fn hear_command(&self, publication: &Publication) {
        match codec::read_command(publication.data.as_bytes()) {
            Ok(sent) => {
                self.metrics.node_command(NodeCommand::Known(sent.command.label()));
                self.carry_out(sent.from, sent.command);
            }
            Err(Unreadable::Unknown) => self.metrics.node_command(NodeCommand::Unknown),
            Err(Unreadable::Malformed) => self.metrics.node_command(NodeCommand::Malformed),
        }
    }

    /// Hears commands and answers from now on.
    async fn listen(&self) -> Result<(), BrokerError> {
        self.broker.subscribe(&self.control).await?;
        self.broker.subscribe(&self.mailbox).await?;
        // A broker heals what is missed after a position that it knows; before the first command it knows none.
        let top = Range { limit: Some(0), ..Range::default() };
        match self.broker.history(&self.control, top, RETENTION.meta_ttl).await {
            // No history has begun there, and none can.
            Ok(_) | Err(BrokerError::Full) => {}
            Err(error) => return Err(error),
        }
        self.is_listening.store(true, Ordering::Release);
        Ok(())
    }

    /// Learns of the revocations that it may have missed.
    async fn catch_up(&self) -> Result<(), RegistryError> {
        // Before reading: what is missed from now on is another reason to read.
        self.is_behind.store(false, Ordering::Release);
        let revocations = self.options.registry.revocations().await;
        let revocations = revocations.inspect_err(|_| self.is_behind.store(true, Ordering::Release))?;
        let mut is_new = false;
        for revocation in &revocations {
            is_new |= self.revocations().add(revocation);
        }
        if self.revocations().len() > revocations.len() {
            self.is_to_remind.store(true, Ordering::Release);
        }
        // However many there are, connections are looked at once.
        if let Some(local) = self.local.upgrade().filter(|_| is_new) {
            local.revoke(None);
        }
        Ok(())
    }
}

impl Receiver for Cluster {
    /// Takes what other nodes sent on channels of the gateway itself.
    fn deliver(&self, channel: &Channel, _: Option<&Epoch>, publications: &[Arc<Publication>]) {
        for publication in publications {
            if *channel == self.control {
                self.hear_command(publication);
            } else if *channel == self.mailbox {
                self.hear_answer(publication);
            }
        }
    }

    /// Nobody joins or leaves such a channel.
    fn announce(&self, _: &Channel, _: &Notice) {}

    /// Commands were lost. What they revoked is remembered, and read; the others had their moment.
    fn lose(&self, channel: &Channel, _: &Position) {
        if *channel == self.control {
            tracing::warn!("commands of other nodes were lost; what was revoked is read again");
            self.is_behind.store(true, Ordering::Release);
            self.hurry.notify_one();
        }
    }
}

/// Where the node `id` hears answers.
fn mailbox(id: NodeId) -> Channel {
    Channel::system(&format!("node:{id}"))
}
