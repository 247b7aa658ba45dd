use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, Problem};

/// TLS on the listener of client transports.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublicTls {
    /// The certificate chain (PEM) that this node shows, its own certificate first; with `key_file`. `None`: no TLS.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Whether clients that come without TLS are refused: to this node, or to a trusted proxy, as that says by
    /// `X-Forwarded-Proto`.
    pub required: bool,
}

/// TLS on the listener of the server API, metrics and health.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InternalTls {
    /// The certificate chain (PEM) that this node shows, its own certificate first; with `key_file`. `None`: no TLS.
    pub cert_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// Certificates (PEM) of who may sign those of clients, which have to show one then. `None`: none is asked for.
    pub client_ca_file: Option<PathBuf>,
}

impl PublicTls {
    /// The files, if there is TLS; `None` also if one of the two is missing.
    pub fn files(&self) -> Option<TlsFiles> {
        TlsFiles::new("public.tls", &self.cert_file, &self.key_file, &None)
    }
}

impl InternalTls {
    /// The files, if there is TLS; `None` also if one of the two is missing.
    pub fn files(&self) -> Option<TlsFiles> {
        TlsFiles::new("internal.tls", &self.cert_file, &self.key_file, &self.client_ca_file)
    }
}

/// Where the certificate and the key of a listener are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The section that names them.
    at: &'static str,
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
}

impl TlsFiles {
    fn new(
        at: &'static str,
        cert_file: &Option<PathBuf>,
        key_file: &Option<PathBuf>,
        client_ca_file: &Option<PathBuf>,
    ) -> Option<Self> {
        Some(Self {
            at,
            cert_file: cert_file.clone()?,
            key_file: key_file.clone()?,
            client_ca_file: client_ca_file.clone(),
        })
    }

    /// Reads what the files hold now.
    ///
    /// # Errors
    /// [`Problem`] with the setting whose file cannot be read.
    pub fn read(&self) -> Result<TlsTexts, Problem> {
        let client_ca = self.client_ca_file.as_deref().map(|file| self.read_one(file, "client_ca_file"));
        Ok(TlsTexts {
            files: self.clone(),
            cert: self.read_one(&self.cert_file, "cert_file")?,
            key: self.read_one(&self.key_file, "key_file")?,
            client_ca: client_ca.transpose()?,
        })
    }

    fn read_one(&self, file: &Path, setting: &str) -> Result<Vec<u8>, Problem> {
        let cannot = |error| self.problem(setting, format!("{} cannot be read: {error}", file.display()));
        fs::read(file).map_err(cannot)
    }

    /// The full path of the setting that names the certificate.
    pub fn cert_setting(&self) -> String {
        format!("{}.cert_file", self.at)
    }

    fn problem(&self, setting: &str, message: impl Into<String>) -> Problem {
        Problem::new(format!("{}.{setting}", self.at), message)
    }
}

/// What the files held when they were read.
#[derive(Clone)]
pub struct TlsTexts {
    files: TlsFiles,
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl PartialEq for TlsTexts {
    /// Whether they held the same, wherever they are.
    fn eq(&self, other: &Self) -> bool {
        (&self.cert, &self.key, &self.client_ca) == (&other.cert, &other.key, &other.client_ca)
    }
}

impl fmt::Debug for TlsTexts {
    /// Without the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsTexts").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What a side of TLS shows and trusts.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    /// The certificate chain with its key.
    pub identity: Arc<CertifiedKey>,
    /// Who may sign certificates of clients; `None` if they need none.
    pub client_roots: Option<Arc<RootCertStore>>,
    /// Until when its own certificate is good.
    pub expires_at: SystemTime,
}

impl TlsTexts {
    /// Takes certificates and key out of the texts.
    ///
    /// # Errors
    /// [`Problem`] with the setting whose file cannot be used `now`: it holds none, they do not fit, or the
    /// certificate has expired.
    pub fn material(&self, now: SystemTime) -> Result<TlsMaterial, Problem> {
        let chain = self.certificates(&self.cert, "cert_file")?;
        let expires_at = certificate_expiry(&chain[0])
            .ok_or_else(|| self.problem("cert_file", "its first certificate cannot be understood"))?;
        if expires_at <= now {
            let expired = format!("has expired: it was good until {}", humantime::format_rfc3339(expires_at));
            return Err(self.problem("cert_file", expired));
        }
        let identity = CertifiedKey::from_der(chain, self.private_key()?, &aws_lc_rs::default_provider());
        let identity = identity.map_err(|error| self.problem("key_file", misfit(&error)))?;
        Ok(TlsMaterial { identity: Arc::new(identity), client_roots: self.client_roots()?, expires_at })
    }

    fn certificates(&self, text: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(self.problem(setting, "there is no certificate in it: give PEM")),
            Err(error) => Err(self.problem(setting, format!("is not PEM throughout: {error}"))),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, Problem> {
        let none = "there is no private key in it: give PEM that is not encrypted";
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| self.problem("key_file", none))
    }

    fn client_roots(&self) -> Result<Option<Arc<RootCertStore>>, Problem> {
        let Some(text) = &self.client_ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(text, "client_ca_file")? {
            let unusable =
                |error| self.problem("client_ca_file", format!("holds what is no certificate: {error}"));
            roots.add(certificate).map_err(unusable)?;
        }
        Ok(Some(Arc::new(roots)))
    }

    fn problem(&self, setting: &str, message: impl Into<String>) -> Problem {
        self.files.problem(setting, message)
    }
}

/// Looks whether what the files of the listeners hold can be used now.
///
/// # Errors
/// [`ConfigError`] with what is wrong with each.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let listeners = [config.public.tls.files(), config.internal.tls.files()];
    let usable = |files: TlsFiles| files.read().and_then(|texts| texts.material(SystemTime::now()));
    let problems: Vec<Problem> =
        listeners.into_iter().flatten().filter_map(|files| usable(files).err()).collect();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

fn misfit(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "is not the key of the certificate in cert_file".into(),
        error => format!("cannot be used: {error}"),
    }
}

/// Until when a certificate is good (RFC 5280 §4.1.2.5); `None` if it cannot be understood.
pub fn certificate_expiry(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    // What ended before that has ended.
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
