use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::{Problem, TlsFiles, TlsMaterial, TlsTexts};
use crate::metrics::Metrics;

/// Between two looks at the files. What changed is used at the look after the one that saw it.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// What every handshake begins with (RFC 8446 §5.1): a record of the kind `handshake`.
const HANDSHAKE_RECORD: u8 = 22;
/// The only protocol behind it (RFC 7301 §3.1).
const HTTP_1_1: &[u8] = b"http/1.1";

/// Whose certificate it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// That of client transports.
    Public,
    /// That of the server API, metrics and health.
    Internal,
}

impl Listener {
    /// Its name in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
        }
    }
}

/// What one listener shows, up to date with its files. Shared by all threads.
pub struct Keeper {
    listener: Listener,
    files: TlsFiles,
    /// What the files held at first.
    first: TlsTexts,
    current: RwLock<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

/// No connection came of a handshake.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer speaks something else, maybe HTTP. Nothing of it was read.
    #[error("the peer does not speak TLS")]
    NotTls(TcpStream),
    /// The peer has gone without a word, as load balancers do that only look whether somebody listens.
    #[error("the peer said nothing")]
    Silent,
    /// The handshake failed, or the peer is gone. It was told, if it could be.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Keeper {
    /// What the `files` of `listener` hold now.
    ///
    /// # Errors
    /// [`Problem`] with the setting whose file cannot be used.
    pub fn new(listener: Listener, files: TlsFiles, metrics: Arc<Metrics>) -> Result<Arc<Self>, Problem> {
        let first = files.read()?;
        let material = first.material(SystemTime::now())?;
        metrics.tls_certificate(listener.label(), material.expires_at);
        let current = RwLock::new(Arc::new(server_config(&material)?));
        Ok(Arc::new(Self { listener, files, first, current, metrics }))
    }

    /// Shakes hands with who has connected. Takes as long as the peer does; cancelled, it closes.
    ///
    /// # Errors
    /// [`HandshakeError`]
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let mut first = [0];
        match stream.peek(&mut first).await? {
            0 => return Err(HandshakeError::Silent),
            _ if first[0] != HANDSHAKE_RECORD => return Err(HandshakeError::NotTls(stream)),
            _ => {}
        }
        let current = Arc::clone(&self.current.read());
        Ok(TlsAcceptor::from(current).accept(stream).await?)
    }

    /// Looks at the files again and again, for as long as the future is polled, and shows what is new in them. What
    /// cannot be used changes nothing.
    ///
    /// They are read rather than asked when they changed: they may be swapped by a link, and keep their size and time.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Watch::new(Ok(self.first.clone()));
        loop {
            looks.tick().await;
            let files = self.files.clone();
            // An error means that the runtime ends.
            let Ok(found) = tokio::task::spawn_blocking(move || files.read()).await else { return };
            if let Some(found) = watch.look(found) {
                self.take_up(found);
            }
        }
    }

    fn take_up(&self, found: Result<TlsTexts, Problem>) {
        let listener = self.listener.label();
        let material = found.and_then(|texts| texts.material(SystemTime::now()));
        let config = material.and_then(|material| Ok((server_config(&material)?, material.expires_at)));
        self.metrics.tls_reload(listener, config.is_ok());
        match config {
            Ok((config, expires_at)) => {
                *self.current.write() = Arc::new(config);
                self.metrics.tls_certificate(listener, expires_at);
                let expires_at = humantime::format_rfc3339(expires_at);
                tracing::info!(listener, %expires_at, "a new certificate is shown");
            }
            Err(problem) => {
                tracing::error!(listener, %problem, "a new certificate cannot be used; the one before stays");
            }
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keeper").field("files", &self.files).finish_non_exhaustive()
    }
}

type Found = Result<TlsTexts, Problem>;

/// When what is in the files is to be used: once two looks have found the same, because certificate and key are
/// replaced one after the other.
#[derive(Debug)]
struct Watch {
    settled: Found,
    /// What the last look found, if that was something else.
    pending: Option<Found>,
}

impl Watch {
    fn new(found: Found) -> Self {
        Self { settled: found, pending: None }
    }

    /// Answers what is to be used from now on, if that changes.
    fn look(&mut self, found: Found) -> Option<Found> {
        if found == self.settled {
            self.pending = None;
            return None;
        }
        if self.pending.as_ref() != Some(&found) {
            self.pending = Some(found);
            return None;
        }
        self.pending = None;
        self.settled = found.clone();
        Some(found)
    }
}

/// Made anew with each certificate: what clients remember of an older one, to spare themselves a part of the handshake, is
/// worth nothing any more.
fn server_config(material: &TlsMaterial) -> Result<ServerConfig, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let unusable = |message: String| Problem::new("tls", message);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| unusable(error.to_string()))?;
    let builder = match &material.client_roots {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(error.to_string()))?)
        }
    };
    let identity = SingleCertAndKey::from(Arc::clone(&material.identity));
    let mut config = builder.with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    // What is needed to go on with an earlier session is kept by the client: here it would be memory for each.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new().map_err(|error| unusable(error.to_string()))?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(message: &str) -> Found {
        Err(Problem::new("public.tls.cert_file", message))
    }

    #[test]
    fn what_changes_is_used_once_it_has_stayed_for_a_look() {
        let mut watch = Watch::new(broken("old"));
        assert_eq!(watch.look(broken("old")), None);
        assert_eq!(watch.look(broken("half")), None, "the other file may still come");
        assert_eq!(watch.look(broken("new")), None);
        assert_eq!(watch.look(broken("new")), Some(broken("new")));
        assert_eq!(watch.look(broken("new")), None, "once");
        assert_eq!(watch.look(broken("passing")), None);
        assert_eq!(watch.look(broken("new")), None);
        assert_eq!(watch.look(broken("passing")), None, "it is seen for the first time again");
    }
}
