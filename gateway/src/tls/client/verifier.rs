use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::config::{self, Problem, TlsFiles};

/// Certificates of who may be called, whatever the name, and of who may sign for others and their names.
pub struct Authorities {
    pinned: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
}

impl Authorities {
    /// Who shows the certificate in `own`, if that can be read here, and whom the system trusts: nobody, where it has no
    /// bundle.
    pub fn of_system(own: Option<&TlsFiles>) -> Self {
        let own = own.and_then(|files| super::identity(files).ok());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self { pinned: own.into_iter().map(|own| own.cert[0].clone()).collect(), roots }
    }

    /// Those in `file` (PEM), which `setting` names: each may sign for others, and be shown itself.
    ///
    /// # Errors
    /// [`Problem`] with the setting if the file cannot be read or holds no certificate.
    pub fn in_file(setting: &str, file: &Path) -> Result<Self, Problem> {
        let problem = |message: String| Problem::new(setting, format!("{} {message}", file.display()));
        let text = fs::read(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
        let pinned: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let pinned = pinned.map_err(|error| problem(format!("is not PEM throughout: {error}")))?;
        if pinned.is_empty() {
            return Err(problem("holds no certificate: give PEM".into()));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pinned.iter().cloned());
        Ok(Self { pinned, roots })
    }
}

/// Looks at the certificate of who is called. That it holds the key is looked at in any case.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Who shows one of these is believed, whatever it is called, as long as the certificate is good.
    pinned: Vec<CertificateDer<'static>>,
    others: Others,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What is made of who shows something else.
#[derive(Debug)]
enum Others {
    Believed,
    /// It should have shown the certificate of this setting.
    Refused(String),
    /// Somebody has to vouch for it, and for its name.
    Checked(Arc<WebPkiServerVerifier>),
}

impl Verifier {
    /// Whoever answers is believed.
    pub(super) fn of_anybody(provider: &CryptoProvider) -> Self {
        Self::new(Vec::new(), Others::Believed, provider)
    }

    /// Only who shows `certificate` is believed, which is that of `setting`.
    pub(super) fn of_one(
        certificate: CertificateDer<'static>,
        setting: String,
        provider: &CryptoProvider,
    ) -> Self {
        Self::new(vec![certificate], Others::Refused(setting), provider)
    }

    /// Whom `authorities` say is believed.
    pub(super) fn of_authorities(
        authorities: Authorities,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Problem> {
        let Authorities { pinned, roots } = authorities;
        let checker = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let others = match checker.build() {
            Ok(checker) => Others::Checked(checker),
            Err(_) if !pinned.is_empty() => Others::Refused("the configuration".into()),
            Err(error) => return Err(Problem::new("tls", format!("there is nobody to trust: {error}"))),
        };
        Ok(Self::new(pinned, others, provider))
    }

    fn new(pinned: Vec<CertificateDer<'static>>, others: Others, provider: &CryptoProvider) -> Self {
        Self { pinned, others, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        called: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.pinned.contains(shown) {
            return still_good(shown, now);
        }
        match &self.others {
            Others::Believed => Ok(ServerCertVerified::assertion()),
            Others::Refused(setting) => {
                Err(rustls::Error::General(format!("it does not show the certificate of {setting}")))
            }
            Others::Checked(checker) => {
                checker.verify_server_cert(shown, between, called, ocsp_response, now)
            }
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

fn still_good(shown: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, rustls::Error> {
    let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    match config::certificate_expiry(shown) {
        Some(expires_at) if expires_at <= now => Err(CertificateError::Expired.into()),
        _ => Ok(ServerCertVerified::assertion()),
    }
}
