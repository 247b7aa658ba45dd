//! The server is gone, slow or unreachable: F1–F12, F18, F19, F28, F29, F31, F32.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use crate::catalogue::{Fault, fault};
use crate::journal::Entry;
use crate::oracle::Verdict;
use crate::scenario::{Scene, Setup};

pub(crate) const FAULTS: &[Fault] =
    &[fault!("F1", SMOKE, "Redis is killed and comes back empty", |_| Setup::default(), killed)];

async fn killed(scene: &mut Scene) -> Result<()> {
    scene.begins();
    scene.redis_mut()?.kill()?;
    sleep(Duration::from_secs(2)).await;
    scene.redis_mut()?.restart().await?;
    scene.heals();
    scene.settle().await?;
    scene.require_no_closes();
    let unavailable = scene.unavailable();
    scene.report.require(unavailable > 0, "nobody was told 503");
    let told = scene.count(|entry| matches!(entry, Entry::Subscribed(Verdict::NotRecovered)));
    let subscriptions: usize = scene.probes.iter().map(|probe| probe.journal().standings.len()).sum();
    scene.report.require(told == subscriptions, format!("{told} of {subscriptions} were told of the loss"));
    Ok(())
}
