use std::io::{BufRead as _, BufReader};
use std::net::TcpStream as StdStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clarion::config::{BrokerType, Config};
use clarion::model::NodeId;
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{Proxy, within};

/// For all tests that do no harm to it. Its watch ends it with this process: nobody drops a static.
static SHARED: OnceLock<Server> = OnceLock::new();

/// A Redis server that ends when this value is dropped, or with the process.
pub(crate) struct Server {
    address: String,
    watch: Option<Child>,
    pid: Option<Pid>,
}

/// What the nodes of one cluster share: a Redis, and a prefix that nobody else has.
#[derive(Clone)]
pub(crate) struct Redis {
    pub(crate) address: String,
    pub(crate) prefix: String,
}

/// A Redis of a test's own, which it may harm.
pub(crate) struct OwnRedis {
    pub(crate) server: Server,
    pub(crate) redis: Redis,
}

impl Server {
    /// On a free port, with nothing in it, and with further `options` of the command line of Redis.
    pub(crate) fn start(options: &[&str]) -> Self {
        let port = free_port();
        Self::launch("redis", port, &[&["--port", &port.to_string()], options].concat())
    }

    /// The same, with TLS alone.
    pub(crate) fn start_with_tls(options: &[&str]) -> Self {
        let port = free_port();
        Self::launch("rediss", port, &[&["--port", "0", "--tls-port", &port.to_string()], options].concat())
    }

    fn launch(scheme: &str, port: u16, options: &[&str]) -> Self {
        // The shell waits for the end of its input, which the system closes when this process ends, however it ends.
        let script = "redis-server --bind 127.0.0.1 --save '' --appendonly no \"$@\" >/dev/null & \
                      server=$!; echo $server; cat >/dev/null; kill -9 $server";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).args(options).current_dir(std::env::temp_dir());
        let mut watch = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let mut pid = String::new();
        let output = watch.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut pid).expect("it says its pid");
        let is_up = |_| {
            std::thread::sleep(Duration::from_millis(10));
            StdStream::connect(("127.0.0.1", port)).is_ok()
        };
        assert!((0..1_000).any(is_up), "redis-server does not start: is it installed?");
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        Self { address: format!("{scheme}://127.0.0.1:{port}"), watch: Some(watch), pid }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A prefix there that nobody else has.
    pub(crate) fn redis(&self) -> Redis {
        Redis { address: self.address.clone(), prefix: format!("it-{}", NodeId::random()) }
    }

    /// Asks it `command`, whose words have one space between them; `access` is empty or `user:password@`.
    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, access: &str, command: &str) -> T {
        ask(&self.address.replace("://", &format!("://{access}")), command).await
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

async fn ask<T: redis::FromRedisValue>(address: &str, command: &str) -> T {
    let client = redis::Client::open(address).expect("it is an address");
    let mut words = command.split(' ');
    let mut asked = redis::cmd(words.next().expect("there is a command"));
    for word in words {
        asked.arg(word);
    }
    let asking = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        asked.query_async(&mut connection).await
    };
    within("Redis to answer", asking).await.unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// One below those that the system gives to whoever does not choose: nobody gets it before who asked.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 18_000;
    const COUNT: u32 = 12_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let next = || std::process::id().wrapping_mul(97).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
    let ports = (0..COUNT).map(|_| (FIRST + next() % COUNT) as u16);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("a port is free")
}

impl Redis {
    /// A prefix of one's own on the Redis of `TEST_REDIS_URL`, or one that the tests share.
    pub(crate) fn shared() -> Self {
        let server = SHARED.get_or_init(|| match std::env::var("TEST_REDIS_URL") {
            Ok(address) => Server { address, watch: None, pid: None },
            Err(_) => Server::start(&[]),
        });
        server.redis()
    }

    /// A Redis of one's own.
    pub(crate) fn own() -> OwnRedis {
        let server = Server::start(&[]);
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
        let target = self.address.trim_start_matches("redis://").parse().expect("an address");
        let proxy = Proxy::start(target).await;
        (Self { address: format!("redis://{}", proxy.address()), prefix: self.prefix.clone() }, proxy)
    }

    /// What comes on `channel` through Redis from now on, as it comes.
    pub(crate) async fn tap(&self, channel: &str) -> Tap {
        let client = redis::Client::open(&*self.address).expect("it is an address");
        let listening = async {
            let mut listening = client.get_async_pubsub().await?;
            listening.subscribe(format!("{}:c:{channel}", self.prefix)).await?;
            redis::RedisResult::Ok(listening)
        };
        Tap(within("Redis to answer", listening).await.expect("it lets us listen"))
    }

    /// How many nodes hear `channel`.
    pub(crate) async fn listeners(&self, channel: &str) -> usize {
        let command = format!("PUBSUB NUMSUB {}:c:{channel}", self.prefix);
        let (_, count): (String, usize) = ask(&self.address, &command).await;
        count
    }
}

/// Hears what nodes tell one another.
pub(crate) struct Tap(redis::aio::PubSub);

impl Tap {
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        let message = within("a message", self.0.on_message().next()).await;
        message.expect("Redis is there").get_payload_bytes().to_vec()
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

/// The command of the documentation that makes a user with as few rights as can be.
pub(crate) fn documented_redis_user(password: &str) -> String {
    let text = include_str!("../../../../docs/redis.md");
    let lines = text.lines().filter(|line| line.starts_with("ACL SETUSER clarion "));
    let [line] = lines.collect::<Vec<_>>()[..] else { panic!("there is one such line") };
    line.replace("PASSWORD", password)
}
