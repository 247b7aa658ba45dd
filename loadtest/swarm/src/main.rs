//! The load generator's command.

use std::process::ExitCode;

fn main() -> ExitCode {
    swarm::cli::run(std::env::args_os())
}
