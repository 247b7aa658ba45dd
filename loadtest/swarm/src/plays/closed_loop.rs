//! Publishing that waits: the next publication goes when every client has the last.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::time::sleep;

use super::run::{DELAYS, Run, micros};

/// Who acknowledges, and when, decides who pays for it: an acknowledgement that the receiver's kernel sends at once is
/// made on the sender's CPU time. A socket that has just conversed delays its acknowledgements until it misses one of its
/// timers (40 ms, at most 200). So a few publications with pauses come first.
const WARM_UPS: u32 = 5;
const WARM_UP_PAUSE: Duration = Duration::from_millis(250);
/// A socket that was silent for some 200 ms acknowledges the next 16 segments at once. So many, and a few more, go before
/// what is measured.
const LEAD_IN: u32 = 20;

/// Connects all clients; then publishes `times` times `size` publications at once. Says what a delivery costs.
pub(super) async fn play(run: &mut Run, times: u32, size: u32) -> Result<()> {
    run.connect().await?;
    run.phase("warming up");
    for _ in 0..WARM_UPS {
        run.publish_and_wait(1).await.context("while warming up")?;
        sleep(WARM_UP_PAUSE).await;
    }
    for _ in 0..LEAD_IN {
        run.publish_and_wait(1).await.context("while warming up")?;
    }
    let before = if run.server.is_empty() { None } else { Some(run.server.settled().await?) };
    run.phase("publishing");
    let (begun, delivered) = (run.load.clock().now(), run.load.delivered());
    for _ in 0..times {
        run.publish_and_wait(size).await?;
    }
    let time = run.load.clock().now() - begun;
    let deliveries = (run.load.delivered() - delivered) as f64;
    if let Some(before) = before {
        let used = run.server.settled().await?.since(&before);
        run.share("CPU of the server per delivery", "µs", micros(used), deliveries);
        let publications = f64::from(times) * f64::from(size);
        run.share("CPU of the server per publication", "µs", micros(used), publications);
    }
    run.per_second("deliveries", deliveries, time);
    run.quantiles(DELAYS);
    Ok(())
}
