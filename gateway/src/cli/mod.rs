//! The command line: one file for each subcommand.
//!
//! Reads arguments, says what came of them, and answers with an exit code: 0 done, 1 failed, 2 used
//! wrongly or bad configuration. What a command does is done elsewhere. Enter by [`run`].

mod call;
mod checkconfig;
mod checktoken;
mod dev;
mod doctor;
mod genconfig;
mod gentoken;
mod health;
mod info;
mod output;
mod protected;
mod publish;
mod roundtrip;
mod serve;
mod subscribe;
mod target;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde_json::json;

use self::output::Output;
use crate::config::{Config, ConfigError};
use crate::telemetry;

/// A real-time gateway: keeps the sockets of your users and delivers what your back end publishes.
#[derive(Parser)]
#[command(name = "clarion", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Dev(dev::Dev),
    Genconfig(genconfig::Genconfig),
    Checkconfig(checkconfig::Checkconfig),
    Gentoken(gentoken::Gentoken),
    Checktoken(checktoken::Checktoken),
    #[command(name = "pub")]
    Publish(publish::Publish),
    #[command(name = "sub")]
    Subscribe(subscribe::Subscribe),
    Info(info::Info),
    Health(health::Health),
    Doctor(doctor::Doctor),
    #[command(name = "test")]
    RoundTrip(roundtrip::RoundTrip),
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
enum Failure {
    /// It was asked rightly, and failed, or the answer is no. Exit code 1.
    Failed(anyhow::Error),
    /// It was used wrongly, or the configuration is bad. Exit code 2.
    Usage(anyhow::Error),
    /// As `Failed` and `Usage`, with everything already said on standard output.
    Reported(u8),
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// Says what is wrong on standard error, if that `is_read`: else this would wait for ever.
    fn report(self, is_read: bool) -> ExitCode {
        let (error, code) = match self {
            Self::Failed(error) => (error, 1),
            Self::Usage(error) => (error, 2),
            Self::Reported(code) => return ExitCode::from(code),
        };
        if is_read {
            output::complain(&error);
        }
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Runs the command that `arguments` name; the first of them is the name of the program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        // Also `--help` and `--version`, whose code is 0.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match arguments.command {
        Command::Serve(command) => command.run(),
        Command::Dev(command) => command.run(),
        Command::Publish(command) => command.run(),
        Command::Subscribe(command) => command.run(),
        Command::Info(command) => command.run(),
        Command::Health(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::RoundTrip(command) => command.run(),
        Command::Genconfig(command) => command.run(),
        Command::Checkconfig(command) => command.run(),
        Command::Gentoken(command) => command.run(),
        Command::Checktoken(command) => command.run(),
    };
    // What was logged comes before what is said at the end. Where that cannot be written, neither can this.
    let is_read = telemetry::finish();
    outcome.map_or_else(|failure| failure.report(is_read), |()| ExitCode::SUCCESS)
}

/// Where a command finds the configuration.
#[derive(Args)]
struct ConfigFile {
    /// Configuration file: .yaml, .toml or .json. Variables CLARION__SECTION__KEY go before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Reads the file and the environment of this process.
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), environment())
    }

    /// The same for a command that reports by `output`: a machine is told every problem on standard output.
    fn load_for(&self, output: &Output) -> Result<Config, Failure> {
        match self.load().and_then(|config| config.check_certificates().map(|()| config)) {
            Ok(config) => Ok(config),
            Err(error) if output.is_json() => {
                let problems = error.problems.iter();
                let errors: Vec<_> = problems
                    .map(|problem| json!({ "path": problem.path, "message": problem.message, "place": problem.place }))
                    .collect();
                output::print(&json!({ "ok": false, "errors": errors }).to_string())?;
                Err(Failure::Reported(2))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The same for a command that only wants to know where a node is: without a file and without variables
    /// it is where the defaults say.
    fn load_or_default(&self) -> Result<Config, ConfigError> {
        let is_given = self.config.is_some() || environment().any(|(name, _)| name.starts_with("CLARION__"));
        if is_given { self.load() } else { Ok(Config::default()) }
    }
}

/// The environment of this process.
fn environment() -> impl Iterator<Item = (String, String)> {
    // A variable that is not UTF-8 is kept in a form that its setting can refuse.
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        let command = Arguments::command();
        command.clone().debug_assert();
        for subcommand in command.get_subcommands() {
            let help = subcommand.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("clarion {}", subcommand.get_name())),
                "{}",
                subcommand.get_name()
            );
        }
    }
}
