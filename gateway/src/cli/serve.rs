use std::process::exit;
use std::thread;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigFile, Failure};
use crate::app::{Development, Gateway, StartError};
use crate::config::Config;
use crate::telemetry;

/// Run a node until it is told to stop by SIGTERM or SIGINT
#[derive(Args)]
#[command(after_help = "Example:\n  clarion serve --config clarion.yaml\n\n\
    The first signal stops it as `drain` in the configuration says; a second one ends it at once.")]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.file.load()?;
        config.check_certificates()?;
        telemetry::start(&config.log);
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        run(&config, None, |gateway| {
            tracing::info!(
                public = %gateway.public_address(),
                internal = %gateway.internal_address(),
                version = env!("CARGO_PKG_VERSION"),
                "serving"
            );
            Ok(())
        })
    }
}

/// Runs a gateway from its start to its stop; `started` is called in between.
pub(super) fn run(
    config: &Config,
    development: Option<&Development>,
    started: impl FnOnce(&Gateway) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Before anything is bound: a signal during the start must not be lost.
    let mut signals = Signals::catch()?;
    let gateway = Gateway::start(config, development).map_err(|error| match error {
        StartError::PortInUse { address, .. } if development.is_some() => {
            anyhow!("{address} is in use by another process; choose another port with --port")
        }
        error => error.into(),
    })?;
    started(&gateway)?;
    signals.next();
    thread::spawn(move || {
        let code = signals.next();
        telemetry::finish();
        exit(128 + code);
    });
    gateway.stop();
    Ok(())
}

/// The signals that mean stop.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        drop(entered);
        Ok(Self { runtime, terminate, interrupt })
    }

    /// Waits for one and answers its number.
    fn next(&mut self) -> i32 {
        let Self { runtime, terminate, interrupt } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            }
        })
    }
}
