//! Traces: what becomes of a publication, from the request that brought it to the last socket of each node.
//!
//! Owns which publications are traced, what their spans are called and hold, and where spans go. It knows no transport and
//! no broker: they carry [`TraceParent`]s. Names and attributes are pinned in `docs/traces.md`; nothing that a client or a
//! back end chose gets into them but the namespace.
//!
//! What is not traced costs a look at an `Option`. Enter by [`Traces::start`].

mod courier;
mod names;
mod pipeline;
mod spans;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanKind, TraceContextExt as _, TraceFlags, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, SpanId, TraceId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

use self::pipeline::Pipeline;
pub use self::spans::{Command, Processing, Publishing, Reach, Request};
use crate::config::Otlp;
use crate::metrics::Metrics;
use crate::model::{Channel, Publication, TraceParent};

/// How long a node that stops waits for spans to be taken.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// Traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The system trusts nobody, so that nobody can be spoken to over TLS.
    #[error("otlp.endpoint: no certificate that this system trusts was found, and it is https")]
    Certificates,
    /// The variables of the environment (`OTEL_…`) contradict what is supported.
    #[error("otlp: the exporter of traces cannot be made")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a node traces with; cheap to clone. The default traces nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Tracing>>);

#[derive(Debug)]
struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    pipeline: Pipeline,
    sample_ratio: f64,
}

/// What was decided for a request, for whatever is published on its behalf.
#[derive(Clone, Copy, Debug)]
enum Upstream {
    Unsampled,
    Sampled(TraceParent),
}

tokio::task_local! {
    /// Of the request that the task works on; unset for what no request asked for.
    static UPSTREAM: Upstream;
}

/// The headers of a request, as far as they are asked for.
struct Headers<'a>(&'a dyn Fn(&str) -> Option<&'a str>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        // `tracestate` is free text, and goes no further than to the first span.
        (self.0)(key).filter(|_| key.eq_ignore_ascii_case("traceparent"))
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

impl Traces {
    /// Traces as `config`, which has been validated, says: nothing without an endpoint. `node` is the name of the node.
    ///
    /// Spans are sent by a thread of its own, and wait for it in a queue that is bounded; what was not sent is counted.
    ///
    /// # Errors
    /// [`TracesError`]. That nobody listens at the endpoint is none.
    pub fn start(config: &Otlp, node: &str, metrics: &Arc<Metrics>) -> Result<Self, TracesError> {
        if config.endpoint.is_empty() {
            return Ok(Self::default());
        }
        let (pipeline, provider) = pipeline::open(&config.endpoint, node, metrics)?;
        let tracer = provider.tracer("clarion");
        let sample_ratio = config.sample_ratio;
        Ok(Self(Some(Arc::new(Tracing { provider, tracer, pipeline, sample_ratio }))))
    }

    /// Sends what has ended and takes nothing from then on. Blocks the thread, for two seconds at most.
    pub fn finish(&self) {
        let Some(tracing) = &self.0 else { return };
        if tracing.provider.shutdown_with_timeout(FINISH_MAX).is_err() {
            let spans = tracing.pipeline.waiting();
            tracing::warn!(spans, "the collector did not take the last spans in time");
        }
    }

    /// A request that publishes has come: `POST /api/{method}`, whose sender may do that. `header` gives the value of a
    /// header; what it says of a trace is believed. `None` if nothing is traced.
    pub fn request<'a>(
        &self,
        method: &'static str,
        begun_at: Instant,
        header: &'a dyn Fn(&str) -> Option<&'a str>,
    ) -> Option<Request> {
        let tracing = self.0.as_ref()?;
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(header));
        let is_sampled = match parent.span().span_context() {
            parent if parent.is_valid() => parent.is_sampled(),
            _ => tracing.draw(),
        };
        let span = is_sampled.then(|| {
            let mut builder = names::request(method);
            builder.start_time = SystemTime::now().checked_sub(begun_at.elapsed());
            tracing.tracer.build_with_context(builder, &parent)
        });
        Some(Request::new(span))
    }

    /// `publications` are about to be published to `channel`: those that are traced carry their span from now on.
    ///
    /// They are traced if the request that this task works on is; without one it is drawn by lot.
    pub fn publishing<'a>(
        &self,
        channel: &Channel,
        publications: impl Iterator<Item = &'a mut Publication>,
    ) -> Publishing {
        let Some(tracing) = &self.0 else { return Publishing::default() };
        let parent = match UPSTREAM.try_with(|upstream| *upstream) {
            Ok(Upstream::Unsampled) => return Publishing::default(),
            Ok(Upstream::Sampled(parent)) => local(parent),
            Err(_) if tracing.draw() => Context::new(),
            Err(_) => return Publishing::default(),
        };
        let begin = |publication: &mut Publication| {
            let span = tracing.begin(names::publish(channel, publication), &parent);
            publication.trace = spans::parent_of(&span).map(Box::new);
            span
        };
        Publishing::new(publications.map(begin).collect())
    }

    /// A command of Redis is about to be sent, called `command`, for `publications`. It goes on from the first of them, if
    /// that is traced.
    pub fn command<'a>(
        &self,
        command: &'static str,
        mut publications: impl Iterator<Item = &'a Publication>,
    ) -> Command {
        let Some(tracing) = &self.0 else { return Command::default() };
        let parent = publications.next().and_then(|first| first.trace.as_deref());
        Command::new(parent.map(|parent| tracing.begin(names::command(command), &local(*parent))))
    }

    /// This node delivers `publications` of `channel`. `None` if none of them is traced.
    pub fn processing(
        &self,
        channel: &Channel,
        publications: &[Arc<Publication>],
    ) -> Option<Arc<Processing>> {
        let tracing = self.0.as_ref()?;
        if publications.iter().all(|publication| publication.trace.is_none()) {
            return None;
        }
        let begin = |(index, publication): (usize, &Arc<Publication>)| {
            let parent = remote(**publication.trace.as_ref()?);
            Some((index, tracing.begin(names::process(channel, publication), &parent)))
        };
        let begun = publications.iter().enumerate().filter_map(begin).collect();
        Some(Arc::new(Processing::new(begun)))
    }
}

impl Tracing {
    /// Whether something with nobody above it is traced.
    fn draw(&self) -> bool {
        rand::random_bool(self.sample_ratio)
    }

    fn begin(&self, builder: SpanBuilder, parent: &Context) -> Span {
        self.tracer.build_with_context(builder, parent)
    }
}

/// The context in which a span of this process is on top.
fn local(parent: TraceParent) -> Context {
    context(parent, false)
}

/// The context in which a span of perhaps another node is on top.
fn remote(parent: TraceParent) -> Context {
    context(parent, true)
}

fn context(TraceParent { trace, span }: TraceParent, is_remote: bool) -> Context {
    let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
    let parent = SpanContext::new(trace, span, TraceFlags::SAMPLED, is_remote, Default::default());
    Context::new().with_remote_span_context(parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Channel, RawJson};

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0";

    fn publication() -> Publication {
        Publication::of(RawJson::string("x"))
    }

    fn channel() -> Channel {
        Channel::parse("chat:a", 255).unwrap()
    }

    /// Publishes on behalf of a request with this `traceparent`; answers whether that is traced.
    async fn publish(traces: &Traces, parent: Option<&str>) -> bool {
        let header = |name: &str| parent.filter(|_| name == "traceparent");
        let request = traces.request("publish", Instant::now(), &header).unwrap();
        let mut publication = publication();
        let work = async { drop(traces.publishing(&channel(), std::iter::once(&mut publication))) };
        request.follow(work).await;
        request.end(200, None);
        publication.trace.is_some()
    }

    #[tokio::test]
    async fn who_has_decided_is_obeyed_and_else_it_is_drawn_by_lot() {
        let sampled = format!("{CALLER}1");
        let unsampled = format!("{CALLER}0");
        for (ratio, is_drawn) in [(0.0, false), (1.0, true)] {
            let (traces, recorded) = Traces::recording(ratio);
            assert!(publish(&traces, Some(&sampled)).await);
            assert!(!publish(&traces, Some(&unsampled)).await);
            for nobody in [None, Some(""), Some("00-0-0-01"), Some(&*CALLER.replace("0af", "xyz"))] {
                assert_eq!(publish(&traces, nobody).await, is_drawn, "{nobody:?}");
            }
            let count = if is_drawn { 5 } else { 1 };
            assert_eq!(recorded.called("publish chat").len(), count);
            assert_eq!(recorded.called("POST /api/publish").len(), count);
        }
    }

    #[tokio::test]
    async fn what_no_request_asked_for_is_drawn_by_lot() {
        for (ratio, is_drawn) in [(0.0, false), (1.0, true)] {
            let (traces, recorded) = Traces::recording(ratio);
            let mut publication = publication();
            traces.publishing(&channel(), std::iter::once(&mut publication)).failed("refused");
            assert_eq!(publication.trace.is_some(), is_drawn);
            let spans = recorded.called("publish chat");
            assert_eq!(spans.len(), usize::from(is_drawn));
            assert!(spans.iter().all(|span| span["error.type"] == "refused" && span.contains_key("failed")));
        }
    }

    #[tokio::test]
    async fn a_few_of_many_are_drawn() {
        let (traces, recorded) = Traces::recording(0.01);
        for _ in 0..10_000 {
            drop(traces.publishing(&channel(), std::iter::once(&mut publication())));
        }
        let drawn = recorded.called("publish chat").len();
        assert!((20..300).contains(&drawn), "{drawn}");
    }

    #[tokio::test]
    async fn whose_fault_it_was_is_told_by_the_status() {
        let (traces, recorded) = Traces::recording(1.0);
        for (status, outcome) in [(200, None), (400, Some("malformed")), (503, Some("unavailable"))] {
            traces.request("publish", Instant::now(), &|_| None).unwrap().end(status, outcome);
        }
        let spans = recorded.called("POST /api/publish");
        let told: Vec<_> = spans
            .iter()
            .map(|span| (span.get("error.type").map_or("", |kind| kind), span.contains_key("failed")))
            .collect();
        assert_eq!(told, [("", false), ("malformed", false), ("unavailable", true)]);
    }

    #[test]
    fn without_an_endpoint_nothing_is_there() {
        let metrics = Arc::new(Metrics::new());
        let traces = Traces::start(&Otlp { sample_ratio: 1.0, ..Otlp::default() }, "node", &metrics).unwrap();
        assert!(traces.0.is_none());
        let header = |_: &str| -> Option<&str> { panic!("no header is read") };
        assert!(traces.request("publish", Instant::now(), &header).is_none());
        let traced = TraceParent { trace: [1; 16], span: [1; 8] };
        let publication = Publication { trace: Some(Box::new(traced)), ..publication() };
        assert!(traces.processing(&channel(), &[Arc::new(publication)]).is_none());
    }
}
