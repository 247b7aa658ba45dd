use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clarion::config;
use clarion::model::NodeId;

use super::{LOOK_AGAIN, PATIENCE, Proxy, within};

/// For all tests that do no harm to it. Its watch ends it with this process: nobody drops a static.
static SHARED: OnceLock<Server> = OnceLock::new();

/// A Redis that ends when this value is dropped, or with the process.
pub(crate) struct Server {
    host: String,
    _watch: Option<Child>,
}

impl Server {
    /// On a free port, with nothing in it.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further `options` of the command line of Redis.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let port = free_port();
        let port_text = port.to_string();
        let server = Self::launch(&[&["--port", &port_text], options].concat(), port);
        server.await_answer();
        server
    }

    /// One that listens with TLS alone; its certificate is good for 127.0.0.1.
    pub(crate) fn start_with_tls(options: &[&str]) -> Self {
        let port = free_port();
        let port_text = port.to_string();
        Self::launch(&[&["--port", "0", "--tls-port", &port_text], options].concat(), port)
    }

    fn launch(options: &[&str], port: u16) -> Self {
        // The shell waits for the end of its input, which the system closes when this process ends, however it ends.
        let script = "redis-server \"$@\" --bind 127.0.0.1 --save '' --appendonly no >/dev/null & \
                      server=$!; cat >/dev/null; kill -9 $server";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).args(options).current_dir(std::env::temp_dir());
        let watch = shell.stdin(Stdio::piped()).spawn().expect("sh runs");
        let is_up = |_| {
            std::thread::sleep(Duration::from_millis(10));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        };
        assert!((0..2_000).any(is_up), "redis-server does not start: is it installed?");
        Self { host: format!("127.0.0.1:{port}"), _watch: Some(watch) }
    }

    /// Waits until it answers, whatever: somebody else may have been given the port.
    fn await_answer(&self) {
        let client = redis::Client::open(format!("redis://{}", self.host)).expect("it is an address");
        let deadline = std::time::Instant::now() + PATIENCE;
        while let Err(error) = client.get_connection()
            && error.code().is_none()
        {
            assert!(std::time::Instant::now() < deadline, "{error}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Its host and port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Its address as a gateway is told it.
    pub(crate) fn address(&self) -> String {
        format!("redis://{}", self.host)
    }

    /// Asks it something, as whoever is not asked for a password.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        self.ask_as("", command).await
    }

    /// Asks it something; `user` is empty, or `name:password@`, or `:password@`.
    pub(crate) async fn ask_as<T: redis::FromRedisValue>(&self, user: &str, command: &str) -> T {
        let client = redis::Client::open(format!("redis://{user}{}", self.host)).expect("it is an address");
        let asking = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut words = command.split(' ');
            let mut asked = redis::cmd(words.next().expect("there is a command"));
            for word in words {
                asked.arg(word);
            }
            asked.query_async(&mut connection).await
        };
        within("an answer of Redis", asking).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

fn free_port() -> u16 {
    /// Below those that the system gives to whoever does not choose, so that nobody gets one between two looks.
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id();
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = (0..COUNT).map(|_| {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        (FIRST + start.wrapping_mul(31).wrapping_add(tried) % COUNT) as u16
    });
    ports.into_iter().find(is_free).expect("a port is free")
}

/// A place in a Redis for the nodes of one test, which meet nobody else there.
pub(crate) struct Redis {
    host: String,
    prefix: String,
    command_timeout: Duration,
    /// If it can be cut off.
    pub(crate) proxy: Option<Proxy>,
}

impl Redis {
    /// In the server that all tests share: that of `TEST_REDIS_URL`, else one of this process.
    pub(crate) fn shared() -> Self {
        let server = SHARED.get_or_init(|| match std::env::var("TEST_REDIS_URL") {
            Ok(address) => {
                Server { host: address.trim_start_matches("redis://").to_owned(), _watch: None }
            }
            Err(_) => Server::start(),
        });
        // Machines of tests are busy; what is tested is never how fast it is.
        Self {
            host: server.host.clone(),
            prefix: format!("it-{}", NodeId::random()),
            command_timeout: PATIENCE / 2,
            proxy: None,
        }
    }

    /// The same, behind a proxy that can cut it off. Whoever waits for it gives up as soon as by default.
    pub(crate) async fn behind_proxy() -> Self {
        let shared = Self::shared();
        let target: SocketAddr = shared.host.parse().expect("tests with a proxy name Redis by its IP address");
        let proxy = Proxy::start(target).await;
        Self { proxy: Some(proxy), command_timeout: Duration::from_secs(1), ..shared }
    }

    /// Where it can be cut off.
    pub(crate) fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it is behind a proxy")
    }

    /// How a gateway gets there.
    pub(crate) fn settings(&self) -> config::Redis {
        let host = self.proxy.as_ref().map_or(self.host.clone(), |proxy| proxy.address().to_string());
        config::Redis {
            address: format!("redis://{host}"),
            prefix: self.prefix.clone(),
            command_timeout: self.command_timeout,
            connect_timeout: self.command_timeout,
            ..config::Redis::default()
        }
    }

    /// The same place without the proxy.
    pub(crate) fn direct(&self) -> Self {
        Self { host: self.host.clone(), prefix: self.prefix.clone(), proxy: None, command_timeout: PATIENCE / 2 }
    }

    /// How many nodes hear `channel`.
    pub(crate) async fn listeners(&self, channel: &str) -> usize {
        let server = Server { host: self.host.clone(), _watch: None };
        let relay = format!("{}:c:{channel}", self.prefix);
        let (_, count): (String, usize) = server.ask(&format!("PUBSUB NUMSUB {relay}")).await;
        count
    }
}
