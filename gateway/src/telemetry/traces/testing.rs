//! Traces that a test reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, Span, SpanData, SpanProcessor};
use parking_lot::Mutex;

use super::pipeline::Pipeline;
use super::{Traces, Tracing};

/// The spans that have ended, in that order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorded(Arc<Mutex<Vec<SpanData>>>);

impl Traces {
    /// Records this share of what nobody has decided about.
    pub(crate) fn recording(sample_ratio: f64) -> (Self, Recorded) {
        let recorded = Recorded::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(recorded.clone())
            .build();
        let tracer = provider.tracer("test");
        let tracing = Tracing { provider, tracer, pipeline: Pipeline::default(), sample_ratio };
        (Self(Some(Arc::new(tracing))), recorded)
    }
}

impl Recorded {
    /// The attributes of those called `name`, as texts, with `failed` for an error.
    pub(crate) fn called(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let attributes = |span: &SpanData| {
            let pairs = span.attributes.iter().map(|pair| (pair.key.to_string(), pair.value.to_string()));
            let failed = matches!(span.status, Status::Error { .. });
            pairs.chain(failed.then(|| ("failed".to_owned(), String::new()))).collect()
        };
        self.0.lock().iter().filter(|span| span.name == name).map(attributes).collect()
    }
}

impl SpanProcessor for Recorded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
