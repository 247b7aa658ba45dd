//! Spans that are under way: each ends with the value that holds it.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status};
use opentelemetry_sdk::trace::Span;
use tracing::Instrument as _;

use super::{UPSTREAM, Upstream, names};
use crate::model::{Position, TraceParent};

/// The ids of `span`; `None` if it records nothing, as after the end of the node.
pub(super) fn parent_of(span: &Span) -> Option<TraceParent> {
    let context = span.span_context();
    let ids = TraceParent { trace: context.trace_id().to_bytes(), span: context.span_id().to_bytes() };
    (span.is_recording() && context.is_valid()).then_some(ids)
}

/// A request that publishes, traced or not.
#[derive(Debug)]
pub struct Request {
    span: Option<Span>,
}

impl Request {
    pub(super) fn new(span: Option<Span>) -> Self {
        Self { span }
    }

    /// Carries `work` out on behalf of the request: what it publishes is traced if the request is, and what it logs says
    /// of which trace it is. Cancel safe if `work` is.
    pub async fn follow<F: Future>(&self, work: F) -> F::Output {
        match self.span.as_ref().and_then(parent_of) {
            None => UPSTREAM.scope(Upstream::Unsampled, work).await,
            Some(parent) => {
                // At the level of errors, or logs that have no others would not say it.
                let logs = tracing::error_span!(
                    "request",
                    trace_id = %hexadecimal(&parent.trace),
                    span_id = %hexadecimal(&parent.span)
                );
                UPSTREAM.scope(Upstream::Sampled(parent), work).instrument(logs).await
            }
        }
    }

    /// It was answered with `status`. `outcome` is one of a few words; `None`: it went well.
    pub fn end(self, status: u16, outcome: Option<&'static str>) {
        let Some(mut span) = self.span else { return };
        span.set_attribute(KeyValue::new(names::STATUS, i64::from(status)));
        if let Some(outcome) = outcome {
            span.set_attribute(KeyValue::new(names::ERROR, outcome));
        }
        // What the caller did wrong is no error of the server (OpenTelemetry's conventions for HTTP).
        if status >= 500 {
            span.set_status(Status::error(""));
        }
    }
}

/// Publications that are being published: a span each, none if they are not traced.
#[derive(Debug, Default)]
#[must_use = "the spans end with this value"]
pub struct Publishing(Vec<Span>);

impl Publishing {
    pub(super) fn new(spans: Vec<Span>) -> Self {
        Self(spans)
    }

    /// They were accepted. Of each, in order: its position, `None` without a history, and whether it was suppressed.
    pub fn accepted<'a>(mut self, published: impl Iterator<Item = (Option<&'a Position>, bool)>) {
        for (mut span, (position, is_suppressed)) in mem::take(&mut self.0).into_iter().zip(published) {
            if let Some(Position { epoch, offset }) = position {
                let id = format!("{}:{offset}", epoch.as_str());
                span.set_attribute(KeyValue::new(names::MESSAGE_ID, id));
            }
            if is_suppressed {
                span.set_attribute(KeyValue::new(names::SUPPRESSED, true));
            }
        }
    }

    /// They were not accepted, or nobody knows; `reason` is one of a few words.
    pub fn failed(mut self, reason: &'static str) {
        mem::take(&mut self.0).iter_mut().for_each(|span| fail(span, reason));
    }
}

impl Drop for Publishing {
    /// Whoever asked has gone, or waited for too long.
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|span| fail(span, CANCELLED));
    }
}

/// A command of Redis, traced or not.
#[derive(Debug, Default)]
#[must_use = "the span ends with this value"]
pub struct Command(Option<Span>);

impl Command {
    pub(super) fn new(span: Option<Span>) -> Self {
        Self(span)
    }

    /// It was answered; `failure` is one of a few words.
    pub fn end(mut self, failure: Option<&'static str>) {
        if let (Some(mut span), Some(failure)) = (self.0.take(), failure) {
            fail(&mut span, failure);
        }
    }
}

impl Drop for Command {
    /// Whoever asked has gone, or waited for too long.
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|span| fail(span, CANCELLED));
    }
}

/// Nobody waited for the answer.
const CANCELLED: &str = "cancelled";

/// `reason` is one of a few words.
fn fail(span: &mut Span, reason: &'static str) {
    span.set_attribute(KeyValue::new(names::ERROR, reason));
    span.set_status(Status::error(""));
}

/// Whether a subscriber got what was offered to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It was written or queued.
    Reached,
    /// The subscriber is too slow.
    Dropped,
    /// The subscriber is gone.
    Gone,
}

/// Publications of one run that this node delivers, those of them that are traced. Their spans end when the last shard is
/// done with the run.
#[derive(Debug)]
pub struct Processing(Vec<Tally>);

/// What became of one publication so far.
#[derive(Debug)]
struct Tally {
    /// Its place in the run.
    index: usize,
    span: Span,
    recipients: AtomicUsize,
    dropped: AtomicUsize,
    is_missed: AtomicBool,
}

impl Processing {
    pub(super) fn new(spans: Vec<(usize, Span)>) -> Self {
        let tally = |(index, span)| Tally {
            index,
            span,
            recipients: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            is_missed: AtomicBool::new(false),
        };
        Self(spans.into_iter().map(tally).collect())
    }

    /// A subscriber was offered those publications of the run that `covers` says.
    pub fn offered(&self, reach: Reach, covers: impl Fn(usize) -> bool) {
        for tally in self.0.iter().filter(|tally| covers(tally.index)) {
            match reach {
                Reach::Reached => tally.recipients.fetch_add(1, Ordering::Relaxed),
                Reach::Dropped => tally.dropped.fetch_add(1, Ordering::Relaxed),
                Reach::Gone => continue,
            };
        }
    }

    /// A shard did not get the run: its inbox is full.
    pub fn missed(&self) {
        self.0.iter().for_each(|tally| tally.is_missed.store(true, Ordering::Relaxed));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let (recipients, dropped) = (*self.recipients.get_mut(), *self.dropped.get_mut());
        self.span.set_attribute(KeyValue::new(names::RECIPIENTS, names::count(recipients)));
        self.span.set_attribute(KeyValue::new(names::DROPPED, names::count(dropped)));
        if *self.is_missed.get_mut() {
            fail(&mut self.span, "inbox_full");
        }
    }
}

/// As W3C writes ids.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
