//! A deploy at peak hour, or a fault of its machinery, and what clients and back ends notice of it.
//!
//! One scenario: nodes behind a load balancer, a crowd that listens, a back end that publishes; after a calm time every
//! node is replaced as Kubernetes would, or a fault happens. What came of it are [`facts::Facts`]; what was promised of
//! it, and whether it holds, is in [`judgement`], which does no I/O. Enter by [`play`].

pub mod facts;
mod faults;
pub mod journal;
pub mod judgement;
mod presence;
mod roll;
mod scene;
pub mod settings;
mod threads;
mod watch;
mod witnesses;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use self::facts::Facts;
use self::journal::Journal;
use self::scene::Scene;
use self::settings::{Play, Settings};
use crate::mark::MarkKind;
use crate::stage::programs::Programs;

/// Plays a run from its start to its end. Everything that is started writes its configuration and its log into
/// `directory`; dropping the future ends all of it.
///
/// # Errors
/// Something of the stage does not work, so that nothing can be said of the gateway.
pub async fn play(
    settings: &Settings,
    programs: Programs,
    directory: &Path,
    journal: &Journal,
) -> Result<Facts> {
    let mut scene = Scene::set(settings, programs, directory, journal).await?;
    act(&mut scene).await?;
    scene.end().await
}

async fn act(scene: &mut Scene<'_>) -> Result<()> {
    // The first second is not calm: the publisher has just begun, and opens its connections.
    sleep(Duration::from_secs(1)).await;
    scene.facts.calm.from = scene.clock.now();
    scene.journal.mark(MarkKind::Phase, "calm");
    sleep(scene.settings.calm).await;
    scene.facts.calm.until = scene.clock.now();
    scene.facts.trouble.from = scene.clock.now();
    match scene.settings.play {
        Play::Roll => roll::play(scene).await?,
        Play::Fault(fault) => faults::play(fault, scene).await?,
    }
    scene.everybody_is_back().await;
    scene.facts.trouble.until = scene.clock.now();
    // What is still on its way arrives, and what comes too often comes.
    sleep((scene.settings.calm / 3).max(Duration::from_secs(2))).await;
    Ok(())
}
