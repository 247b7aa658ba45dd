//! A gate that noise cannot fool: how many instructions the hot paths take, counted, not timed.
//!
//! Run it with `make gate`. It counts under valgrind, by `gungraun`, and compares with `baselines.json` beside this
//! file: more than 5 % above fails, more than 5 % below says that the baseline should be lowered. Whoever means it
//! writes new baselines with `make gate args='--bless "why"'`; the reason is in the file, so it is in the commit.
//!
//! # What is counted
//!
//! Production code, in the profile and with the allocator that ship, in [`subjects`]; what it needs is made before
//! and not counted. What the kernel does is not counted either: a `send` is the few instructions around the system
//! call, so these figures say what we add to it, and `make bench` says what it takes in all.
//!
//! # Why counts repeat
//!
//! A count depends on the code, and on less than a dozen other things, all of which are pinned or written down:
//!
//! * The processor. Valgrind shows the program one of its own, without AVX-512 and SHA-NI; of what is left of it libc
//!   and the crypto library are told to use little. So `verify` counts more than a processor of today takes.
//! * The allocator. It does some of its housekeeping by the clock; here none falls into what is counted.
//! * The environment, which is empty, and addresses, which are not random.
//! * Hash seeds are random, and hardly matter.
//! * An event loop that has to share its processor turns more often, and a timer may come: up to 5 % of `connect` where
//!   ten others want the same processor, 1 % of `fan_out`. That only ever adds, so who is over is counted again.
//! * The compiler is pinned by the repository, and its name is in the baselines. Other than that nothing is judged.
//! * libc, the C compiler and valgrind are what the machine has, and their names are in the baselines, too. On
//!   another machine the reference, which has none of our code in it, tells whether counts can be compared.
//!
//! Profiles of all of it are left below `gungraun` in cargo's target directory, for `callgrind_annotate`.

mod client;
mod crowd;
mod gate;
mod machine;
mod runner;
mod subjects;
mod world;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Error, Result, ensure};
use clap::Parser;

use gate::baselines::Baselines;
use gate::counts::{self, Counts};
use gate::verdict::judge;

/// Measured with the allocator that ships.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the figures are compared with.
const BASELINES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baselines.json");

/// How often a figure is counted again before it is said to be over its baseline.
const FURTHER_RUNS: u16 = 2;
/// How often figures are counted, at least, before they are what all others are compared with.
const BLESSING_RUNS: u16 = 5;

/// Count the instructions of the hot paths, and compare them with the baselines
#[derive(Parser)]
struct Options {
    /// Write new baselines instead, for this reason, which is written down with them.
    #[arg(long, value_name = "REASON")]
    bless: Option<String>,
    /// Count so often, and take the least.
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// What cargo gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    if runner::is_counting() {
        subjects::run();
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    // `cargo test --all-targets` runs benches as well, without `--bench`: it only wants them to build.
    let outcome = if options.bench { run(&options) } else { Ok(ExitCode::SUCCESS) };
    outcome.unwrap_or_else(|error| {
        drop(writeln!(std::io::stderr(), "{error:#}"));
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    match &options.bless {
        Some(reason) => bless(reason.trim(), options.runs.max(BLESSING_RUNS)),
        None => compare(options.runs),
    }
}

/// Writes new baselines.
fn bless(reason: &str, runs: u16) -> Result<ExitCode> {
    ensure!(!reason.is_empty(), "--bless needs a reason: why may it take more, or why does it take less?");
    let (toolchain, machine) = (machine::toolchain(), machine::machine()?);
    let instructions = runner::count(runs)?;
    let baselines = Baselines { reason: reason.into(), toolchain, machine, instructions };
    std::fs::write(BASELINES, baselines.to_json()).context("writing the baselines")?;
    writeln!(std::io::stdout(), "written; commit {} with what it is about", relative(BASELINES))?;
    Ok(ExitCode::SUCCESS)
}

/// Compares with the baselines that there are.
fn compare(runs: u16) -> Result<ExitCode> {
    let read = std::fs::read_to_string(BASELINES).map_err(Error::from);
    let baselines = read.and_then(|text| Ok(Baselines::parse(&text)?));
    let baselines = baselines.with_context(|| format!("reading {}", relative(BASELINES)))?;
    let (toolchain, machine) = (machine::toolchain(), machine::machine()?);
    let judge = |counts: &Counts| judge(&baselines, &toolchain, &machine, counts);
    let counts = runner::count(runs)?;
    let mut verdict = judge(&counts);
    if verdict.is_over() {
        // Noise only ever adds: what is over again and again is not noise.
        verdict = judge(&counts::least([counts, runner::count(FURTHER_RUNS)?]));
    }
    write!(std::io::stdout(), "{verdict}")?;
    Ok(if verdict.is_failure() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A path as one would type it in the root of the repository.
fn relative(path: &str) -> &str {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let inside = root.and_then(|root| Path::new(path).strip_prefix(root).ok());
    inside.and_then(Path::to_str).unwrap_or(path)
}
