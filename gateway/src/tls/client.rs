//! Calls to the internal listener of a node of this deployment: from the command line, and from node to node.
//!
//! Nodes have addresses that no certificate names, so names are not looked at. Whoever is asked how it is need not be
//! believed; whoever is given an API key has to show the very certificate that the configuration names.

use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, io};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, SignatureScheme, WantsVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Problem, TlsFiles, TlsMaterial};

/// Whom a call trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Whoever answers: nothing secret is said, and little depends on the answer.
    Anybody,
    /// Who shows the certificate that is in the file.
    Ourselves,
}

/// Shakes hands with internal listeners.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// One that trusts as `trust` says, and shows the certificate in `files` to who wants one.
    ///
    /// # Errors
    /// [`Problem`] with the setting whose file cannot be used.
    pub fn new(files: &TlsFiles, trust: Trust) -> Result<Self, Problem> {
        Ok(Self(Arc::new(config(files, trust)?)))
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

fn config(files: &TlsFiles, trust: Trust) -> Result<ClientConfig, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let material = files.read().and_then(|texts| texts.material(SystemTime::now()));
    let (identity, expected) = match (material, trust) {
        (Ok(TlsMaterial { identity, .. }), Trust::Anybody) => (Some(identity), None),
        (Ok(TlsMaterial { identity, .. }), Trust::Ourselves) => {
            let expected = identity.cert.first().cloned();
            (Some(identity), expected)
        }
        // A new file that cannot be used says nothing about the node that is asked.
        (Err(_), Trust::Anybody) => (None, None),
        (Err(problem), Trust::Ourselves) => return Err(problem),
    };
    let verifier = Verifier { expected, algorithms: provider.signature_verification_algorithms };
    let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn builder(provider: Arc<CryptoProvider>) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Problem> {
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
    builder.map_err(|error| Problem::new("tls", error.to_string()))
}

/// The host in `host:port`.
fn server_name(authority: &str) -> io::Result<ServerName<'static>> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)
}

/// Looks at the certificate of who is called, and not at its name. That it holds the key is looked at in any case.
#[derive(Debug)]
struct Verifier {
    /// `None`: whoever it is.
    expected: Option<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.expected {
            Some(expected) if expected != shown => Err(rustls::Error::General(
                "it does not show the certificate of internal.tls.cert_file".into(),
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
