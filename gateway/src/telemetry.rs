//! What a node tells of itself while it works: logs, and [`traces`].
//!
//! Logs: where they go, how they look, what never gets into them.
//!
//! Only our own targets are written below `warn`: what a library would say of a request at `trace` may hold
//! its query, and the query holds the token.
//!
//! Nobody waits for logs. A thread of its own writes them; what comes faster than standard error takes it, as when nobody
//! reads it or the disk is full, is dropped and counted. Who ends the process calls [`finish`] first.

pub mod traces;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::{self, PanicHookInfo};

use tracing_subscriber::EnvFilter;

pub use self::writer::{dropped_lines, finish};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts to write logs to standard error, panics included. A second call does nothing, as tests need it.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let others = if log.level == LogLevel::Error { "error" } else { "warn" };
    let filter = EnvFilter::new(format!("{others},clarion={level}"));
    let is_json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let Some(writer) = writer::open(std::io::stderr()) else { return };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = if is_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if started.is_ok() {
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
