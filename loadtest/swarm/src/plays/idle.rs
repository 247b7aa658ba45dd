//! What it costs to keep connections that have nothing to say.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::connect;
use super::run::{DELAYS, Run, micros};
use crate::load::tally::Event;

/// Opens connections and keeps them for a time.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// How long.
    pub time: Duration,
}

impl Idle {
    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        connect::open(run).await?;
        self.keep(run).await?;
        if run.back_end.is_some() {
            // The figures are void if these were no live subscribers.
            run.phase("one publication to all");
            run.publish_everywhere().await.context("after the idle time")?;
            run.quantiles(DELAYS);
        }
        Ok(())
    }

    async fn keep(self, run: &mut Run) -> Result<()> {
        run.phase("idle");
        let (begun, pings) = (run.load.clock().now(), run.load.counts().get(Event::Ping));
        let before = run.server.cpu()?;
        sleep(self.time).await;
        let used = run.server.cpu()?.since(&before);
        let time = run.load.clock().now() - begun;
        let connected = run.load.counts().open() as f64;
        if !run.server.is_empty() {
            let name = "CPU of the server per second and idle connection";
            run.share(name, "µs", micros(used), connected * time.as_secs_f64());
        }
        let pings = (run.load.counts().get(Event::Ping) - pings) as f64;
        run.per_second("pings", pings, time);
        Ok(())
    }
}
