use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{TempDirectory, eventually};

/// Takes traces as a collector does, over HTTP.
pub(crate) struct Collector {
    address: SocketAddr,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    requests: AtomicUsize,
    spans: Mutex<Vec<Span>>,
    /// Everything that came, as it came.
    bytes: Mutex<Vec<u8>>,
    /// Of the headers `x-key`, without repetition.
    keys: Mutex<BTreeSet<String>>,
}

/// A span, in words.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    /// In hexadecimal, as the others.
    pub(crate) trace: String,
    pub(crate) id: String,
    /// Empty for none.
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Of whom it is: its node and more.
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) is_error: bool,
}

impl Span {
    /// The name of the node that sent it.
    pub(crate) fn node(&self) -> &str {
        &self.resource["service.instance.id"]
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::<Heard>::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&heard));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, heard }
    }

    /// What goes into `otlp.endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same over TLS, with the certificate of the server among `certificates`.
    pub(crate) async fn tls_endpoint(&self, certificates: &TempDirectory) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("there is a port");
        let address = listener.local_addr().expect("it is bound");
        let (acceptor, collector) = (acceptor(certificates), self.address);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Who does not trust us hangs up.
                let Ok(mut client) = acceptor.accept(client).await else { continue };
                let mut collector = TcpStream::connect(collector).await.expect("it listens");
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut collector).await });
            }
        });
        format!("https://{address}")
    }

    /// How often somebody has sent spans.
    pub(crate) fn requests(&self) -> usize {
        self.heard.requests.load(Ordering::Relaxed)
    }

    /// What came in headers called `x-key`, without repetition.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.heard.keys.lock().iter().cloned().collect()
    }

    /// Everything that came.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.heard.spans.lock().clone()
    }

    /// Waits until there are so many spans, or more.
    pub(crate) async fn has(&self, count: usize) -> Vec<Span> {
        eventually("spans to come", async || self.heard.spans.lock().len() >= count).await;
        self.spans()
    }

    /// Whether `text` is in anything that came, wherever.
    pub(crate) fn has_seen(&self, text: &str) -> bool {
        self.heard.bytes.lock().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

fn acceptor(certificates: &TempDirectory) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(certificates.path("server.pem")).expect("it was made");
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key")).expect("it was made");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("it knows some")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

async fn take(State(heard): State<Arc<Heard>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let key = headers.get("x-key").and_then(|key| key.to_str().ok());
    heard.keys.lock().extend(key.map(str::to_owned));
    heard.requests.fetch_add(1, Ordering::Relaxed);
    heard.bytes.lock().extend(&body);
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    for of_resource in request.resource_spans {
        let resource = words(&of_resource.resource.unwrap_or_default().attributes);
        let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        heard.spans.lock().extend(spans.map(|span| Span {
            kind: span.kind(),
            is_error: span.status.as_ref().is_some_and(|status| status.code == 2),
            attributes: words(&span.attributes),
            resource: resource.clone(),
            trace: hexadecimal(&span.trace_id),
            id: hexadecimal(&span.span_id),
            parent: hexadecimal(&span.parent_span_id),
            name: span.name,
        }));
    }
    StatusCode::OK
}

fn words(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let word = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(is) => is.to_string(),
        other => format!("{other:?}"),
    };
    let value = |one: &KeyValue| one.value.as_ref().and_then(|value| value.value.as_ref()).map(word);
    attributes.iter().map(|one| (one.key.clone(), value(one).unwrap_or_default())).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
