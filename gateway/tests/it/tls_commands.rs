//! Commands that call a node by TLS: whom they believe, and what they say of whom they do not.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clarion::config::Config;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::roundtrip::Report;
use crate::support::{API_KEY, Authority, Files, Gateway, Process, SECRET, Shown, config, eventually, sign};

/// A node both of whose listeners show one certificate.
struct Stage {
    gateway: Gateway,
    authority: Authority,
    files: Files,
}

impl Stage {
    async fn start() -> Self {
        Self::showing(&["localhost", "127.0.0.1"], |_, _| {}).await
    }

    /// With a certificate for these names, and a configuration that was changed.
    async fn showing(names: &[&str], change: impl FnOnce(&mut Config, &Files)) -> Self {
        let authority = Authority::new();
        let files = Files::new(&authority.sign_for(names, 2020..2100));
        files.write("ca.pem", authority.pem());
        let gateway = Gateway::start_with(|config| {
            let (public, internal) = (&mut config.public.tls, &mut config.internal.tls);
            (public.cert_file, public.key_file) = (Some(files.cert()), Some(files.key()));
            (internal.cert_file, internal.key_file) = (Some(files.cert()), Some(files.key()));
            change(config, &files);
        })
        .await;
        Self { gateway, authority, files }
    }

    fn ca(&self) -> String {
        text(&self.files.cert().with_file_name("ca.pem"))
    }

    fn public(&self) -> String {
        format!("wss://localhost:{}", self.gateway.public().port())
    }

    fn internal(&self) -> String {
        format!("https://localhost:{}", self.gateway.internal().port())
    }

    /// What the configuration of the node says, for a command that is to read it.
    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("CLARION__PUBLIC__PORT", self.gateway.public().port().to_string()),
            ("CLARION__PUBLIC__TLS__CERT_FILE", text(&self.files.cert())),
            ("CLARION__PUBLIC__TLS__KEY_FILE", text(&self.files.key())),
            ("CLARION__INTERNAL__PORT", self.gateway.internal().port().to_string()),
            ("CLARION__INTERNAL__TLS__CERT_FILE", text(&self.files.cert())),
            ("CLARION__INTERNAL__TLS__KEY_FILE", text(&self.files.key())),
        ]
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("it is text").to_owned()
}

/// How a publication comes back by TLS.
const WAY: [&str; 7] = ["reach", "tls", "upgrade", "connect", "subscribe", "publish", "receive"];

/// What a command says with the secret and the key of the nodes, and what else `variables` say.
async fn told(arguments: &[&str], variables: &[(&str, String)]) -> Report {
    let known = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET), ("CLARION_API_KEY", API_KEY)];
    let variables: Vec<_> =
        variables.iter().map(|(name, value)| (*name, value.as_str())).chain(known).collect();
    Report::by(arguments, &variables).await
}

/// What `clarion test` says with these arguments.
async fn tested(arguments: &[&str], variables: &[(&str, String)]) -> Report {
    told(&[&["test", "--output", "json"], arguments].concat(), variables).await
}

/// Nobody's authorities, in the place of those of the system.
fn system(file: &str) -> Vec<(&'static str, String)> {
    vec![("SSL_CERT_FILE", file.to_owned()), ("SSL_CERT_DIR", "/nonexistent".to_owned())]
}

/// Shows a certificate to whoever comes, and says nothing more.
async fn show(shown: &Shown) -> SocketAddr {
    let cert = CertificateDer::from_pem_slice(shown.cert.as_bytes()).expect("it is PEM");
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("it is PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("they are known").with_no_client_auth().with_single_cert(vec![cert], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("they fit")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}

#[tokio::test]
async fn a_publication_goes_the_whole_way_by_tls() {
    let stage = Stage::start().await;
    let (public, internal, ca) = (stage.public(), stage.internal(), stage.ca());
    let addresses = ["--url", &public, "--publish", &internal];
    tested(&[&addresses[..], &["--ca-file", &ca]].concat(), &[]).await.came_by(&WAY);
    tested(&addresses, &system(&ca)).await.came_by(&WAY);
    // The configuration says where, and whom to believe.
    tested(&[], &stage.variables()).await.came_by(&WAY);
    let other = Authority::new();
    let other = text(&stage.files.write("other.pem", other.pem()));
    let of_config = [stage.variables(), system(&other)].concat();
    tested(&addresses, &of_config).await.came_by(&WAY);
}

#[tokio::test]
async fn a_certificate_that_is_given_itself_needs_no_name() {
    let stage = Stage::showing(&["other.example.com"], |_, _| {}).await;
    let (public, internal) = (stage.public(), stage.internal());
    let addresses = ["--url", &public, "--publish", &internal, "--ca-file"];
    let cert = text(&stage.files.cert());
    tested(&[&addresses[..], &[&cert]].concat(), &[]).await.came_by(&WAY);
    tested(&[], &stage.variables()).await.came_by(&WAY);
    let ca = stage.ca();
    // Whom one names is believed, and nobody else.
    let said = tested(&[&addresses[..], &[&ca]].concat(), &stage.variables()).await;
    said.failed(
        "tls",
        "its certificate is not for localhost, but for other.example.com",
        "the host of the address",
    );
}

#[tokio::test]
async fn it_is_said_what_is_wrong_with_a_certificate() {
    let stage = Stage::start().await;
    let (public, internal, ca) = (stage.public(), stage.internal(), stage.ca());
    let other = text(&stage.files.write("other.pem", Authority::new().pem()));
    let stranger = "its certificate is signed by nobody whom this trusts";
    let addresses = ["--url", &public, "--publish", &internal];
    tested(&addresses, &system(&other)).await.failed("tls", stranger, "--ca-file");
    let said = tested(&[&addresses[..], &["--ca-file", &other]].concat(), &system(&ca)).await;
    said.failed("tls", stranger, "--ca-file");
    let plain = Gateway::start().await;
    let (ws, http) = (format!("ws://{}", plain.public()), format!("http://{}", plain.internal()));
    let said = tested(&["--url", &ws, "--publish", &internal, "--ca-file", &other], &[]).await;
    said.failed("publish", stranger, "--ca-file");
    let expired = stage.authority.sign_for(&["127.0.0.1"], 2020..2021);
    let given = text(&stage.files.write("expired.pem", &expired.cert));
    let early = stage.authority.sign_for(&["127.0.0.1"], 2098..2100);
    for (shown, trusted, words, advice) in [
        (&expired, &ca, "has expired", "ClarionCertExpiry"),
        (&expired, &given, "has expired", "ClarionCertExpiry"),
        (&early, &ca, "is not good yet", "clock"),
    ] {
        let url = format!("wss://{}", show(shown).await);
        let said = tested(&["--url", &url, "--publish", &http, "--ca-file", trusted], &[]).await;
        said.failed("tls", words, advice);
    }
}

#[tokio::test]
async fn it_is_said_where_nobody_speaks_tls_and_where_everybody_has_to() {
    let (stage, plain) = (Stage::start().await, Gateway::start().await);
    let (public, ca) = (stage.gateway.public(), stage.ca());
    let (ws, http) = (format!("ws://{}", plain.public()), format!("http://{}", plain.internal()));
    let (wss, https) = (ws.replace("ws:", "wss:"), http.replace("http:", "https:"));
    let said = tested(&["--url", &wss, "--publish", &http, "--ca-file", &ca], &[]).await;
    said.failed("tls", "it does not speak TLS", "ws://");
    let said = tested(&["--url", &ws, "--publish", &https, "--ca-file", &ca], &[]).await;
    said.failed("publish", "it does not speak TLS", "http://");
    let said = tested(&["--url", &format!("ws://{public}"), "--publish", &http], &[]).await;
    said.failed("upgrade", "HTTP status 400: ", "wss://");
}

#[tokio::test]
async fn who_wants_a_certificate_is_shown_that_of_the_configuration() {
    let wants = |config: &mut Config, files: &Files| {
        config.internal.tls.client_ca_file = Some(files.cert().with_file_name("ca.pem"));
    };
    let stage = Stage::showing(&["localhost"], wants).await;
    let (public, internal, ca) = (stage.public(), stage.internal(), stage.ca());
    let arguments = ["--url", &public, "--publish", &internal, "--ca-file", &ca];
    tested(&arguments, &stage.variables()).await.came_by(&WAY);
    let said = tested(&arguments, &[]).await;
    said.failed("publish", "it wants a certificate", "client_ca_file");
}

#[tokio::test]
async fn other_commands_believe_the_same() {
    let stage = Stage::start().await;
    let (internal, ca) = (stage.internal(), stage.ca());
    let other = text(&stage.files.write("other.pem", Authority::new().pem()));
    for command in [&["info"][..], &["pub", "news", "hi"], &["health", "--ready"]] {
        let given = [command, &["--url", &internal, "--ca-file"]].concat();
        let said = told(&[&given[..], &[&ca]].concat(), &[]).await;
        assert_eq!(said.code, Some(0), "{command:?}: {}", said.output);
        let said = told(&[&given[..], &[&other]].concat(), &[]).await;
        assert_eq!(said.code, Some(1), "{command:?}: {}", said.output);
        assert!(said.output.contains("signed by nobody whom this trusts"), "{command:?}: {}", said.output);
    }
    let said = told(&["health", "--url", &internal], &system(&other)).await;
    assert_eq!(said.code, Some(0), "a probe says nothing secret: {}", said.output);
    let said = told(&["info", "--url", &internal], &system(&other)).await;
    assert_eq!(said.code, Some(1), "{}", said.output);
    // Where the configuration says, only its certificate will do, whoever else the system trusts.
    let fresh = stage.authority.sign(2100);
    let moved = Files::new(&fresh);
    let (cert, key) = (text(&moved.cert()), text(&moved.key()));
    let mut variables = [stage.variables(), system(&ca)].concat();
    variables
        .extend([("CLARION__INTERNAL__TLS__CERT_FILE", cert), ("CLARION__INTERNAL__TLS__KEY_FILE", key)]);
    let said = told(&["info"], &variables).await;
    assert_eq!(said.code, Some(1), "{}", said.output);
    assert!(said.output.contains("the certificate of internal.tls.cert_file"), "{}", said.output);
}

#[tokio::test]
async fn publications_are_printed_that_come_by_tls() {
    let stage = Stage::start().await;
    let (public, ca, token) = (stage.public(), stage.ca(), sign(&config(), "ann"));
    let other = text(&stage.files.write("other.pem", Authority::new().pem()));
    let refused = ["sub", "news", "--url", &public, "--ca-file", &other];
    let said = told(&refused, &[("CLARION_TOKEN", token.clone())]).await;
    assert_eq!(said.code, Some(1), "{}", said.output);
    assert!(said.output.contains("signed by nobody whom this trusts"), "{}", said.output);
    let of_config = stage.variables();
    let of_config = of_config.iter().map(|(name, value)| (*name, value.as_str()));
    let given = [("CLARION_TOKEN", token.as_str())];
    let secret = [("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY", SECRET)];
    for (arguments, variables) in [
        (&["sub", "news", "--url", &public, "--ca-file", &ca][..], given.to_vec()),
        (&["sub", "news"], of_config.chain(secret).collect()),
    ] {
        let process = Process::start(arguments, &variables);
        eventually("it to be subscribed", async || process.output().contains("subscribed to news")).await;
        let arguments = ["pub", "news", "by tls"];
        assert_eq!(told(&arguments, &stage.variables()).await.code, Some(0));
        eventually("it to be printed", async || process.stdout().contains("news\t\"by tls\"")).await;
    }
}
