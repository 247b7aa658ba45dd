use std::net::{SocketAddr, TcpStream as StdStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use clarion::config::{BrokerType, Config};
use clarion::model::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// For all tests that do no harm to it. Its watch ends it with this process: nobody drops a static.
static SHARED: OnceLock<Server> = OnceLock::new();

/// A Redis server that ends when this value is dropped, or with the process.
struct Server {
    address: String,
    watch: Option<Child>,
    pid: Option<Pid>,
}

/// What the nodes of one cluster share: a Redis, and a prefix that nobody else has.
#[derive(Clone)]
pub(crate) struct Redis {
    address: String,
    prefix: String,
}

/// A Redis of a test's own, which it may harm.
pub(crate) struct OwnRedis {
    server: Server,
    pub(crate) redis: Redis,
}

impl Server {
    fn start() -> Self {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        // The shell waits for the end of its input, which the system closes when this process ends, however it ends.
        let script = "redis-server --port \"$0\" --bind 127.0.0.1 --save '' --appendonly no >/dev/null & \
                      server=$!; echo $server; cat >/dev/null; kill -9 $server";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, &port.to_string()]).current_dir(std::env::temp_dir());
        let mut watch = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let mut pid = String::new();
        let output = watch.stdout.take().expect("it was asked for");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut pid).expect("it says its pid");
        let is_up = |_| {
            std::thread::sleep(Duration::from_millis(10));
            StdStream::connect(("127.0.0.1", port)).is_ok()
        };
        assert!((0..1_000).any(is_up), "redis-server does not start: is it installed?");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        Self { address: format!("redis://127.0.0.1:{port}"), watch: Some(watch), pid }
    }

    fn redis(&self) -> Redis {
        Redis { address: self.address.clone(), prefix: format!("it-{}", NodeId::random()) }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid.expect("it is ours"), signal).expect("it runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            drop(watch.stdin.take());
            // An error means that it has ended already.
            drop(watch.wait());
        }
    }
}

impl Redis {
    /// A prefix of one's own on the Redis of `TEST_REDIS_URL`, or one that the tests share.
    pub(crate) fn shared() -> Self {
        let server = SHARED.get_or_init(|| match std::env::var("TEST_REDIS_URL") {
            Ok(address) => Server { address, watch: None, pid: None },
            Err(_) => Server::start(),
        });
        server.redis()
    }

    /// A Redis of one's own.
    pub(crate) fn own() -> OwnRedis {
        let server = Server::start();
        let redis = server.redis();
        OwnRedis { server, redis }
    }

    /// Makes a node meet the others there, with a heart that beats fast.
    pub(crate) fn configure(&self, config: &mut Config) {
        config.broker.kind = BrokerType::Redis;
        config.broker.redis.address.clone_from(&self.address);
        config.broker.redis.prefix.clone_from(&self.prefix);
        config.cluster.heartbeat_interval = Duration::from_millis(200);
    }

    /// The same Redis by another way, which can be cut.
    pub(crate) async fn proxied(&self) -> (Self, Proxy) {
        let proxy =
            Proxy::start(self.address.trim_start_matches("redis://").parse().expect("an address")).await;
        (Self { address: format!("redis://{}", proxy.address), prefix: self.prefix.clone() }, proxy)
    }
}

impl OwnRedis {
    /// It answers nobody any more, and nobody is told so.
    pub(crate) fn freeze(&self) {
        self.server.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.server.signal(Signal::CONT);
    }
}

/// A way to Redis that can be cut and mended.
pub(crate) struct Proxy {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Proxy {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (is_open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target, opened.clone()));
            }
        });
        Self { address, is_open }
    }

    /// Every connection breaks, and no new one gets through.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// New connections get through.
    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow_and_update() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = is_open.wait_for(|is_open| !is_open) => {}
    }
}
