//! How a connection to Redis is opened: where, as whom, over what.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use ::redis::aio::{AsyncPushSender, MultiplexedConnection};
use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates,
};
use tokio::net::TcpStream;

use crate::config;

/// A connection on which nothing comes is asked whether it lives after this; NAT and load balancers forget sooner or
/// later, and an established connection that is black-holed is noticed by nothing else.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(3);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged for so long ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(3);
/// Commands that may wait to be sent; the library's default of 50 makes publishers wait for one another.
const PIPELINE_BUFFER: usize = 1024;

/// A connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// A file that the configuration names cannot be read.
    #[error("{setting} cannot be read")]
    File { setting: &'static str, source: io::Error },
    /// The address, a certificate or a key cannot be used.
    #[error("{0}")]
    Settings(String),
    /// What the server or the network said.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Opens connections to one Redis. Files are read at each opening, so what is rotated is picked up.
#[derive(Debug)]
pub(super) struct Connector {
    settings: config::Redis,
}

impl Connector {
    pub(super) fn new(settings: config::Redis) -> Arc<Self> {
        Arc::new(Self { settings })
    }

    pub(super) fn settings(&self) -> &config::Redis {
        &self.settings
    }

    /// The address as it may be shown.
    pub(super) fn address(&self) -> &str {
        &self.settings.address
    }

    /// A connection that many share, in RESP3; what comes unasked goes to `pushes`.
    pub(super) async fn open(
        &self,
        pushes: Option<Arc<dyn AsyncPushSender>>,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let mut options = self.options();
        if let Some(pushes) = pushes {
            options = options.set_push_sender(pushes);
        }
        self.open_with(&options).await
    }

    async fn open_with(
        &self,
        options: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let client = Client::open(self.target()?)?;
        Ok(client.get_multiplexed_async_connection_with_config(options).await?)
    }

    /// Whether somebody is there who takes connections and says nothing for `patience`; `error` is what came of the
    /// first attempt.
    pub(super) async fn is_silent(&self, error: &ConnectError, patience: Duration) -> bool {
        let is_timeout =
            |error: &ConnectError| matches!(error, ConnectError::Redis(error) if error.is_timeout());
        if !is_timeout(error) || !self.is_taken().await {
            return false;
        }
        let options = self.options();
        let options = options.set_connection_timeout(Some(patience)).set_response_timeout(Some(patience));
        self.open_with(&options).await.is_err_and(|error| is_timeout(&error))
    }

    /// Whether somebody takes connections.
    async fn is_taken(&self) -> bool {
        let Ok(target) = self.target() else { return false };
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) = target.addr()
        else {
            return false;
        };
        let connecting = TcpStream::connect((host.as_str(), *port));
        matches!(tokio::time::timeout(self.settings.connect_timeout, connecting).await, Ok(Ok(_)))
    }

    pub(super) fn options(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.settings.connect_timeout))
            .set_response_timeout(Some(self.settings.command_timeout))
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
    }

    /// Where and as whom.
    pub(super) fn target(&self) -> Result<ConnectionInfo, ConnectError> {
        let info = self.settings.address.as_str().into_connection_info()?;
        let mut access = RedisConnectionInfo::default()
            .set_db(info.redis_settings().db())
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("clarion", env!("CARGO_PKG_VERSION"));
        if !self.settings.username.is_empty() {
            access = access.set_username(&self.settings.username);
        }
        if let Some(password) = self.password()? {
            access = access.set_password(password);
        }
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        let tcp =
            TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(USER_TIMEOUT);
        let info = info.set_redis_settings(access).set_tcp_settings(tcp);
        if self.settings.address.starts_with("rediss://") { self.over_tls(info) } else { Ok(info) }
    }

    /// The password as it is now.
    fn password(&self) -> Result<Option<String>, ConnectError> {
        if let Some(file) = &self.settings.password_file {
            let text = read(file, "broker.redis.password_file")?;
            let text = String::from_utf8(text);
            let text = text.map_err(|_| ConnectError::Settings("the password is not UTF-8".into()))?;
            return Ok(Some(text.trim_end().to_owned()));
        }
        let password = self.settings.password.expose();
        Ok((!password.is_empty()).then(|| password.to_owned()))
    }

    fn over_tls(&self, info: ConnectionInfo) -> Result<ConnectionInfo, ConnectError> {
        let tls = &self.settings.tls;
        let root_cert =
            tls.ca_file.as_deref().map(|file| read(file, "broker.redis.tls.ca_file")).transpose()?;
        let client_tls = match (&tls.cert_file, &tls.key_file) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(cert, "broker.redis.tls.cert_file")?,
                client_key: read(key, "broker.redis.tls.key_file")?,
            }),
            _ => None,
        };
        let client = Client::build_with_tls(info, TlsCertificates { client_tls, root_cert })?;
        Ok(client.get_connection_info().clone())
    }
}

fn read(file: &Path, setting: &'static str) -> Result<Vec<u8>, ConnectError> {
    fs::read(file).map_err(|source| ConnectError::File { setting, source })
}

/// Why a connection could not be protected; `None` if that was not what failed.
pub(super) fn tls_problem(error: &RedisError) -> Option<&rustls::Error> {
    // The library shares what caused its errors, so that the cause itself hides behind its `Arc`.
    let shared = error.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    let cause: &(dyn Error + 'static) = &**shared;
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner = inner.map(|inner| inner as &(dyn Error + 'static));
    inner.unwrap_or(cause).downcast_ref()
}

/// What the network said.
pub(super) fn io_problem(error: &RedisError) -> String {
    match error {
        _ if error.is_timeout() => "no answer in time".into(),
        // What wants TLS does so as well.
        _ if error.is_connection_dropped() => "it closes the connection without an answer".into(),
        _ => error.to_string(),
    }
}

/// Whether an operator has to act before a connection can be opened.
pub(super) fn is_for_an_operator(error: &ConnectError) -> bool {
    match error {
        ConnectError::Redis(error) => {
            super::Failure::from(error).is_for_an_operator() || tls_problem(error).is_some()
        }
        ConnectError::File { .. } | ConnectError::Settings(_) => true,
    }
}
