//! A gateway on one thread: listener, shard and node of the production code, and the broker in memory.

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clarion::auth::{self, Authority};
use clarion::broker::{Draft, MemoryBroker, PublishOptions};
use clarion::cluster;
use clarion::config::{Channels, Config};
use clarion::metrics::Metrics;
use clarion::model::{Channel, Identity, Publication, RawJson, Secret};
use clarion::node::{Backends, Dispatch, INBOX_BYTES_MAX, Node, PresenceSettings, ShardId};
use clarion::presence::MemoryPresence;
use clarion::protocol::Context;
use clarion::server::accept::{self, Options};
use clarion::server::admission::{Admission, Limits, MemoryLimits};
use clarion::server::public;
use clarion::shard::{Budget, Settings, Shard};
use clarion::transport;
use clarion::transport::websocket::{Gate, Origins};
use serde_json::json;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::client::Visitor;

/// Where publications go.
pub(crate) const CHANNEL: &str = "bench";
/// How long tokens are good, in seconds. Whatever the time is, they have as many bytes.
const TOKEN_SECONDS: u64 = 3600;
/// Of the publications.
const DATA_BYTES: usize = 128;

/// A gateway that nobody has connected to.
pub(crate) struct World {
    pub(crate) runtime: LocalRuntime,
    pub(crate) node: Arc<Node>,
    pub(crate) shard: Rc<Shard>,
    pub(crate) context: Arc<Context>,
    token: Secret,
    address: SocketAddr,
}

impl World {
    /// Starts it with the defaults of the configuration, a key for tokens, a history and a channel for everybody.
    pub(crate) fn start() -> Self {
        transport::raise_open_files();
        let config = config();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .expect("the system has an event loop to give");
        let entered = runtime.enter();
        let metrics = Arc::new(Metrics::new());
        let (node, context) = (node(&metrics), Arc::new(context(&config, &metrics)));
        let budget = Arc::new(Budget::new(usize::MAX / 2));
        let shard = Shard::new(ShardId::new(0), Arc::clone(&node), settings(&config), budget);
        drop(entered);
        let admission = Admission::new(limits(), metrics);
        let address = runtime.block_on(serve(&config, &shard, &context, admission));
        let token = token(&config);
        Self { runtime, node, shard, context, token, address }
    }

    /// Verifies the token of a client.
    pub(crate) fn authenticate(&self) -> Identity {
        self.context.authenticate(&self.token).expect("the token is good")
    }

    /// A client whose handshake waits to be read.
    pub(crate) fn visitor(&self) -> Visitor {
        Visitor::arrive(self.address, self.token.expose())
    }

    /// Serves `visitor` until it is subscribed. Answers its socket, which is open.
    pub(crate) fn serve(&self, visitor: Visitor) -> TcpStream {
        self.runtime.block_on(visitor.is_served).expect("the client says so before it ends")
    }

    /// Publishes each of `runs`; nobody gets them before the runtime goes on.
    pub(crate) fn publish(&self, channel: &Channel, runs: Vec<Vec<Draft>>, options: PublishOptions) {
        self.runtime.block_on(async {
            for drafts in runs {
                let published = self.node.publish(channel, drafts, options).await;
                drop(published.expect("the broker is in memory"));
            }
        });
    }
}

/// The channel called `name`.
pub(crate) fn channel(name: &str) -> Channel {
    Channel::parse(name, 255).expect("it is a good name")
}

/// JSON of 128 bytes.
pub(crate) fn data() -> Vec<u8> {
    let head = r#"{"seq":"0000000001","pad":""#;
    format!(r#"{head}{}"}}"#, "x".repeat(DATA_BYTES - head.len() - 2)).into_bytes()
}

/// A publication of that.
pub(crate) fn draft() -> Draft {
    Draft::of(Publication::of(RawJson::parse(&data()).expect("it is JSON")))
}

fn config() -> Config {
    let mut config = Config::default();
    config.client.token.hmac_secret_key = Secret::new("0123456789abcdefghijklmnopqrstuv");
    config.client.allowed_origins = vec!["https://app.example.com".into()];
    config.channel.without_namespace.allow_subscribe_for_client = true;
    config.channel.without_namespace.history_size = 100;
    config.channel.without_namespace.history_ttl = Duration::from_secs(300);
    config
}

fn token(config: &Config) -> Secret {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = since_1970.expect("the clock is set").as_secs();
    let claims = json!({ "sub": "42", "iat": now, "exp": now + TOKEN_SECONDS, "info": { "name": "Ann" } });
    auth::sign(&config.client.token, &claims).expect("there is a key")
}

fn context(config: &Config, metrics: &Arc<Metrics>) -> Context {
    let channels = Channels::new(&config.channel);
    let authority = Authority::new(&config.client, channels, config.channel.channel_bytes_max);
    Context {
        authority: authority.expect("the key is good"),
        channels_max: config.client.channels_max,
        recovery_publications_max: config.client.recovery_publications_max,
        recovery_bytes_max: config.client.outbox_bytes_max / 2,
        history_publications_max: config.client.history_publications_max,
        ping_interval: config.client.ping_interval,
        expired_sub_close_delay: config.client.expired_sub_close_delay,
        metrics: Arc::clone(metrics),
    }
}

fn node(metrics: &Arc<Metrics>) -> Arc<Node> {
    let dispatch = Dispatch::new(1, INBOX_BYTES_MAX, Arc::clone(metrics));
    let backends = Backends {
        broker: Arc::new(MemoryBroker::new(Arc::clone(&dispatch) as _)),
        presence: Arc::new(MemoryPresence::new()),
        presence_settings: PresenceSettings::default(),
        cluster: cluster::Options::alone(Arc::default()),
    };
    let backbone = tokio::runtime::Handle::current();
    Node::new("bench".into(), dispatch, backends, Arc::clone(metrics), backbone)
}

fn settings(config: &Config) -> Settings {
    let client = &config.client;
    Settings {
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
        idle_after: config.cluster.heartbeat_interval * 2,
    }
}

fn limits() -> Limits {
    Limits {
        connections_max: 10_000,
        connections_soft_max: 0,
        handshakes_per_second: 10_000,
        address_connections_max: 0,
        address_handshakes_per_second: 0,
        trusted_proxies: Vec::new(),
        requires_tls: false,
        memory: MemoryLimits { resident_bytes_max: usize::MAX, address_space_bytes_max: None },
        farewells_max: 0,
    }
}

/// Starts the shard and its accept loop. Answers where it listens.
async fn serve(
    config: &Config,
    shard: &Rc<Shard>,
    context: &Arc<Context>,
    admission: Arc<Admission>,
) -> SocketAddr {
    shard.start();
    let listener =
        accept::bind(SocketAddr::from(([127, 0, 0, 1], 0)), true, Some(config.client.send_buffer_bytes))
            .expect("there is a port");
    let address = listener.local_addr().expect("it is bound");
    let gate = Gate {
        context: Arc::clone(context),
        origins: Origins::new(&config.client.allowed_origins, config.client.allow_no_origin),
        reject: config.client.token.reject,
    };
    let options = Options { tls: None, header_timeout: Duration::from_secs(60), admission };
    let router = public::routes(Arc::new(gate));
    let shard = Rc::clone(shard);
    let serving = accept::run_on_shard(listener, router, shard, options, || false, std::future::pending());
    tokio::task::spawn_local(serving);
    address
}
