use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::within;

/// Who signs certificates, made for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, in PEM.
pub(crate) struct Shown {
    pub(crate) cert: String,
    pub(crate) key: String,
    /// Until when it is good, in seconds since 1970.
    pub(crate) expires_at: i64,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this machine, good until the first day of `year`.
    pub(crate) fn sign(&self, year: i32) -> Shown {
        self.sign_for(&["localhost", "127.0.0.1"], 2020..year)
    }

    /// One for these names, good from the first day of a year to that of another.
    pub(crate) fn sign_for(&self, names: &[&str], years: Range<i32>) -> Shown {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("they are names");
        params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key can be made");
        let cert = params.signed_by(&key, &self.issuer).expect("the authority signs");
        Shown { cert: cert.pem(), key: key.serialize_pem(), expires_at: params.not_after.unix_timestamp() }
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Shakes hands with who is at `address` and has to show what this authority signed.
    pub(crate) async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("somebody listens");
        self.protect(stream, None, rustls::DEFAULT_VERSIONS).await.expect("the handshake succeeds")
    }

    /// The same with a kernel that takes little for it.
    pub(crate) async fn connect_narrow(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        socket.set_recv_buffer_size(4096).expect("the size is allowed");
        let stream = within("a connection", socket.connect(address)).await.expect("somebody listens");
        self.protect(stream, None, rustls::DEFAULT_VERSIONS).await.expect("the handshake succeeds")
    }

    /// Shakes hands over `stream`, with a certificate of its own if `shown`, in one of these `versions`.
    pub(crate) async fn protect(
        &self,
        stream: TcpStream,
        shown: Option<&Shown>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it is PEM"))
            .expect("it is one");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("they are known");
        let builder = builder.with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let cert = CertificateDer::from_pem_slice(shown.cert.as_bytes()).expect("it is PEM");
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("it is PEM");
                builder.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
        };
        // As browsers offer it.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").expect("it is a name");
        within("the handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }

    /// `GET path` at `address`: status line, headers and body.
    pub(crate) async fn get(
        &self,
        address: SocketAddr,
        shown: Option<&Shown>,
        path: &str,
    ) -> io::Result<String> {
        let stream = TcpStream::connect(address).await?;
        let mut stream = self.protect(stream, shown, rustls::DEFAULT_VERSIONS).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        within("the answer", stream.read_to_string(&mut answer)).await?;
        Ok(answer)
    }
}

/// The files that a listener reads; gone when this is dropped.
pub(crate) struct Files(PathBuf);

impl Files {
    pub(crate) fn new(shown: &Shown) -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tls-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let files = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::create_dir_all(&files.0).expect("the directory of tests is writable");
        files.put(shown);
        files
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.0.join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }

    /// Puts a certificate and its key in the place of what is there.
    pub(crate) fn put(&self, Shown { cert, key, .. }: &Shown) {
        self.write("cert.pem", cert);
        self.write("key.pem", key);
    }

    /// Puts `text` in the place of a file, by a rename; answers where it is.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (file, fresh) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&fresh, text).expect("the directory of tests is writable");
        fs::rename(&fresh, &file).expect("it is in one directory");
        file
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
