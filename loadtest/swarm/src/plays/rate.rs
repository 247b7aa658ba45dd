//! How late deliveries are at a steady rate, whatever the server does meanwhile.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::background::{self, CALL_TIME, HEAD_START, LATENESS};
use super::run::{DELAYS, Run, micros};
use crate::load::Thread;
use crate::load::open_loop::{self, OpenLoop, Timetable};

/// Publishes by a timetable to all channels in turn.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Publications per second, in all channels together.
    pub rate: f64,
    /// How long.
    pub time: Duration,
}

impl Rate {
    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        run.connect().await?;
        let before = if run.server.is_empty() { None } else { Some(run.server.settled().await?) };
        run.phase("publishing");
        let start = run.load.clock().now() + HEAD_START;
        let published = self.publish(run, start).await?;
        let time = run.load.clock().now() - start;
        let total = published.published.total();
        background::note(run, published);
        let everything = self.owed(run).await?;
        run.load.wait_delivered(everything).await?;
        if let Some(before) = before {
            let used = run.server.settled().await?.since(&before);
            run.share("CPU of the server per delivery", "µs", micros(used), everything as f64);
        }
        run.per_second("publications", total as f64, time);
        run.per_second("deliveries", everything as f64, time);
        for what in [DELAYS, LATENESS, CALL_TIME] {
            run.quantiles(what);
        }
        Ok(())
    }

    async fn publish(self, run: &Run, start: Duration) -> Result<OpenLoop> {
        let back_end = run.back_end.clone().context("this play publishes, and so needs --api")?;
        let count = (self.rate * self.time.as_secs_f64()).round().max(1.0) as u64;
        let timetable = Timetable { start, rate: self.rate, count };
        let published = run.published.clone();
        open_loop::publish(&run.load, &back_end, timetable, run.api_connections, published).await
    }

    /// Deliveries, to everybody who is connected, of everything that was published for sure.
    async fn owed(self, run: &Run) -> Result<u64> {
        let connected = |thread: Rc<Thread>| async move {
            let clients = thread.clients().into_iter().filter(|client| client.is_connected());
            clients.map(|client| client.number()).collect::<Vec<_>>()
        };
        let channels = u32::try_from(run.load.settings().channels.len()).context("channels are numbered")?;
        let clients = run.load.on_each(connected).await?.into_iter().flatten();
        Ok(clients.map(|client| run.published.certain(client % channels)).sum())
    }
}
