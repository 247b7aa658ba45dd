//! A stage with everybody on it: nodes that serve, clients that listen, a back end that publishes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::facts::Facts;
use super::journal::Journal;
use super::settings::{Fault, Plant, Play, Settings};
use super::threads::{self, Threads};
use super::watch::{Watch, connections};
use super::witnesses::{self, Witnesses};
use crate::clock::Clock;
use crate::crowd::{Crowd, CrowdSettings, TokenPlace};
use crate::mark::MarkKind;
use crate::published::Published;
use crate::publisher::{Publisher, PublisherSettings};
use crate::stage::node::{NAMESPACE, NodeSettings};
use crate::stage::programs::Programs;
use crate::stage::{Endpoint, Member, Stage};

/// Signs tokens on a stage that nobody else reaches.
const TOKEN_SECRET: &str = "a secret of this run, long enough";
/// For the server API there.
pub(super) const API_KEY: &str = "a-key-of-this-run";
/// How long all clients may take to be live, at the start and whenever they were moved.
const ALL_LIVE: Duration = Duration::from_secs(60);
/// Clients that start per second: fewer than a node takes.
const CONNECTS_PER_SECOND: u32 = 400;
/// Padding of a publication.
const PAYLOAD_BYTES: usize = 100;

/// Everybody, and what is known so far. Dropping it ends all.
pub(super) struct Scene<'a> {
    pub(super) settings: &'a Settings,
    pub(super) journal: &'a Journal,
    pub(super) clock: Clock,
    pub(super) facts: Facts,
    pub(super) crowd: Crowd,
    /// Where it runs, in a storm.
    _crowd_threads: Option<Threads>,
    /// In a storm.
    witnesses: Option<Witnesses>,
    publisher: Publisher,
    watch: Watch,
    /// Those that serve, the oldest first.
    pub(super) members: Vec<Member>,
    /// Where the back end publishes.
    api: Arc<RwLock<Vec<SocketAddr>>>,
    pub(super) stage: Stage,
}

impl<'a> Scene<'a> {
    /// Starts everything, one after the other; answers when all clients are live and the back end publishes.
    pub(super) async fn set(
        settings: &'a Settings,
        programs: Programs,
        directory: &Path,
        journal: &'a Journal,
    ) -> Result<Self> {
        let clock = journal.clock();
        let watch = Watch::start(clock)?;
        journal.mark(MarkKind::Phase, "Redis, the load balancer and the nodes start");
        let (nodes, clients) = (node_settings(settings), settings.clients);
        let mut stage = Stage::start(programs, nodes, directory, clients, proxy_niceness(settings)).await?;
        let members = start_nodes(&mut stage, settings.nodes).await?;
        let channels: Vec<String> =
            (0..settings.channels).map(|index| format!("{NAMESPACE}:{index}")).collect();
        let published = Arc::new(Published::new(&channels));
        let crowd = crowd_settings(settings, vec![stage.public()], &channels);
        let clients = crowd.clone();
        journal.mark(MarkKind::Phase, format!("{} clients connect", settings.clients));
        let crowd_threads = crowd_threads(settings)?;
        let crowd = {
            let _entered = crowd_threads.as_ref().map(Threads::enter);
            Crowd::start(crowd, clock, Arc::clone(&published))
        };
        let api = Arc::<RwLock<Vec<SocketAddr>>>::default();
        for member in &members {
            watch.add(&member.endpoint);
            add(&api, &member.endpoint);
        }
        let publisher = publisher_settings(settings, Arc::clone(&api), channels);
        let witnesses = witnesses(settings, clients, &publisher, &members, clock)?;
        let patience = ramp(settings) + ALL_LIVE;
        if let Err(live) = crowd.all_live(patience).await {
            bail!("after {patience:?} only {live} clients are live");
        }
        if let Some(witnesses) = &witnesses
            && let Err(live) = witnesses.all_live(patience).await
        {
            bail!("after {patience:?} only {live} witnesses are live");
        }
        let publisher = Publisher::start(publisher, clock, published);
        let facts = Facts::default();
        let scene = Self {
            settings,
            journal,
            clock,
            facts,
            crowd,
            _crowd_threads: crowd_threads,
            witnesses,
            publisher,
            watch,
            members,
            api,
            stage,
        };
        Ok(scene)
    }

    /// Starts a node and, once it is ready, sends clients and publications there.
    pub(super) async fn bring_in(&mut self) -> Result<()> {
        let member = self.stage.start_node().await?;
        self.stage.enter(&member.endpoint).await?;
        add(&self.api, &member.endpoint);
        self.watch.add(&member.endpoint);
        self.journal.mark(MarkKind::Phase, format!("{} is ready and serves", member.node.name()));
        self.members.push(member);
        Ok(())
    }

    /// Sends nobody to this node any more, neither clients nor publications.
    pub(super) async fn take_out(&self, endpoint: &Endpoint) -> Result<()> {
        let internal = endpoint.internal;
        self.api.write().unwrap_or_else(PoisonError::into_inner).retain(|&address| address != internal);
        self.stage.leave(endpoint).await?;
        self.journal.mark(MarkKind::Phase, format!("{} gets no new clients any more", endpoint.name));
        Ok(())
    }

    /// This node has ended, or is about to be killed: it has no connections any more.
    pub(super) fn has_ended(&self, name: &str) {
        self.watch.remove(name);
    }

    /// Waits until every client is live, but not for ever: who does not come back is found by the judge.
    pub(super) async fn everybody_is_back(&self) {
        let text = match self.crowd.all_live(ALL_LIVE).await {
            Ok(()) => "everybody is back".to_owned(),
            Err(live) => format!("only {live} of {} clients are back", self.settings.clients),
        };
        self.journal.mark(MarkKind::Phase, text);
    }

    /// Ends everything in order, and answers with all that is known.
    pub(super) async fn end(mut self) -> Result<Facts> {
        self.journal.mark(MarkKind::Phase, "the back end stops, and the judge looks at what everybody has");
        self.facts.publish = self.publisher.stop().await;
        for member in &self.members {
            let metrics = member.node.metrics().await;
            let metrics = metrics.with_context(|| format!("asking {} for metrics", member.node.name()))?;
            self.facts.connections_at_end.push((member.node.name().to_owned(), connections(&metrics)));
        }
        self.facts.samples = self.watch.samples();
        self.facts.crowd = self.crowd.finish().await;
        if let Some(witnesses) = self.witnesses {
            let (crowd, publish) = witnesses.finish().await;
            self.facts.witnesses = Some(crowd);
            self.facts.publish.failures.extend(publish.failures);
        }
        self.facts.marks = self.journal.marks();
        Ok(self.facts)
    }
}

fn add(api: &RwLock<Vec<SocketAddr>>, endpoint: &Endpoint) {
    api.write().unwrap_or_else(PoisonError::into_inner).push(endpoint.internal);
}

async fn start_nodes(stage: &mut Stage, count: usize) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for _ in 0..count {
        let member = stage.start_node().await?;
        stage.enter(&member.endpoint).await?;
        members.push(member);
    }
    Ok(members)
}

fn node_settings(settings: &Settings) -> NodeSettings {
    NodeSettings {
        drain_delay: settings.delay,
        drain_window: settings.window,
        token_secret: TOKEN_SECRET.into(),
        api_key: API_KEY.into(),
        islands: settings.plant == Some(Plant::Islands),
    }
}

fn crowd_settings(settings: &Settings, targets: Vec<SocketAddr>, channels: &[String]) -> CrowdSettings {
    CrowdSettings {
        targets: Arc::new(RwLock::new(targets)),
        path: "/connection/websocket".into(),
        clients: settings.clients,
        channels: channels.to_vec(),
        connects_per_second: CONNECTS_PER_SECOND,
        secret: TOKEN_SECRET.into(),
        token: TokenPlace::Query,
        sources: Vec::new(),
        plant: settings.clients_plant(),
    }
}

fn publisher_settings(
    settings: &Settings,
    nodes: Arc<RwLock<Vec<SocketAddr>>>,
    channels: Vec<String>,
) -> PublisherSettings {
    PublisherSettings {
        nodes,
        api_key: API_KEY.into(),
        channels,
        rate: settings.rate,
        payload_bytes: PAYLOAD_BYTES,
        patience: settings.play.patience(),
    }
}

/// In a storm the crowd and the load balancer, which would be on other machines, yield to those that are measured: the
/// nodes, Redis and the witnesses. They take all that two processors have, and the witnesses come without the balancer.
fn is_storm(settings: &Settings) -> bool {
    settings.play == Play::Fault(Fault::Storm)
}

fn proxy_niceness(settings: &Settings) -> i32 {
    if is_storm(settings) { threads::NICE } else { 0 }
}

fn crowd_threads(settings: &Settings) -> Result<Option<Threads>> {
    let count = std::thread::available_parallelism()?.get();
    Ok(is_storm(settings).then(|| Threads::start("crowd", count, threads::NICE)).transpose()?)
}

/// Who is connected to the first node directly, and so is not dropped with the others.
fn witnesses(
    settings: &Settings,
    crowd: CrowdSettings,
    publisher: &PublisherSettings,
    members: &[Member],
    clock: Clock,
) -> Result<Option<Witnesses>> {
    if !is_storm(settings) {
        return Ok(None);
    }
    let first = members.first().context("there is a node")?.endpoint.public;
    let targets = Arc::new(RwLock::new(vec![first]));
    let channels = vec![format!("{NAMESPACE}:witnesses")];
    let publisher =
        PublisherSettings { channels: channels.clone(), rate: witnesses::RATE, ..publisher.clone() };
    let crowd = CrowdSettings { targets, channels, clients: witnesses::COUNT, plant: None, ..crowd };
    Witnesses::start(crowd, publisher, clock).map(Some)
}

/// How long it takes until the last client starts.
fn ramp(settings: &Settings) -> Duration {
    Duration::from_secs_f64(settings.clients as f64 / f64::from(CONNECTS_PER_SECOND))
}
