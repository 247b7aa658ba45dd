//! A Redis server of its own: started, stopped, frozen, killed, and asked as `redis-cli` asks.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _,
};
use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::process::{Process, command};
use crate::wait;

/// How long it may take to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in a directory of its own, with no persistence unless its arguments ask for it.
#[derive(Debug)]
pub(crate) struct Redis {
    process: Process,
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    /// For the connections of the tests, once the server asks for one.
    pub(crate) password: Option<String>,
    tls_port: Option<u16>,
}

impl Redis {
    /// Starts one on a free port; `arguments` are further ones, as on its command line.
    pub(crate) async fn start(directory: &Path, arguments: &[&str]) -> Result<Self> {
        let port = wait::free_port()?;
        fs::create_dir_all(directory)?;
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = launch(port, directory, &arguments)?;
        let redis = Self {
            process,
            port,
            directory: directory.to_owned(),
            arguments,
            password: None,
            tls_port: None,
        };
        redis.is_up().await?;
        Ok(redis)
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Ends it as a machine that loses its power does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again on its port; it answers, be it that it loads still.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.process = launch(self.port, &self.directory, &self.arguments)?;
        self.is_up().await
    }

    /// It stops answering and keeps its connections.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Runs one command on a connection of its own: `["CONFIG", "SET", …]`.
    ///
    /// # Errors
    /// The server refused it, or did not answer.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let arguments: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.command_bytes(&arguments).await
    }

    /// The same with arguments that need not be text.
    pub(crate) async fn command_bytes<T: FromRedisValue>(&self, words: &[&[u8]]) -> Result<T> {
        let (name, arguments) = words.split_first().context("a command has a name")?;
        let mut command = ::redis::Cmd::new();
        command.arg(*name).arg(arguments);
        let asking = async {
            let mut connection = self.connect().await?;
            Ok(command.query_async(&mut connection).await?)
        };
        let name = String::from_utf8_lossy(name);
        wait::within(&format!("the answer to {name}"), PATIENCE, asking)
            .await
            .with_context(|| format!("asking Redis to {name}"))
    }

    /// A connection to keep: when it is needed, there may be no new ones.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = Client::open(self.connection_info()?)?;
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(PATIENCE))
            .set_connection_timeout(Some(PATIENCE));
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    fn connection_info(&self) -> Result<ConnectionInfo> {
        let info = ConnectionAddr::Tcp("127.0.0.1".into(), self.port).into_connection_info()?;
        let mut settings = info.redis_settings().clone();
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        Ok(info.set_redis_settings(settings))
    }

    /// Speaks TLS as well, on a port of its own.
    pub(crate) async fn speak_tls(&mut self, certificates: &Certificates) -> Result<()> {
        let port = wait::free_port()?;
        self.show_certificate(certificates, "server").await?;
        self.set("tls-port", &port.to_string()).await?;
        self.tls_port = Some(port);
        Ok(())
    }

    pub(crate) fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// New connections are shown the certificate of this name.
    pub(crate) async fn show_certificate(&self, certificates: &Certificates, name: &str) -> Result<()> {
        let (certificate, key) =
            (certificates.path(&format!("{name}.pem")), certificates.path(&format!("{name}.key")));
        let files = ["tls-cert-file", &certificate, "tls-key-file", &key, "tls-ca-cert-file"];
        let rest = [&certificates.path("ca.pem"), "tls-auth-clients", "no"];
        self.command(&[&["CONFIG", "SET"], &files[..], &rest[..]].concat()).await
    }

    /// A setting of the running server.
    pub(crate) async fn set(&self, name: &str, value: &str) -> Result<()> {
        self.command(&["CONFIG", "SET", name, value]).await
    }

    /// A number in the answer to `INFO`, as `evicted_keys`; 0 if it is not there.
    pub(crate) async fn info(&self, name: &str) -> Result<u64> {
        let text: String = self.command(&["INFO", "everything"]).await?;
        Ok(info_field(&text, name).and_then(|value| value.parse().ok()).unwrap_or(0))
    }

    /// How often a command was called, as `INFO commandstats` counts it: executed and rejected.
    pub(crate) async fn calls(&self, name: &str) -> Result<u64> {
        let text: String = self.command(&["INFO", "commandstats"]).await?;
        let stats = info_field(&text, &format!("cmdstat_{name}")).unwrap_or_default();
        let number = |field: &str| {
            let value = stats.split(',').find_map(|part| part.strip_prefix(field)?.strip_prefix('='));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        };
        Ok(number("calls") + number("rejected_calls"))
    }

    /// The connections of others, one line each, as `CLIENT LIST` writes them.
    pub(crate) async fn clients(&self) -> Result<Vec<String>> {
        let text: String = self.command(&["CLIENT", "LIST"]).await?;
        Ok(text.lines().filter(|line| !line.contains("cmd=client")).map(str::to_owned).collect())
    }

    /// The ports from which others are connected.
    pub(crate) async fn client_ports(&self) -> Result<Vec<u16>> {
        Ok(self.clients().await?.iter().filter_map(|line| client_port(line)).collect())
    }

    /// How many subscriptions there are, summed over connections.
    pub(crate) async fn subscriptions(&self) -> Result<u64> {
        let kinds = ["sub", "psub", "ssub"];
        let count = |line: &String| -> u64 {
            kinds.iter().filter_map(|kind| client_field(line, kind)?.parse::<u64>().ok()).sum()
        };
        Ok(self.clients().await?.iter().map(count).sum())
    }

    /// How many connections subscribe something.
    pub(crate) async fn subscription_connections(&self) -> Result<usize> {
        Ok(self.clients().await?.iter().filter(|line| subscribes(line)).count())
    }

    /// Every key of this type (`hash`, `stream`…) whose name holds `part`.
    pub(crate) async fn keys(&self, kind: &str, part: &str) -> Result<Vec<String>> {
        let keys: Vec<String> = self.command(&["KEYS", &format!("*{part}*")]).await?;
        let mut found = Vec::new();
        for key in keys {
            let its_kind: String = self.command(&["TYPE", &key]).await?;
            if its_kind == kind {
                found.push(key);
            }
        }
        Ok(found)
    }

    async fn is_up(&self) -> Result<()> {
        let address = self.address();
        wait::until("Redis to accept connections", PATIENCE, async || {
            Ok(tokio::net::TcpStream::connect(address).await.is_ok())
        })
        .await
        .map(drop)
        .with_context(|| self.process.output())
    }
}

fn launch(port: u16, directory: &Path, arguments: &[String]) -> Result<Process> {
    let mut command = command("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(directory).args(arguments);
    Process::start(&mut command, &directory.join("redis.log"))
}

/// The value of `name:value` among lines like it.
fn info_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The value of `name=value` in a line of `CLIENT LIST`.
fn client_field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn client_port(line: &str) -> Option<u16> {
    client_field(line, "addr")?.rsplit_once(':')?.1.parse().ok()
}

fn subscribes(line: &str) -> bool {
    ["sub", "psub", "ssub"].iter().any(|kind| client_field(line, kind).is_some_and(|count| count != "0"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cleanup::Directory;

    crate::own::tests!(lines_of_redis_are_read; a_server_is_frozen_killed_and_started_again_on_its_port);

    fn lines_of_redis_are_read() {
        let line = "id=3 addr=127.0.0.1:51234 laddr=127.0.0.1:6379 name= sub=2 psub=0 ssub=0 cmd=subscribe";
        assert_eq!(client_port(line), Some(51234));
        assert!(subscribes(line));
        assert!(!subscribes(&line.replace("sub=2", "sub=0")));
        let text = "# Stats\r\nevicted_keys:12\r\ncmdstat_get:calls=3,usec=1,rejected_calls=4\r\n";
        assert_eq!(info_field(text, "evicted_keys"), Some("12"));
        assert_eq!(info_field(text, "evicted"), None);
    }

    async fn a_server_is_frozen_killed_and_started_again_on_its_port() {
        let directory = Directory::make("own-redis").unwrap();
        let mut redis = Redis::start(&directory, &[]).await.unwrap();
        redis.command::<()>(&["XADD", "a-stream", "1-0", "field", "value"]).await.unwrap();
        assert_eq!(redis.keys("stream", "a-").await.unwrap(), ["a-stream"]);
        assert!(redis.keys("hash", "a-").await.unwrap().is_empty());
        assert_eq!(redis.calls("xadd").await.unwrap(), 1);
        assert_eq!(redis.subscription_connections().await.unwrap(), 0);
        redis.freeze().unwrap();
        let asking = redis.command::<String>(&["PING"]);
        assert!(tokio::time::timeout(Duration::from_millis(200), asking).await.is_err());
        redis.thaw().unwrap();
        assert_eq!(redis.command::<String>(&["PING"]).await.unwrap(), "PONG");
        redis.kill().unwrap();
        redis.restart().await.unwrap();
        assert!(redis.keys("stream", "").await.unwrap().is_empty(), "it keeps nothing");
    }
}
