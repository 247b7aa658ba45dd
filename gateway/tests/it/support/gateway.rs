use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clarion::app::{self, StartError};
use clarion::config::{ApiKey, Auto, ChannelOptions, Config};
use clarion::model::Secret;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::metrics::Samples;
use super::{Answer, Client, Redis, eventually, http, token, within};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const API_KEY: &str = "the-api-key-of-the-tests";

/// A running gateway; stops when it is dropped.
pub(crate) struct Gateway {
    gateway: Option<app::Gateway>,
    config: Config,
    public: SocketAddr,
    internal: SocketAddr,
}

impl Gateway {
    /// With two shards, and channels that users may subscribe and publish to.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with a configuration that `change` changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::try_start(config).await.expect("the gateway starts")
    }

    /// So many nodes that share a Redis and know each other, with a configuration that `change` changed.
    pub(crate) async fn start_nodes<const COUNT: usize>(
        redis: &Redis,
        change: impl Fn(&mut Config),
    ) -> [Self; COUNT] {
        let mut nodes = Vec::with_capacity(COUNT);
        for index in 0..COUNT {
            nodes.push(Self::start_node(redis, &format!("node-{index}"), &change).await);
        }
        for node in &nodes {
            node.metric_is("clarion_cluster_nodes", COUNT as f64).await;
        }
        nodes.try_into().unwrap_or_else(|_| unreachable!("so many were started"))
    }

    /// One node called `name` that lets clients come.
    pub(crate) async fn start_node(redis: &Redis, name: &str, change: impl FnOnce(&mut Config)) -> Self {
        let node = Self::start_with(|config| {
            config.node.name = name.into();
            redis.configure(config);
            change(config);
        })
        .await;
        node.is_ready().await;
        node
    }

    /// Waits until it lets clients come.
    pub(crate) async fn is_ready(&self) {
        eventually("the node to be ready", async || self.get("/readyz").await.status == 200).await;
    }

    /// Starts what `config` describes.
    pub(crate) async fn try_start(config: Config) -> Result<Self, StartError> {
        config.validate().expect("the configuration is valid");
        let starting = tokio::task::spawn_blocking(move || {
            let gateway = app::Gateway::start(&config, None)?;
            let (public, internal) = (gateway.public_address(), gateway.internal_address());
            Ok(Self { gateway: Some(gateway), config, public, internal })
        });
        within("the gateway to start", starting).await.expect("starting does not panic")
    }

    /// Stops in order, and comes back when it is done.
    pub(crate) fn stop(mut self) -> impl Future<Output = ()> {
        let gateway = self.gateway.take().expect("it was not stopped before");
        let stopping = tokio::task::spawn_blocking(|| gateway.stop());
        async { within("the gateway to stop", stopping).await.expect("stopping does not panic") }
    }

    /// Where clients connect.
    pub(crate) fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where the server API, metrics and health are.
    pub(crate) fn internal(&self) -> SocketAddr {
        self.internal
    }

    /// A client of the native protocol, connected as `user`.
    pub(crate) async fn connect(&self, user: &str) -> Client {
        Client::native(self.open().await, &self.token(user)).await
    }

    /// A client of the native protocol with a token of these `claims`, good for an hour unless they say
    /// otherwise.
    pub(crate) async fn connect_with(&self, claims: Value) -> Client {
        Client::native(self.open().await, &self.good(claims)).await
    }

    /// A client of the native protocol that has not said anything.
    pub(crate) async fn silent(&self) -> Client {
        Client::native_silent(self.open().await).await
    }

    /// A client of the bare form, connected as `user`; `query` says which channels.
    pub(crate) async fn bare(&self, user: &str, query: &str) -> Client {
        Client::bare(self.open().await, &self.token(user), query).await
    }

    /// A client of the form with nothing but data.
    pub(crate) async fn data(&self, user: &str, query: &str) -> Client {
        Client::data(self.open().await, &self.token(user), query).await
    }

    /// A socket to the public listener.
    pub(crate) async fn open(&self) -> TcpStream {
        within("a connection", TcpStream::connect(self.public)).await.expect("the gateway listens")
    }

    /// A good token for `user`.
    pub(crate) fn token(&self, user: &str) -> String {
        token::sign(&self.config, user)
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        token::sign_claims(&self.config, claims)
    }

    /// The same, good for an hour unless they say otherwise.
    pub(crate) fn good(&self, mut claims: Value) -> String {
        if claims.get("exp").is_none() {
            claims["exp"] = json!(token::now() + 3600);
        }
        self.sign(&claims)
    }

    /// `GET path` on the internal listener.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        http::get(self.internal, path).await
    }

    /// Calls the server API; answers its `result`.
    pub(crate) async fn api(&self, method: &str, request: Value) -> Value {
        let mut body = self.ask_api(method, request).await;
        assert!(body.get("error").is_none(), "{body}");
        body["result"].take()
    }

    /// Calls the server API, which refuses; answers the code of the error.
    pub(crate) async fn api_refusal(&self, method: &str, request: Value) -> u64 {
        let body = self.ask_api(method, request).await;
        body["error"]["code"].as_u64().unwrap_or_else(|| panic!("{method} is answered {body}"))
    }

    /// Calls the server API; answers all of it, `result` or `error`.
    pub(crate) async fn ask_api(&self, method: &str, request: Value) -> Value {
        let answer = self.post_api(method, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("the API answers JSON")
    }

    /// Calls the server API; answers the response as it came.
    pub(crate) async fn post_api(&self, method: &str, request: &Value) -> Answer {
        let key = [("x-api-key", API_KEY), ("content-type", "application/json")];
        http::post(self.internal, &format!("/api/{method}"), &key, &request.to_string()).await
    }

    /// `POST /v1/revocations`
    pub(crate) async fn revoke(&self, body: &Value) -> Answer {
        let key = [("x-api-key", API_KEY), ("content-type", "application/json")];
        http::post(self.internal, "/v1/revocations", &key, &body.to_string()).await
    }

    /// All metrics as they are now.
    pub(crate) async fn metrics(&self) -> Samples {
        Samples::parse(&self.get("/metrics").await.body)
    }

    /// The value of a metric now; see [`Samples::get`] for `name`.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.metrics().await.get(name)
    }

    /// Waits until a metric has this value.
    pub(crate) async fn metric_is(&self, name: &str, value: f64) {
        eventually(&format!("{name} to be {value}"), async || self.metric(name).await == value).await;
    }

    /// Asserts that somebody else can connect, subscribe and chat.
    pub(crate) async fn serves_honest_clients(&self) {
        let mut client = self.connect("honest").await.subscribe("honest").await;
        client.publish("honest", "hi").await;
        assert_eq!(client.next_publication().await.data, "hi");
        client.leave().await;
    }
}

impl Drop for Gateway {
    /// Nobody waits for it: a client that does not answer would hold the test up.
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            std::thread::spawn(|| gateway.stop());
        }
    }
}

/// What gateways of tests start with.
pub(crate) fn config() -> Config {
    let mut config = Config { shards: Auto::Fixed(2), ..Config::default() };
    config.public.address = LOOPBACK;
    config.public.port = 0;
    config.internal.address = LOOPBACK;
    config.internal.port = 0;
    (config.drain.delay, config.drain.window) = (Duration::ZERO, Duration::ZERO);
    config.client.token.hmac_secret_key = Secret::new(token::SECRET);
    config.api.keys = vec![ApiKey { key: Secret::new(API_KEY), ..ApiKey::default() }];
    config.channel.without_namespace = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        ..ChannelOptions::default()
    };
    config.channel.namespaces = vec![
        ChannelOptions { name: "read".into(), allow_subscribe_for_client: true, ..ChannelOptions::default() },
        ChannelOptions { name: "closed".into(), ..ChannelOptions::default() },
    ];
    config
}

/// A namespace called `name` with these `options`, written as in a configuration file.
pub(crate) fn namespace(name: &str, mut options: Value) -> ChannelOptions {
    options["name"] = json!(name);
    serde_json::from_value(options).expect("they are options of a namespace")
}
