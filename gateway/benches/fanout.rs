//! What one publication to N subscribers costs, and what a connection costs while nothing happens.
//!
//! Run it with `make bench`, or `cargo bench -p clarion --bench fanout -- [--quick] [--only ROW] …`; `-- --help`
//! lists the flags. It prints one table and writes the same figures, with every round behind them, to
//! `bench/fanout.json` in cargo's target directory. A missed target is reported and the exit code stays 0, unless
//! `--assert` is given; a publication that a client lost, got twice or got out of order always ends the run with 1.
//!
//! # How it measures
//!
//! The gateway under test is the real binary in a process of its own, started with its defaults. The clients live
//! in another process (`swarm`), so that neither their memory nor their CPU is counted, and the reference, a loop
//! of bare `send` calls, in a third (`bare-loop`) with a swarm of its own: this binary starts itself again for
//! these. No process needs more than one socket per connection, so 10,000 connections fit into an open-file limit
//! of 20,000.
//!
//! On loopback the kernel does the receiver's half of TCP on the CPU time of whoever sends. A figure in
//! microseconds per delivery therefore says more about the kernel than about the gateway, and the ratio to bare
//! sends of the same bytes, over the same kind of sockets, on as many threads, in the same run, is what carries
//! over to another machine. Gateway and reference take turns, and the figure is the median of the ratios of each
//! turn.
//!
//! Where CPU and memory are read, and why from there: [`fanout::process`].

mod fanout {
    pub(crate) mod bare_loop;
    pub(crate) mod clients;
    pub(crate) mod connections;
    pub(crate) mod delivery;
    pub(crate) mod frame;
    pub(crate) mod helper;
    pub(crate) mod options;
    pub(crate) mod process;
    pub(crate) mod report;
    pub(crate) mod server;
    pub(crate) mod swarm;
}

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use fanout::options::{Mode, Options, Row};
use fanout::report::Report;
use fanout::{bare_loop, connections, delivery, report, server, swarm};

/// A run that hangs is a failed run; one of full length takes less than half of this.
const WATCHDOG: Duration = Duration::from_secs(600);

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

/// Measures the rows asked for, one group after another: each has a fresh gateway.
fn measure(options: &Options) -> Result<ExitCode> {
    server::kill_all_after(WATCHDOG);
    let mut report = Report::default();
    if options.wants_any(&[Row::Memory, Row::Connect, Row::Idle]) {
        report.extend(connections::measure(options).context("measuring connections")?);
    }
    if options.wants(Row::Api) {
        report.extend([delivery::measure_api(options).context("measuring API calls")?]);
    }
    if options.wants_any(&[Row::Delivery, Row::Burst]) {
        for connections in options.subscribers() {
            let rows = delivery::measure(options, connections);
            report.extend(rows.with_context(|| format!("delivering to {connections} subscribers"))?);
        }
    }
    report.retain(|row| options.wants(row));
    report.print()?;
    report.save(options)?;
    Ok(if options.assert && report.missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
