//! Where spans go when they have ended: a bounded queue, a thread, batches to the collector.
//!
//! The queue and the thread are the SDK's. What it drops it tells nobody, so that the room is counted here: whoever finds
//! none drops its span, and the metrics say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};

use super::TracesError;
use super::courier::{self, Courier};
use crate::metrics::{Metrics, SpanLoss};

/// Most spans that wait to be sent, with those that are being sent. One has about a kilobyte.
const SPANS_MAX: usize = 2_048;

/// Spans that have ended and were not sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Pipeline(Arc<AtomicUsize>);

impl Pipeline {
    pub(super) fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether there is room for one more; then it is taken.
    fn enter(&self, spans_max: usize) -> bool {
        let is_admitted = self.0.fetch_add(1, Ordering::Relaxed) < spans_max;
        if !is_admitted {
            self.leave(1);
        }
        is_admitted
    }

    fn leave(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}

/// What sends spans to the collector at `endpoint` on behalf of `node`.
pub(super) fn open(
    endpoint: &str,
    node: &str,
    metrics: &Arc<Metrics>,
) -> Result<(Pipeline, SdkTracerProvider), TracesError> {
    let timeout = courier::timeout();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Courier::new(endpoint, timeout)?)
        .with_endpoint(address(endpoint))
        .with_timeout(timeout)
        .build()
        .map_err(|error| TracesError::Exporter(error.into()))?;
    let pipeline = Pipeline::default();
    let exporter = Outgoing { exporter, pipeline: pipeline.clone(), metrics: Arc::clone(metrics) };
    // Its own queue is never full before the pipeline is.
    let config = BatchConfigBuilder::default().with_max_queue_size(SPANS_MAX).build();
    let queue = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let queue =
        Queue { queue, pipeline: pipeline.clone(), metrics: Arc::clone(metrics), spans_max: SPANS_MAX };
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(node))
        // What is begun is sampled: that was decided before.
        .with_sampler(Sampler::AlwaysOn)
        .with_span_processor(queue)
        .build();
    Ok((pipeline, provider))
}

/// Where traces go at an endpoint: as for the variable `OTEL_EXPORTER_OTLP_ENDPOINT`, the path is added to it. One that is
/// there already is left alone.
fn address(endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    let base = endpoint.strip_suffix("/v1/traces").unwrap_or(endpoint);
    format!("{base}/v1/traces")
}

/// Who says all this. What the environment says of it (`OTEL_RESOURCE_ATTRIBUTES`) comes last, and counts.
fn resource(node: &str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", "clarion"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", node.to_owned()),
        ])
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

/// The way into the queue. Never waits.
#[derive(Debug)]
struct Queue<P> {
    queue: P,
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
    spans_max: usize,
}

impl<P: SpanProcessor> SpanProcessor for Queue<P> {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.pipeline.enter(self.spans_max) {
            self.queue.on_end(span);
        } else {
            self.metrics.spans_dropped(SpanLoss::QueueFull, 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// The way out of the queue.
#[derive(Debug)]
struct Outgoing<E> {
    exporter: E,
    pipeline: Pipeline,
    metrics: Arc<Metrics>,
}

impl<E: SpanExporter> SpanExporter for Outgoing<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exported = self.exporter.export(batch).await;
        self.pipeline.leave(count);
        if exported.is_err() {
            self.metrics.spans_dropped(SpanLoss::NotTaken, count);
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[test]
    fn the_path_is_added_unless_it_is_there() {
        for endpoint in ["http://a:1", "http://a:1/", "http://a:1/v1/traces", "http://a:1/v1/traces/"] {
            assert_eq!(address(endpoint), "http://a:1/v1/traces");
        }
        assert_eq!(address("https://a/otlp"), "https://a/otlp/v1/traces");
    }

    /// Takes nothing.
    #[derive(Debug)]
    struct Deaf;

    impl SpanExporter for Deaf {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::Timeout(Duration::ZERO))
        }
    }

    /// Takes spans and never sends them.
    #[derive(Debug)]
    struct Stuck;

    impl SpanProcessor for Stuck {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, _: SpanData) {}

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    /// So many spans end, in front of a queue like this one.
    fn end(count: usize, queue: impl SpanProcessor + 'static) {
        use opentelemetry::trace::{Tracer as _, TracerProvider as _};
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        (0..count).for_each(|_| drop(provider.tracer("test").start("span")));
        provider.shutdown().unwrap();
    }

    #[track_caller]
    fn assert_dropped(metrics: &Metrics, reason: &str) {
        let text = String::from_utf8(metrics.render(0)).unwrap();
        let line = format!("clarion_spans_dropped_total{{reason=\"{reason}\"}} 3");
        assert!(text.contains(&line), "{text}");
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (metrics, pipeline) = (Arc::new(Metrics::new()), Pipeline::default());
        let queue =
            Queue { queue: Stuck, pipeline: pipeline.clone(), metrics: Arc::clone(&metrics), spans_max: 5 };
        end(8, queue);
        assert_eq!(pipeline.waiting(), 5);
        assert_dropped(&metrics, "queue_full");
    }

    #[test]
    fn what_is_not_taken_is_counted_and_makes_room() {
        let (metrics, pipeline) = (Arc::new(Metrics::new()), Pipeline::default());
        let outgoing = Outgoing { exporter: Deaf, pipeline: pipeline.clone(), metrics: Arc::clone(&metrics) };
        let queue = BatchSpanProcessor::builder(outgoing).build();
        let queue = Queue { queue, pipeline: pipeline.clone(), metrics: Arc::clone(&metrics), spans_max: 5 };
        end(3, queue);
        assert_eq!(pipeline.waiting(), 0);
        assert_dropped(&metrics, "not_taken");
    }
}
