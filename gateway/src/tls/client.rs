//! Calls to the internal listener of a node of this deployment: from the command line, and from node to node.
//!
//! Nodes have addresses that no certificate names, so names are not looked at. Whoever is asked how it is need not be
//! believed; whoever is given an API key has to show the very certificate that the configuration names. An address that
//! somebody typed may be another's, maybe of a proxy: there the usual rules count as well, by [`Connector::strict`].

mod failure;
mod verifier;

use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, io};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use self::failure::HandshakeFailure;
pub use self::verifier::Authorities;
use self::verifier::Verifier;
use crate::config::{Problem, TlsFiles};

/// Shakes hands with listeners.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// One that believes whoever answers: nothing secret is said, and little depends on the answer.
    ///
    /// Like the others it shows the certificate in `files` to who wants one.
    ///
    /// # Errors
    /// [`Problem`] if the library cannot be set up.
    pub fn to_anybody(files: Option<&TlsFiles>) -> Result<Self, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        // A new file that cannot be used says nothing about the node that is asked.
        let identity = files.and_then(|files| identity(files).ok());
        Self::new(Verifier::of_anybody(&provider), identity, provider)
    }

    /// One that believes who shows the certificate in `files`, whatever it is called.
    ///
    /// # Errors
    /// [`Problem`] with the setting whose file cannot be used.
    pub fn to_ourselves(files: &TlsFiles) -> Result<Self, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = identity(files)?;
        let verifier = Verifier::of_one(identity.cert[0].clone(), files.cert_setting(), &provider);
        Self::new(verifier, Some(identity), provider)
    }

    /// One for an address that may be somebody else's: it believes whom `authorities` say. Files that cannot be used here
    /// are as if there were none.
    ///
    /// # Errors
    /// [`Problem`] if there is nobody to believe.
    pub fn strict(files: Option<&TlsFiles>, authorities: Authorities) -> Result<Self, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let identity = files.and_then(|files| identity(files).ok());
        let verifier = Verifier::of_authorities(authorities, &provider)?;
        Self::new(verifier, identity, provider)
    }

    fn new(
        verifier: Verifier,
        identity: Option<Arc<CertifiedKey>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Problem> {
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
        let builder = builder.map_err(|error| Problem::new("tls", error.to_string()))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands with who is at `authority`, a `host:port`, over `stream`. Cancelled, it closes.
    ///
    /// # Errors
    /// What the other side or the network said.
    pub async fn connect(&self, authority: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.0)).connect(server_name(authority)?, stream).await
    }

    /// The same as a state that somebody else feeds, who may wait for it.
    ///
    /// # Errors
    /// If the authority is none.
    pub fn session(&self, authority: &str) -> io::Result<ClientConnection> {
        let session = ClientConnection::new(Arc::clone(&self.0), server_name(authority)?);
        session.map_err(io::Error::other)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connector")
    }
}

/// What the files hold: a chain with at least one certificate, and its key.
fn identity(files: &TlsFiles) -> Result<Arc<CertifiedKey>, Problem> {
    Ok(files.read()?.material(SystemTime::now())?.identity)
}

/// The host in `host:port`, or in `host`.
fn server_name(authority: &str) -> io::Result<ServerName<'static>> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    };
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_with_and_without_a_port() {
        for (authority, host) in [
            ("example.com:443", "example.com"),
            ("example.com", "example.com"),
            ("127.0.0.1:9000", "127.0.0.1"),
            ("[::1]:9000", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(server_name(authority).unwrap().to_str(), host);
        }
        assert!(server_name("").is_err());
    }
}
