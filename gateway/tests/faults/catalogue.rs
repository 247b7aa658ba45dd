//! Every fault: its name, its stage, and what happens on it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;

use crate::report::Report;
use crate::scenario::{Depth, Scene, Setup};
use crate::wait;

/// No fault takes longer.
const PATIENCE: Duration = Duration::from_secs(240);

type Play = for<'a> fn(&'a mut Scene) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One row of the catalogue.
#[derive(Debug)]
pub(crate) struct Fault {
    /// As `F4`, or the promise that it is about, as `P8`.
    pub(crate) name: &'static str,
    /// What breaks.
    pub(crate) what: &'static str,
    /// Whether it is played in the short group.
    pub(crate) in_smoke: bool,
    pub(crate) setup: fn(Depth) -> Setup,
    pub(crate) play: Play,
}

/// Makes a [`Fault`] of its name, what breaks, and the functions for its stage and its play.
macro_rules! fault {
    ($name:literal, $group:ident, $what:literal, $setup:expr, $play:path) => {
        crate::catalogue::Fault {
            name: $name,
            what: $what,
            in_smoke: crate::catalogue::$group,
            setup: $setup,
            play: |scene| Box::pin($play(scene)),
        }
    };
}
pub(crate) use fault;

/// In both groups.
pub(crate) const SMOKE: bool = true;
/// Only when all are played.
pub(crate) const FULL: bool = false;

/// A fault that is played elsewhere, because a process that serves has no way to it: its name, what breaks, and what plays
/// it.
pub(crate) const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("F41", "the task of a connection panics", "cargo test --package clarion --lib -- f41"),
    ("F45", "the certificate of a listener cannot be used", "cargo test --package clarion --test it -- f45"),
];

/// All of them, in the order of their numbers.
pub(crate) fn all() -> Vec<&'static Fault> {
    let parts = [
        crate::broker_faults::FAULTS,
        crate::network_faults::FAULTS,
        crate::refusal_faults::FAULTS,
        crate::data_faults::FAULTS,
        crate::machine_faults::FAULTS,
        crate::process_faults::FAULTS,
        crate::drain_faults::FAULTS,
        crate::publish_faults::FAULTS,
        crate::crowd_faults::FAULTS,
        crate::client_faults::FAULTS,
        crate::door_faults::FAULTS,
        crate::flood_faults::FAULTS,
        crate::trace_faults::FAULTS,
    ];
    let mut faults: Vec<&Fault> = parts.into_iter().flatten().collect();
    faults.sort_by_key(|fault| (&fault.name[..1], fault.name[1..].parse::<u32>().unwrap_or(0)));
    faults
}

/// The faults that `words` name (`F4`, `smoke`, `all`).
///
/// # Errors
/// The first word that names none.
pub(crate) fn chosen(words: &[String]) -> Result<Vec<&'static Fault>> {
    let mut chosen: Vec<&Fault> = Vec::new();
    for word in words {
        let is_meant = |fault: &&Fault| match word.as_str() {
            "all" => true,
            "smoke" => fault.in_smoke,
            name => fault.name.eq_ignore_ascii_case(name),
        };
        let found: Vec<&Fault> = all().into_iter().filter(is_meant).collect();
        if let Some((name, _, how)) = ELSEWHERE.iter().find(|(name, ..)| name.eq_ignore_ascii_case(word)) {
            anyhow::bail!("{name} is played by `{how}`");
        }
        anyhow::ensure!(!found.is_empty(), "there is no fault `{word}`");
        for fault in found {
            if !chosen.iter().any(|had| had.name == fault.name) {
                chosen.push(fault);
            }
        }
    }
    Ok(chosen)
}

impl Fault {
    /// Plays it on a stage of its own, in a runtime of its own.
    pub(crate) fn run(&self, depth: Depth) -> Report {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
        runtime.block_on(self.play(depth))
    }

    async fn play(&self, depth: Depth) -> Report {
        let setup = (self.setup)(depth);
        let mut scene = match Scene::start(self.name, depth, &setup).await {
            Ok(scene) => scene,
            Err(report) => return *report,
        };
        if let Err(error) = wait::within("the fault to end", PATIENCE, (self.play)(&mut scene)).await {
            scene.report.failed(&error);
        }
        if let Err(error) = wait::within("the scene to settle", PATIENCE, scene.settle()).await {
            scene.report.failed(&error);
        }
        scene.close()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    crate::own::tests!(faults_are_chosen_by_name_and_group; a_quiet_scene_passes, who_loses_something_is_told);

    fn faults_are_chosen_by_name_and_group() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let names = |chosen: Vec<&Fault>| chosen.iter().map(|fault| fault.name).collect::<Vec<_>>();
        assert_eq!(names(chosen(&words(&["f4", "F1", "F4"])).unwrap()), ["F4", "F1"]);
        let smoke = chosen(&words(&["smoke"])).unwrap();
        assert!(smoke.iter().all(|fault| fault.in_smoke));
        assert!(smoke.len() < all().len());
        assert!(chosen(&words(&["F999"])).is_err());
        let mut all = names(all());
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count, "each has a name of its own");
    }

    /// Nothing is broken, and nothing is found; with a single node and without Redis.
    async fn a_quiet_scene_passes() {
        let mut scene = Scene::start("quiet", Depth::Smoke, &Setup::memory()).await.unwrap();
        scene.settle().await.unwrap();
        assert!(scene.report.passed(), "{:?}", scene.report);
        assert!(scene.closes() == 0 && scene.unavailable() == 0);
    }

    /// A node that is killed forgets what it kept in memory: everybody is told.
    async fn who_loses_something_is_told() {
        let mut scene = Scene::start("amnesia", Depth::Smoke, &Setup::memory()).await.unwrap();
        scene.begins();
        scene.disturbs(0);
        scene.nodes[0].kill().unwrap();
        scene.nodes[0].restart().await.unwrap();
        scene.heals();
        scene.settle().await.unwrap();
        assert!(scene.report.passed(), "{:?}", scene.report);
        assert!(scene.closes() >= 30);
        let told = scene.count(|entry| {
            matches!(entry, crate::journal::Entry::Subscribed(crate::oracle::Verdict::NotRecovered))
        });
        assert!(told >= 90, "{told}");
    }
}
