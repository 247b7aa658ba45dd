//! Carries batches of spans to the collector over HTTP, on the thread of the exporter, which it may hold up.
//!
//! Says once that the collector does not take them, and once that it does again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::crypto::aws_lc_rs;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::TracesError;

/// How long the collector may take for a batch, unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most of its answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// See the module's doc.
#[derive(Debug)]
pub(super) struct Courier {
    agent: Agent,
    is_down: AtomicBool,
}

/// How long the collector may take for a batch: `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, or `OTEL_EXPORTER_OTLP_TIMEOUT`, in
/// milliseconds.
pub(super) fn timeout() -> Duration {
    let said = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let milliseconds = said.into_iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    milliseconds.filter(|milliseconds| *milliseconds > 0).map_or(TIMEOUT, Duration::from_millis)
}

impl Courier {
    /// For a collector at `endpoint` that answers within `timeout`, or did not take it.
    pub(super) fn new(endpoint: &str, timeout: Duration) -> Result<Self, TracesError> {
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            // Headers may hold a key, and are for nobody else.
            .max_redirects(0);
        if endpoint.starts_with("https://") {
            config = config.tls_config(tls()?);
        }
        Ok(Self { agent: config.build().new_agent(), is_down: AtomicBool::new(false) })
    }

    fn carry(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let mut response = self.agent.run(Request::from_parts(head, &body[..]))?;
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        let (head, _) = response.into_parts();
        Ok(Response::from_parts(head, body.into()))
    }

    /// Says it if that is new.
    fn note(&self, refusal: Option<&dyn std::fmt::Display>) {
        let was_down = self.is_down.swap(refusal.is_some(), Ordering::Relaxed);
        match refusal {
            Some(cause) if !was_down => {
                tracing::warn!(%cause, "the collector at otlp.endpoint takes no spans; they are dropped");
            }
            None if was_down => tracing::info!("the collector at otlp.endpoint takes spans again"),
            Some(_) | None => {}
        }
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.carry(request);
        match &response {
            Ok(response) if response.status().is_success() => self.note(None),
            Ok(response) => self.note(Some(&response.status())),
            Err(error) => self.note(Some(error)),
        }
        Ok(response?)
    }
}

/// Trusts whom the system trusts.
fn tls() -> Result<TlsConfig, TracesError> {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted: Vec<_> = trusted.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    if trusted.is_empty() {
        return Err(TracesError::Certificates);
    }
    let crypto = Arc::new(aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(trusted)));
    Ok(tls.unversioned_rustls_crypto_provider(crypto).build())
}
