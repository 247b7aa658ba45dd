//! What it costs to connect: a number of clients, each subscribed to a channel.

use anyhow::Result;

use super::run::{CONNECTS, Run, micros};

/// Opens connections, and ends when all are there.
#[derive(Clone, Copy, Debug)]
pub struct Connect;

impl Connect {
    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        open(run).await
    }
}

/// Connects all clients, and says what that costs the server: CPU for each, and memory once it is quiet.
pub(super) async fn open(run: &mut Run) -> Result<()> {
    let (before, resident) = match run.server.is_empty() {
        true => (None, 0),
        false => (Some(run.server.settled().await?), run.server.resident_bytes()?),
    };
    let begun = run.load.clock().now();
    run.connect().await?;
    let time = run.load.clock().now() - begun;
    let connected = run.load.counts().open() as f64;
    run.per_second("connects", connected, time);
    if let Some(before) = before {
        let used = run.server.settled().await?.since(&before);
        run.share("CPU of the server per connect", "µs", micros(used), connected);
    }
    run.phase("connected");
    if let Some(quiet) = run.quiet_bytes().await? {
        let grown = quiet as f64 - resident as f64;
        run.share("memory of the server per connection", "KB", grown / 1e3, connected);
    }
    run.quantiles(CONNECTS);
    Ok(())
}
