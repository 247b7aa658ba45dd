//! What publications, connections and their histories cost, one question at a time.
//!
//! Run it with `make bench`, or `make bench question=recovery` for one, which is the same as
//! `cargo bench -p clarion --bench figures -- recovery`; `-- --help` lists questions and flags. It prints one table
//! and writes the same figures, with every round behind them, to `bench/figures.json` in cargo's target directory.
//! A missed target is reported and the exit code stays 0, unless `--assert` is given; a publication that a client
//! lost, got twice or got out of order always ends the run with 1. `make bench-redis` asks the questions about nodes
//! that share a Redis, which need a `redis-server` and, for connections that die unnoticed, the right to use
//! `iptables`.
//!
//! # How it measures
//!
//! The gateway under test is the real binary in a process of its own, started with its defaults and with what the
//! question is about. The clients live in another process (`swarm`), so that neither their memory nor their CPU is
//! counted, and the reference, a loop of bare `send` calls, in a third (`bare-loop`) with a swarm of its own: this
//! binary starts itself again for these. No process needs more than one socket per connection, so 10,000
//! connections fit into an open-file limit of 20,000.
//!
//! On loopback the kernel does the receiver's half of TCP on the CPU time of whoever sends. A figure in
//! microseconds per delivery therefore says more about the kernel than about the gateway, and the ratio to another
//! figure of the same run, over the same kind of sockets, is what carries over to another machine. What is compared
//! takes turns, and the figure is the median of the turns.
//!
//! Where CPU and memory are read, and why from there: [`process`].

mod api;
mod bare_loop;
mod clients;
mod cluster;
mod firewall;
mod frame;
mod helper;
mod load;
mod metronome;
mod options;
mod process;
mod questions;
mod redis_server;
mod report;
mod server;
mod swarm;
mod visitor;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use options::{Mode, Options};
use report::Report;

/// A run that hangs is a failed run; one of full length takes less than half of this.
const WATCHDOG: Duration = Duration::from_secs(2400);

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.mode {
        Some(Mode::BareLoop(arguments)) => bare_loop::run(arguments).map(|()| ExitCode::SUCCESS),
        Some(Mode::Swarm(arguments)) => swarm::run(arguments).map(|()| ExitCode::SUCCESS),
        // `cargo test --all-targets` runs benches as well, without `--bench`: it only wants them to build.
        None if !options.bench => Ok(ExitCode::SUCCESS),
        None => measure(&options),
    };
    outcome.unwrap_or_else(|error| {
        report::print_error(&error);
        ExitCode::FAILURE
    })
}

/// Answers the questions asked for, one after another: each has gateways of its own.
fn measure(options: &Options) -> Result<ExitCode> {
    server::kill_all_after(WATCHDOG);
    let mut report = Report::default();
    for question in options.questions() {
        let figures = questions::answer(question, options);
        report.extend(figures.with_context(|| format!("answering {question:?}"))?);
    }
    report.print()?;
    report.save(options)?;
    Ok(if options.assert && report.missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
