use std::convert::Infallible;
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
    The first signal stops it as `drain` in the configuration says; a second one ends it at once.\n\
    SIGHUP reads `log.level` of the configuration again.")]
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
        let reread = Box::new(move || reread_log_level(&self.file));
        run(&config, None, Some(reread), |gateway| {
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

/// Has the log be as the configuration says now, whatever was asked for since. Nothing else of it is looked at.
fn reread_log_level(file: &ConfigFile) {
    let Some(levels) = telemetry::levels() else { return };
    match file.load() {
        Ok(config) => {
            let level = config.log.level;
            levels.configure(level);
            tracing::info!(log.level = %level, "the level of the log was read again");
        }
        Err(error) => {
            tracing::error!(%error, "the configuration cannot be read again; the level of the log stays");
        }
    }
}

/// Runs a gateway from its start to its stop; `started` is called in between, and `reread` whenever the process is told to
/// read its configuration again. Without the latter that ends the process.
pub(super) fn run(
    config: &Config,
    development: Option<&Development>,
    reread: Option<Reread>,
    started: impl FnOnce(&Gateway) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // Before anything is bound: a signal during the start must not be lost.
    let mut signals = Signals::catch(reread)?;
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

/// Reads the configuration again.
pub(super) type Reread = Box<dyn FnMut() + Send>;

/// The signals that mean stop, and the one that means read again.
struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<(Signal, Reread)>,
}

impl Signals {
    fn catch(reread: Option<Reread>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        let hangup = match reread {
            Some(reread) => Some((signal(SignalKind::hangup()).context("catching SIGHUP")?, reread)),
            None => None,
        };
        drop(entered);
        Ok(Self { runtime, terminate, interrupt, hangup })
    }

    /// Waits for one that means stop and answers its number.
    fn next(&mut self) -> i32 {
        let Self { runtime, terminate, interrupt, hangup } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
                _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
                never = reread_for_ever(hangup.as_mut()) => match never {},
            }
        })
    }
}

/// Reads again with each signal.
async fn reread_for_ever(hangup: Option<&mut (Signal, Reread)>) -> Infallible {
    let Some((hangup, reread)) = hangup else { return std::future::pending().await };
    loop {
        hangup.recv().await;
        reread();
    }
}
