//! The stage of a fault: Redis, nodes, clients and publishers that work while something breaks.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::certificates::Certificates;
use crate::cleanup::Directory;
use crate::collector::Collector;
use crate::fleet::Fleet;
use crate::http::Http;
use crate::node::{Broker, Environment, Node, Surroundings};
use crate::probe::Probe;
use crate::proxy::Proxy;
use crate::publisher::{Desk, Plan, Publisher};
use crate::redis::Redis;
use crate::report::Report;
use crate::wait;
use crate::watch::Watch;

/// How long the stage may take to be set, with other tests running.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long faults last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// As short as the fault has an effect.
    Smoke,
    /// As the catalogue says.
    Full,
}

impl Depth {
    /// The shorter or the longer of two.
    pub(crate) fn pick<T>(self, smoke: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Full => full,
        }
    }
}

/// What is on the stage.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    pub(crate) clients: usize,
    /// Each client subscribes to some of these.
    pub(crate) channels: Vec<String>,
    pub(crate) channels_each: usize,
    /// Publications to all channels together; 0: none but those that the fault makes.
    pub(crate) per_second: u32,
    pub(crate) workers: u32,
    /// As on the command line of `redis-server`; `None`: a single node with the memory broker.
    pub(crate) redis: Option<&'static [&'static str]>,
    /// Whether each node reaches Redis through a proxy of its own.
    pub(crate) proxied: bool,
    /// Whether nodes reach Redis by TLS.
    pub(crate) is_tls: bool,
    /// Whether everything is traced, and each node has a collector of its own.
    pub(crate) is_traced: bool,
    /// What Redis asks for; the nodes read it from [`Scene::password_file`].
    pub(crate) password: Option<&'static str>,
    /// Limits of the system for every node, as `prlimit` takes them.
    pub(crate) limits: &'static [&'static str],
    /// Changes the configuration of every node.
    pub(crate) change: fn(&mut Value),
    /// The environment of each node, by its place; files for it may be made in the directory.
    pub(crate) environment: fn(usize, &Path) -> Result<Environment>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 3,
            clients: 30,
            channels: (0..10).map(|index| format!("kept:{index}")).collect(),
            channels_each: 3,
            per_second: 100,
            workers: 20,
            redis: Some(&[]),
            proxied: false,
            is_tls: false,
            is_traced: false,
            password: None,
            limits: &[],
            change: |_| {},
            environment: |_, _| Ok(Environment::new()),
        }
    }
}

impl Setup {
    /// Subscribers are told late that they missed something: before that, their node must have healed it.
    pub(crate) fn patient() -> Self {
        Self {
            change: |config| config["client"]["position_check_interval"] = "60s".into(),
            ..Self::default()
        }
    }

    /// One node with the memory broker, and no Redis.
    pub(crate) fn memory() -> Self {
        Self { nodes: 1, redis: None, ..Self::default() }
    }
}

/// Everything that a fault has to do with. Dropping it stops all of it.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) depth: Depth,
    pub(crate) report: Report,
    pub(crate) nodes: Vec<Node>,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) collectors: Vec<Collector>,
    pub(crate) watches: Vec<Watch>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) channels: Vec<Arc<str>>,
    pub(super) publishers: Vec<Publisher>,
    redis: Option<Redis>,
    certificates: Option<Certificates>,
    /// Nodes that were killed or frozen: what they say about themselves does not count.
    pub(super) disturbed: HashSet<usize>,
    pub(super) fault_at: Instant,
    /// When the fault was over, and the number of the next publication then.
    pub(super) healed: Option<(Instant, u64)>,
    pub(super) is_judged: bool,
    pub(super) recovered_in: Option<Duration>,
    directory: Directory,
}

impl Scene {
    /// Sets the stage; everybody is connected and has got a publication of each channel that is published to.
    ///
    /// # Errors
    /// The report of what went wrong.
    pub(crate) async fn start(name: &str, depth: Depth, setup: &Setup) -> Result<Self, Box<Report>> {
        let directory = Directory::make(name).map_err(|error| Box::new(Report::of_failure(&error)))?;
        let mut scene = Self::empty(depth, directory, setup);
        match scene.set(setup).await {
            Ok(()) => Ok(scene),
            Err(error) => {
                scene.report.failed(&error.context("the stage cannot be set"));
                Err(Box::new(scene.close()))
            }
        }
    }

    async fn set(&mut self, setup: &Setup) -> Result<()> {
        if let Some(arguments) = setup.redis {
            self.start_redis(arguments, setup).await?;
        }
        self.start_nodes(setup).await?;
        self.start_clients(setup);
        self.everybody_is_live().await?;
        if setup.per_second > 0 {
            self.publish(setup.per_second, setup.workers, 0);
            self.everybody_got(1, PATIENCE).await.context("before the fault")?;
        }
        self.fault_at = Instant::now();
        Ok(())
    }

    async fn start_redis(&mut self, arguments: &[&str], setup: &Setup) -> Result<()> {
        let mut redis = Redis::start(&self.directory, arguments).await?;
        if setup.is_tls {
            let certificates = Certificates::make(&self.directory.join("certificates"))?;
            redis.speak_tls(&certificates).await?;
            self.certificates = Some(certificates);
        }
        if let Some(password) = setup.password {
            redis.set("requirepass", password).await?;
            redis.password = Some(password.to_owned());
            fs::write(self.password_file(), password)?;
        }
        self.redis = Some(redis);
        Ok(())
    }

    fn empty(depth: Depth, directory: Directory, setup: &Setup) -> Self {
        Self {
            depth,
            report: Report::default(),
            nodes: Vec::new(),
            proxies: Vec::new(),
            collectors: Vec::new(),
            watches: Vec::new(),
            probes: Vec::new(),
            fleet: Arc::new(Fleet::new([])),
            desk: Desk::new(),
            channels: setup.channels.iter().map(|channel| channel.as_str().into()).collect(),
            publishers: Vec::new(),
            redis: None,
            certificates: None,
            disturbed: HashSet::new(),
            fault_at: Instant::now(),
            healed: None,
            is_judged: false,
            recovered_in: None,
            directory,
        }
    }

    async fn start_nodes(&mut self, setup: &Setup) -> Result<()> {
        for index in 0..setup.nodes {
            let broker = match &self.redis {
                None => Broker::Memory,
                Some(redis) if setup.proxied => {
                    self.proxies.push(Proxy::start(redis.address()).await?);
                    Broker::Redis(self.proxies[index].address())
                }
                Some(redis) => Broker::Redis(redis.address()),
            };
            let name = format!("node-{index}");
            let tls = self.redis.as_ref().and_then(Redis::tls_port).zip(self.certificates.as_ref());
            let password_file = setup.password.map(|_| self.password_file());
            if setup.is_traced {
                self.collectors.push(Collector::start().await?);
            }
            let collector = self.collectors.get(index);
            let change = |config: &mut Value| {
                if let Some(collector) = collector {
                    config["otlp"] = json!({"endpoint": collector.endpoint(), "sample_ratio": 1.0});
                }
                if let Some((port, certificates)) = tls {
                    config["broker"]["redis"]["address"] = json!(format!("rediss://127.0.0.1:{port}"));
                    config["broker"]["redis"]["tls"]["ca_file"] = json!(certificates.file("ca.pem"));
                }
                if let Some(file) = password_file {
                    config["broker"]["redis"]["password_file"] = json!(file);
                }
                (setup.change)(config);
            };
            let environment = (setup.environment)(index, &self.directory)?;
            let surroundings = Surroundings { environment, limits: setup.limits };
            let node = Node::start(&name, &self.directory, broker, surroundings, change).await?;
            self.watches.push(Watch::start(&node));
            self.nodes.push(node);
        }
        self.fleet = Arc::new(Fleet::new(self.nodes.iter().map(|node| (node.public(), node.internal()))));
        for node in &self.nodes {
            wait::until("a node to be ready", PATIENCE, async || node.is_ready().await).await?;
        }
        let all = self.nodes.len() as f64;
        for node in &self.nodes {
            let knows_all = async || Ok(node.metric("clarion_cluster_nodes").await? == all);
            wait::until("a node to know the others", PATIENCE, knows_all).await?;
        }
        Ok(())
    }

    /// Spread evenly over nodes and channels.
    fn start_clients(&mut self, setup: &Setup) {
        for index in 0..setup.clients {
            let count = self.channels.len();
            let first = index * setup.channels_each;
            let channels: Vec<Arc<str>> = (first..first + setup.channels_each.min(count))
                .map(|channel| Arc::clone(&self.channels[channel % count]))
                .collect();
            self.add_client(&format!("user-{index}"), &channels, Some(index % self.nodes.len()));
        }
    }

    /// Connects another client, at first to the node `home`.
    pub(crate) fn add_client(&mut self, user: &str, channels: &[Arc<str>], home: Option<usize>) {
        self.probes.push(Probe::start(&self.fleet, user, channels, home));
    }

    /// Waits until every client has all its subscriptions.
    pub(crate) async fn everybody_is_live(&self) -> Result<Duration> {
        let waiting = wait::until("all subscriptions", PATIENCE, async || {
            Ok(self.probes.iter().all(|probe| probe.journal().is_live()))
        });
        let took = waiting.await?;
        // From now on they go where they like.
        self.probes.iter().for_each(Probe::roam);
        Ok(took)
    }

    /// Publishes to all channels from now on.
    pub(crate) fn publish(&mut self, per_second: u32, workers: u32, padding_bytes: usize) {
        let plan = Plan { channels: self.channels.clone(), per_second, workers, padding_bytes };
        self.publishers.push(Publisher::start(&self.fleet, &self.desk, &plan));
    }

    /// Stops publishing; everything that was begun is acknowledged or given up.
    pub(crate) async fn stop_publishing(&mut self) -> Result<()> {
        for publisher in self.publishers.drain(..) {
            publisher.stop().await?;
        }
        Ok(())
    }

    /// Waits until every subscription has got a publication of this number or a later one; answers when the last did.
    pub(crate) async fn everybody_got(&self, number: u64, patience: Duration) -> Result<Instant> {
        let mut missing: Vec<(&Probe, Arc<str>)> = Vec::new();
        for probe in &self.probes {
            let journal = probe.journal();
            let is_published_to = |channel: &&Arc<str>| self.channels.contains(channel);
            let channels = journal.standings.keys().filter(is_published_to).cloned();
            missing.extend(channels.map(|channel| (probe, channel)));
        }
        let mut last = Instant::now();
        let what = format!("publications from number {number} on to reach all");
        wait::until(&what, patience, async || {
            missing.retain(|(probe, channel)| probe.journal().standings[channel].number_max < number);
            last = Instant::now();
            Ok(missing.is_empty())
        })
        .await
        .with_context(|| missing_in_words(&missing))?;
        Ok(last)
    }

    /// The server that all nodes share.
    pub(crate) fn redis(&self) -> Result<&Redis> {
        self.redis.as_ref().context("there is no Redis in this scene")
    }

    pub(crate) fn redis_mut(&mut self) -> Result<&mut Redis> {
        self.redis.as_mut().context("there is no Redis in this scene")
    }

    pub(crate) fn certificates(&self) -> Result<&Certificates> {
        self.certificates.as_ref().context("there is no TLS in this scene")
    }

    /// The fault begins now.
    pub(crate) fn begins(&mut self) {
        self.fault_at = Instant::now();
    }

    /// The fault is over.
    pub(crate) fn heals(&mut self) {
        self.healed = Some((Instant::now(), self.desk.next_number()));
    }

    /// The fault is about what this node does: its health says nothing.
    pub(crate) fn disturbs(&mut self, node: usize) {
        self.disturbed.insert(node);
    }

    pub(crate) fn begun_at(&self) -> Instant {
        self.fault_at
    }

    /// A connection to the server API of a node.
    pub(crate) fn http(&self, node: usize) -> Http {
        Http::to(self.nodes[node].internal())
    }

    /// A file of this scene.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the nodes read the password of Redis.
    pub(crate) fn password_file(&self) -> PathBuf {
        self.directory.join("redis-password")
    }

    /// Ends everything. If something went wrong, logs are kept where the report says.
    pub(crate) fn close(self) -> Report {
        let Self { mut report, directory, nodes, redis, .. } = self;
        drop((nodes, redis));
        if !report.passed() {
            let directory = directory.keep();
            report.kept_at(&directory);
        }
        report
    }
}

fn missing_in_words(missing: &[(&Probe, Arc<str>)]) -> String {
    let name = |(probe, channel): &(&Probe, Arc<str>)| {
        let journal = probe.journal();
        let standing = &journal.standings[channel];
        format!("{} in {channel} (live: {}, at {:?})", journal.user, standing.is_live, standing.position)
    };
    let some: Vec<String> = missing.iter().take(5).map(name).collect();
    format!("{} subscriptions are behind, as {}", missing.len(), some.join(", "))
}
