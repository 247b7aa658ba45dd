//! The command line: reads arguments, runs what they ask for, says what came of it, and answers with an exit code.
//!
//! 0: everything that was promised holds. 1: something does not, or the run failed. 2: it was used wrongly.

mod burst;
mod capacity;
mod chat;
mod connect;
mod fan;
mod idle;
mod limits;
mod load;
mod merge;
mod noon;
mod rate;
mod storm;
mod telling;
mod written;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Error;
use clap::{Parser, Subcommand};

use self::written::written;

/// A load generator whose clients check what they are given.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Connect(connect::Connect),
    Idle(idle::Idle),
    Fan(fan::Fan),
    Rate(rate::Rate),
    Burst(burst::Burst),
    Storm(storm::Storm),
    Chat(chat::Chat),
    Capacity(capacity::Capacity),
    Noon(noon::Noon),
    Merge(merge::Merge),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// It failed. Exit code 1.
    Failed(Error),
    /// It was used wrongly, or something that it needs is not there. Exit code 2.
    Usage(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Runs the command that `arguments` ask for, the name of the program first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = written(&arguments);
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        // Help and version come this way too, and are said on standard output with code 0.
        Err(error) => return show(&error),
    };
    let outcome = match parsed.command {
        Command::Connect(connect) => connect.run(command),
        Command::Idle(idle) => idle.run(command),
        Command::Fan(fan) => fan.run(command),
        Command::Rate(rate) => rate.run(command),
        Command::Burst(burst) => burst.run(command),
        Command::Storm(storm) => storm.run(command),
        Command::Chat(chat) => chat.run(command),
        Command::Capacity(capacity) => capacity.run(command),
        Command::Noon(noon) => noon.run(command),
        Command::Merge(merge) => merge.run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Failure::Failed(error)) => complain(&error, 1),
        Err(Failure::Usage(error)) => complain(&error, 2),
    }
}

fn show(error: &clap::Error) -> ExitCode {
    // Whoever closed the output does not want to know.
    let _: io::Result<()> = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn complain(error: &Error, code: u8) -> ExitCode {
    let _: io::Result<()> = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
