//! What clients see when something breaks: Redis, the way to it, its data, or a node.
//!
//! ```text
//! cargo test --test faults -- smoke        the short group
//! cargo test --test faults -- F4 F9        these
//! cargo test --test faults -- all          every fault, as long as the catalogue says
//! ```
//!
//! Each fault has a stage of its own: a `redis-server`, three nodes (the real binary, with short clocks), clients that
//! behave as SDKs do, and publishers that try again until they are told where their publication is. When the fault is
//! over, an oracle compares what every client saw with what was acknowledged. Each fault prints one line; a silent
//! loss, a repeat, a swap or a fork fails it, whatever else it requires.
//!
//! Without a word of what to play, the harness tests itself.
//!
//! It needs `redis-server` and `iptables`, and root for the latter: `tests/faults/install.sh`.

mod broker_faults;
mod catalogue;
mod certificates;
mod cleanup;
mod client_faults;
mod collector;
mod crowd;
mod crowd_faults;
mod data_faults;
mod door_faults;
mod drain_faults;
mod firewall;
mod fleet;
mod flood_faults;
mod http;
mod journal;
mod judgement;
mod machine_faults;
#[path = "../it/support/metrics.rs"]
mod metrics;
mod network_faults;
mod node;
mod observation;
mod oracle;
mod own;
mod probe;
mod process;
mod process_faults;
mod proxy;
mod publish_faults;
mod publisher;
mod raw;
mod redis;
mod refusal_faults;
mod report;
mod scenario;
mod token;
mod trace_faults;
mod wait;
mod watch;

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, spawn_blocking};

use catalogue::Fault;
use report::Report;
use scenario::Depth;

/// Words that mean more than one fault: the harness is tested first.
const GROUPS: [&str; 2] = ["smoke", "all"];

/// A run that hangs is a failed run.
const WATCHDOG: Duration = Duration::from_secs(3600);

/// Play faults and report what clients saw
#[derive(Parser)]
struct Options {
    /// `smoke`, `all`, or names such as F4; without any, the harness tests itself
    faults: Vec<String>,
    /// Say what there is to play
    #[arg(long)]
    list: bool,
    /// Stages at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Play them as short as `smoke` does
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    let passed = runtime.block_on(async {
        tokio::select! {
            outcome = play(&options) => outcome,
            () = told_to_stop() => Err(anyhow::anyhow!("interrupted")),
            () = tokio::time::sleep(WATCHDOG) => Err(anyhow::anyhow!("still running after {WATCHDOG:?}")),
        }
    });
    // What has not ended by itself must not be left behind.
    cleanup::everything();
    runtime.shutdown_background();
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be caught");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Answers whether all passed.
async fn play(options: &Options) -> Result<bool> {
    if options.list {
        list();
        return Ok(true);
    }
    let mut waiting: VecDeque<&Fault> = catalogue::chosen(&options.faults)?.into();
    if options.faults.iter().all(|word| GROUPS.contains(&word.as_str())) {
        let tests = spawn_blocking(own::run).await??;
        say(format_args!("{tests} tests of the harness passed"));
    }
    if waiting.is_empty() {
        return Ok(true);
    }
    let is_smoke = options.short || options.faults.iter().all(|word| word == "smoke");
    let depth = if is_smoke { Depth::Smoke } else { Depth::Full };
    let (start, count) = (Instant::now(), waiting.len());
    let mut playing = JoinSet::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() || !playing.is_empty() {
        while playing.len() < options.jobs.max(1)
            && let Some(fault) = waiting.pop_front()
        {
            playing.spawn_blocking(move || (fault.name, fault.run(depth)));
        }
        match playing.join_next().await {
            Some(Ok((name, report))) if !tell(name, &report) => failed.push(name),
            Some(Err(error)) => {
                say(format_args!("a fault panicked: {error}"));
                failed.push("?");
            }
            Some(Ok(_)) | None => {}
        }
    }
    let seconds = start.elapsed().as_secs();
    say(format_args!("{} of {count} faults passed in {seconds} s", count - failed.len()));
    if !failed.is_empty() {
        say(format_args!("failed: {}", failed.join(" ")));
    }
    Ok(failed.is_empty())
}

/// Prints a report; answers whether the fault passed.
fn tell(name: &str, report: &Report) -> bool {
    say(format_args!("{name} {report}"));
    if !report.passed() {
        report.complaints().for_each(|complaint| say(format_args!("{name} FAILED: {complaint}")));
    }
    report.passed()
}

fn list() {
    for fault in catalogue::all() {
        let group = if fault.in_smoke { "smoke" } else { "" };
        say(format_args!("{:<4} {group:<6} {}", fault.name, fault.what));
    }
    for (name, what, how) in catalogue::ELSEWHERE {
        say(format_args!("{name:<4} {:<6} {what}: {how}", ""));
    }
}

/// Whoever does not read on gets nothing; the exit code says the rest.
fn say(line: std::fmt::Arguments<'_>) {
    drop(writeln!(io::stdout(), "{line}"));
}
