//! A Redis for tests: that of `TEST_REDIS_URL`, else one that this process starts.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Redis;
use crate::config;
use crate::metrics::Metrics;
use crate::model::NodeId;

/// An answer of any shape.
pub(crate) type Anything = ::redis::Value;

/// For all tests that do no harm to it. Its watch ends it with this process: nobody drops a static.
static SHARED: OnceLock<Server> = OnceLock::new();

/// A server that ends when this value is dropped, or with the process.
pub(crate) struct Server {
    address: String,
    _watch: Option<Child>,
}

impl Server {
    /// On a free port, with nothing in it.
    pub(crate) fn start() -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        // The shell waits for the end of its input, which the system closes when this process ends, however it ends.
        let script = "redis-server --port \"$0\" --bind 127.0.0.1 --save '' --appendonly no >/dev/null & \
                      server=$!; cat >/dev/null; kill $server";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &port.to_string()]).current_dir(std::env::temp_dir());
        let watch = shell.stdin(Stdio::piped()).spawn().expect("sh runs");
        let is_up = |_| {
            std::thread::sleep(Duration::from_millis(10));
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        };
        assert!((0..1_000).any(is_up), "redis-server does not start: is it installed?");
        Self { address: format!("redis://127.0.0.1:{port}"), _watch: Some(watch) }
    }

    /// How to connect to it, with a prefix that nobody else has.
    pub(crate) fn settings(&self) -> config::Redis {
        let timeout = Duration::from_secs(10);
        config::Redis {
            address: self.address.clone(),
            prefix: format!("test-{}", NodeId::random()),
            // Machines of tests are busy; what is tested is never how fast it is.
            command_timeout: timeout,
            connect_timeout: timeout,
            ..config::Redis::default()
        }
    }
}

/// The server of the tests.
pub(crate) fn shared() -> &'static Server {
    SHARED.get_or_init(|| match std::env::var("TEST_REDIS_URL") {
        Ok(address) => Server { address, _watch: None },
        Err(_) => Server::start(),
    })
}

/// Connected to `server`.
pub(crate) async fn connect(server: &Server) -> Arc<Redis> {
    let metrics = Arc::new(Metrics::new());
    Redis::start(&server.settings(), NodeId::random(), &metrics).await.expect("Redis can be used")
}

/// Connected to the server of the tests, where it has a prefix of its own.
pub(crate) async fn redis() -> Arc<Redis> {
    connect(shared()).await
}
