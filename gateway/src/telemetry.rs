//! What a node tells of itself while it works: logs, and [`traces`].
//!
//! Logs: where they go, how they look, what never gets into them.
//!
//! Only our own targets are written below `warn`: what a library would say of a request at `trace` may hold
//! its query, and the query holds the token.
//!
//! Nobody waits for logs. A thread of its own writes them; what comes faster than standard error takes it, as when nobody
//! reads it or the disk is full, is dropped and counted. Who ends the process calls [`finish`] first.

mod filter;
mod level;
mod profile;
mod suppression;
pub mod traces;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};

use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

pub use self::filter::{FilterError, LogFilter};
pub use self::level::{InForce, Levels, levels};
pub use self::profile::{ProfileError, profile};
pub use self::suppression::suppressed_lines;
pub use self::writer::{dropped_lines, finish};

use self::suppression::Suppression;
use crate::config::{Log, LogFormat};

/// Starts to write logs to standard error, panics included. A second call does nothing, as tests need it.
pub fn start(log: &Log) {
    let Some(writer) = writer::open(std::io::stderr()) else { return };
    if is_json(log.format) {
        start_json(log, writer);
    } else {
        start_text(log, writer);
    }
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    }
}

fn start_json(log: &Log, writer: NonBlocking) {
    let (levels, filtering) = Levels::new(log.level);
    let suppression = Suppression::new(log.burst);
    let format = suppression.counted(fmt::format().json().flatten_event(true), true);
    let lines = fmt::layer().fmt_fields(JsonFields::new()).event_format(format).with_writer(writer);
    let started = Registry::default().with(filtering).with(suppression).with(lines).try_init();
    has_started(levels, started.is_ok());
}

fn start_text(log: &Log, writer: NonBlocking) {
    let (levels, filtering) = Levels::new(log.level);
    let suppression = Suppression::new(log.burst);
    let format = suppression.counted(fmt::format(), false);
    let is_terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_ansi(is_terminal).event_format(format).with_writer(writer);
    let started = Registry::default().with(filtering).with(suppression).with(lines).try_init();
    has_started(levels, started.is_ok());
}

fn has_started(levels: Levels, has_started: bool) {
    if has_started {
        level::publish(levels);
        panic::set_hook(Box::new(log_panic));
    }
}

/// The hook of the standard library writes to standard error itself: a task that panics would wait for whoever reads it,
/// and its shard with it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a value that is no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(panic.place = place, panic.backtrace = %backtrace, "panicked: {message}");
    } else {
        tracing::error!(panic.place = place, "panicked: {message}");
    }
}
