//! Wires a configuration into a running gateway, and owns the order of its start and its stop.
//!
//! Start: every listener is bound before any accepts. Stop: not ready → still accepting for a while → connections, paced →
//! listeners → requests of the API end. Both orders matter; see [`Gateway::start`] and [`Gateway::stop`].

mod address;
mod backends;
mod files;
mod machine;
mod means;
mod shards;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use self::files::Files;
pub use self::means::Means;
use self::shards::{Drained, Plan, Shards};
use crate::auth::{ApiKeys, Authority, KeyError, TokenError};
use crate::config::{Auto, Channels, Client, Config, Drain, Problem, TlsFiles, Token};
use crate::metrics::Metrics;
use crate::node::{self, Dispatch, INBOX_BYTES_MAX, Node};
use crate::protocol::{self, Context};
use crate::redis::Unsuitable;
use crate::server::accept::{self, Options};
use crate::server::admin::{self, Admin};
use crate::server::admission::{Admission, Limits};
use crate::server::api::{self, Api};
use crate::server::door::Door;
use crate::server::in_flight::InFlight;
use crate::server::ops::{self, Ops, Phase};
use crate::server::v1::{self, V1};
use crate::server::{Routes, playground, public};
use crate::shard::{Budget, Settings};
use crate::telemetry::traces::{Traces, TracesError};
use crate::tls::{Keeper, Listener};
use crate::transport;
use crate::transport::websocket::{self, Gate, Origins};

/// How long the presence may take to be told who has left, once all connections are closed.
const LEAVE_DEADLINE: Duration = Duration::from_millis(500);
/// Threads for everything that is not a socket of a client.
const BACKBONE_THREADS: usize = 2;
/// The gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody listens there already.
    #[error("{address} is in use by another process; choose another port with {setting}")]
    PortInUse {
        /// Where.
        address: SocketAddr,
        /// What to change.
        setting: &'static str,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A key of the configuration cannot be used.
    #[error("a key of the configuration cannot be used")]
    Key(#[from] KeyError),
    /// A certificate of a listener cannot be used.
    #[error("{0}")]
    Tls(Problem),
    /// A Redis answers that cannot be used.
    #[error(transparent)]
    Redis(#[from] Unsuitable),
    /// Traces cannot go where the configuration says.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// Threads or their event loops could not be made.
    #[error("cannot start the event loops")]
    Runtime(#[source] io::Error),
}

/// What development adds: the playground, pages of this machine, any namespace.
#[derive(Clone, Debug)]
pub struct Development {
    /// The key that the playground shows.
    pub api_key: String,
}

/// A running gateway. Dropping it without [`stop`](Self::stop) ends it without a word to the clients.
pub struct Gateway {
    node: Arc<Node>,
    phase: Arc<Phase>,
    in_flight: Arc<InFlight>,
    shards: Shards,
    backbone: Runtime,
    internal_address: SocketAddr,
    drain: Drain,
    requests_deadline: Duration,
}

impl Gateway {
    /// Starts what `config`, which has been validated, describes. Returns when every listener accepts. A Redis that is
    /// away delays that by `broker.redis.command_timeout` at the most.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(config: &Config, development: Option<&Development>) -> Result<Self, StartError> {
        transport::raise_open_files();
        let backbone = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(BACKBONE_THREADS)
            .thread_name("backbone")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let parts = Parts::new(config, development.is_some(), &backbone)?;
        let internal = parts.internal_routes(config, development);
        let public = public::routes(Arc::new(parts.gate(config, development.is_some())));
        let is_shared = config.is_shared();
        let (public, internal) =
            if is_shared { (public.merge(internal), None) } else { (public, Some(internal)) };
        let tls = parts.keeper(Listener::Public, config.public.tls.files(), &backbone)?;
        let shards = Shards::bind(&parts.plan(config, public, tls))?;
        let internal_address = match internal {
            None => shards.address(),
            Some(routes) => parts.serve_internal(config, routes, &backbone)?,
        };
        backbone.spawn(Arc::clone(&parts.admission).watch());
        parts.join(config, internal_address, &backbone);
        shards.accept();
        parts.phase.start();
        let Parts { node, phase, in_flight, .. } = parts;
        let (drain, requests_deadline) = (config.drain.clone(), config.api.timeout);
        Ok(Self { node, phase, in_flight, shards, backbone, internal_address, drain, requests_deadline })
    }

    /// Where clients connect.
    pub fn public_address(&self) -> SocketAddr {
        self.shards.address()
    }

    /// Where the server API, metrics and health are.
    pub fn internal_address(&self) -> SocketAddr {
        self.internal_address
    }

    /// Stops, as `drain` says: not ready, and after `delay` nobody is let in; connections are asked to come again
    /// elsewhere, evenly over `window`; listeners go, requests of the API end, everybody has left.
    ///
    /// Ends as soon as that is done: the latest a few seconds and `api.timeout` after the window, whatever clients do,
    /// unless other nodes could not take so many at once. Blocks the thread; call it outside of a runtime.
    pub fn stop(self) {
        let Drain { delay, window } = self.drain;
        let cluster = self.node.cluster();
        tracing::info!(
            connections = self.connections(),
            ?delay,
            ?window,
            "stopping: not ready, still accepting"
        );
        self.phase.stop();
        self.node.metrics().draining(true);
        cluster.begin_draining();
        self.backbone.block_on(async {
            tokio::time::sleep(delay).await;
            cluster.look().await;
        });
        self.tell_pace();
        let Drained { cut, left } = self.shards.drain(window);
        let unanswered = self.backbone.block_on(self.in_flight.close(self.requests_deadline));
        // In time or not: what is left in the presence ends by its lease.
        let settled = async { tokio::time::timeout(LEAVE_DEADLINE, self.node.seats_settled()).await };
        let _in_time = self.backbone.block_on(settled);
        self.backbone.block_on(cluster.leave());
        self.node.traces().finish();
        self.backbone.shutdown_timeout(Duration::from_millis(100));
        tracing::info!(cut, left, unanswered, "stopped");
    }

    /// Says how fast connections will be closed, and if it takes longer than it should.
    fn tell_pace(&self) {
        let (connections, window) = (self.connections(), self.drain.window);
        let limit = self.node.cluster().closes_per_second(self.node.client_count());
        let least = Duration::from_secs_f64(limit.map_or(0.0, |limit| connections as f64 / limit));
        if least > window {
            tracing::warn!(
                connections,
                ?window,
                expected = ?least,
                "closing every connection takes longer than drain.window: the nodes that stay could not take them faster"
            );
        } else {
            tracing::info!(connections, ?window, "closing every connection");
        }
    }

    fn connections(&self) -> usize {
        self.node.metrics().connection_count()
    }
}

/// What the listeners share.
struct Parts {
    node: Arc<Node>,
    context: Arc<Context>,
    phase: Arc<Phase>,
    budget: Arc<Budget>,
    admission: Arc<Admission>,
    in_flight: Arc<InFlight>,
    shards: usize,
}

impl Parts {
    fn new(config: &Config, is_development: bool, backbone: &Runtime) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::of_namespaces(&config.channel));
        let shards = config.shards.or_else(machine::cpus);
        let traces = Traces::start(&config.otlp, &config.node.name, &metrics)?;
        let dispatch = Dispatch::traced(shards, INBOX_BYTES_MAX, Arc::clone(&metrics), traces);
        let handle = backbone.handle().clone();
        let channels = Channels::new(&config.channel);
        let channels = if is_development { channels.with_unknown_namespaces_allowed() } else { channels };
        let authority = Authority::new(&config.client, channels, config.channel.channel_bytes_max)?;
        let backends = backends::make(config, &authority, &dispatch, &metrics, backbone)?;
        let node = Node::new(config.node.name.clone(), dispatch, backends, Arc::clone(&metrics), handle);
        let context = Context {
            authority,
            channels_max: config.client.channels_max,
            recovery_publications_max: config.client.recovery_publications_max,
            history_publications_max: config.client.history_publications_max,
            // What is sent at once must leave room for what comes after it.
            recovery_bytes_max: config.client.outbox_bytes_max / 2,
            ping_interval: config.client.ping_interval,
            expired_sub_close_delay: config.client.expired_sub_close_delay,
            metrics: Arc::clone(&metrics),
        };
        let outboxes_bytes_max = machine::outboxes_bytes_max(config);
        metrics.outbox_limit(outboxes_bytes_max);
        metrics.watch_runtime("backbone".into(), backbone.metrics());
        expect(&metrics);
        Ok(Self {
            node,
            context: Arc::new(context),
            phase: Arc::default(),
            budget: Arc::new(Budget::new(outboxes_bytes_max)),
            admission: Admission::new(limits(config, shards), metrics),
            in_flight: Arc::default(),
            shards,
        })
    }

    fn gate(&self, config: &Config, is_development: bool) -> Gate {
        let origins = Origins::new(&config.client.allowed_origins, config.client.allow_no_origin);
        Gate {
            context: Arc::clone(&self.context),
            origins: if is_development { origins.with_loopback() } else { origins },
            reject: config.client.token.reject,
        }
    }

    fn internal_routes(&self, config: &Config, development: Option<&Development>) -> Routes {
        let ops = Ops {
            phase: Arc::clone(&self.phase),
            node: Arc::clone(&self.node),
            budget: Arc::clone(&self.budget),
            admission: Arc::clone(&self.admission),
        };
        let api = Api {
            node: Arc::clone(&self.node),
            context: Arc::clone(&self.context),
            keys: ApiKeys::new(&config.api.keys),
            config: config.api.clone(),
        };
        let door = Door { keys: api.keys.clone(), config: config.api.clone() };
        let admin =
            Admin { node: Arc::clone(&self.node), door: door.clone(), has_profiles: config.debug.pprof };
        let v1 =
            V1 { node: Arc::clone(&self.node), door, token_lifetime_max: token_lifetime_max(&config.client) };
        let api = self.in_flight.watch(api::routes(api).merge(v1::routes(v1)));
        // A node that stops does not wait for a profile.
        let routes = ops::routes(ops).merge(api).merge(admin::routes(admin));
        match development {
            Some(development) => {
                routes.merge(playground::routes(config.client.token.clone(), development.api_key.clone()))
            }
            None => routes,
        }
    }

    fn plan(&self, config: &Config, router: Routes, tls: Option<Arc<Keeper>>) -> Plan {
        let client = &config.client;
        Plan {
            address: SocketAddr::new(config.public.address, config.public.port),
            send_buffer_bytes: client.send_buffer_bytes,
            count: self.shards,
            router,
            node: Arc::clone(&self.node),
            budget: Arc::clone(&self.budget),
            settings: Settings {
                ping_interval: client.ping_interval,
                pong_timeout: client.pong_timeout,
                stale_close_delay: client.stale_close_delay,
                expired_close_delay: client.expired_close_delay,
                user_connections_max: client.user_connections_max,
                message_bytes_max: client.message_bytes_max,
                frames_per_second_max: client.frames_per_second_max,
                outbox_bytes_max: client.outbox_bytes_max,
                write_timeout: client.write_timeout,
                position_check_interval: client.position_check_interval,
                lifetime_max: client.connection_lifetime_max,
                // Long enough for what a client says with a pong or a command to be over.
                idle_after: config.cluster.heartbeat_interval * 2,
            },
            options: self.options(config, tls),
        }
    }

    /// What a listener shows, kept up to date with its files on `backbone`; `None` if there are none.
    fn keeper(
        &self,
        listener: Listener,
        files: Option<TlsFiles>,
        backbone: &Runtime,
    ) -> Result<Option<Arc<Keeper>>, StartError> {
        let Some(files) = files else { return Ok(None) };
        let keeper =
            Keeper::new(listener, files, Arc::clone(self.node.metrics())).map_err(StartError::Tls)?;
        backbone.spawn(Arc::clone(&keeper).watch());
        Ok(Some(keeper))
    }

    fn options(&self, config: &Config, tls: Option<Arc<Keeper>>) -> Options {
        Options { header_timeout: config.public.header_timeout, admission: Arc::clone(&self.admission), tls }
    }

    /// Has the node join its cluster, so that whoever connects finds it knowing what was revoked. If that takes long it
    /// goes on while clients are served.
    fn join(&self, config: &Config, internal_address: SocketAddr, backbone: &Runtime) {
        let address = address::internal(config, internal_address);
        let cluster = Arc::clone(self.node.cluster());
        let joining = backbone.spawn(async move { cluster.join(address).await });
        let patience = config.broker.redis.command_timeout;
        let joined = backbone.block_on(async { tokio::time::timeout(patience, joining).await });
        if joined.is_err() {
            tracing::warn!("the cluster is not joined yet; clients are served meanwhile");
        }
    }

    /// Binds the internal listener and serves it on the backbone.
    fn serve_internal(
        &self,
        config: &Config,
        routes: Routes,
        backbone: &Runtime,
    ) -> Result<SocketAddr, StartError> {
        let address = SocketAddr::new(config.internal.address, config.internal.port);
        let tls = self.keeper(Listener::Internal, config.internal.tls.files(), backbone)?;
        let _entered = backbone.enter();
        let listener = accept::bind(address, false, None)
            .and_then(|listener: TcpListener| Ok((listener.local_addr()?, listener)))
            .map_err(|error| listen_error(address, "internal.port", error));
        let (address, listener) = listener?;
        let options = self.options(config, tls);
        let connections_max = files(self.shards).internal;
        backbone.spawn(accept::run_internal(listener, routes, options, connections_max));
        Ok(address)
    }
}

/// Has every series begin at zero whose labels are known: one that appears with its first event hides that event from `rate()`.
fn expect(metrics: &Metrics) {
    protocol::expect(metrics);
    node::expect(metrics);
    websocket::expect(metrics);
    TokenError::LABELS.iter().for_each(|reason| metrics.expect_refused_token(reason));
    api::expect(metrics);
    v1::expect(metrics);
    admin::expect(metrics);
}

/// How long a token can be good from now on; zero: for ever.
fn token_lifetime_max(client: &Client) -> Duration {
    let lifetime = |token: &Token| token.lifetime_max.saturating_add(token.leeway);
    let rules = [&client.token, client.subscription_token_rules()];
    if rules.iter().any(|token| token.lifetime_max.is_zero()) {
        return Duration::ZERO;
    }
    rules.into_iter().map(lifetime).max().unwrap_or_default()
}

/// What the door of the node goes by.
fn limits(config: &Config, shards: usize) -> Limits {
    let files = files(shards);
    let (client, admission) = (&config.client, &config.admission);
    Limits {
        connections_max: connections_max(client.connections_max, files),
        connections_soft_max: client.connections_soft_max,
        handshakes_per_second: machine::handshakes_per_second(config),
        address_connections_max: client.address_connections_max,
        address_handshakes_per_second: admission.address_handshakes_per_second,
        trusted_proxies: config.public.trusted_networks(),
        requires_tls: config.public.tls.required,
        memory: machine::memory_limits(),
        farewells_max: files.farewells,
    }
}

/// Who may have how many of the open files.
fn files(shards: usize) -> Files {
    Files::share_out(transport::open_files_max(), shards)
}

/// How many clients may be connected. Never so many that Redis, the API, health and metrics find no file left.
fn connections_max(setting: Auto<usize>, files: Files) -> usize {
    let Files { clients: possible, reserve, .. } = files;
    let wanted = setting.or_else(|| possible);
    if wanted > possible || possible == 0 {
        tracing::warn!(
            wanted,
            possible,
            reserve,
            "the limit of open files is below client.connections_max and what the node itself needs"
        );
    }
    wanted.min(possible)
}

fn listen_error(address: SocketAddr, setting: &'static str, source: io::Error) -> StartError {
    match source.kind() {
        io::ErrorKind::AddrInUse => StartError::PortInUse { address, setting },
        _ => StartError::Listen { address, source },
    }
}
