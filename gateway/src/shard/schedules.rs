//! Random schedules of publish, deliver, subscribe, unsubscribe, recover, disconnect, loss and repetition over a
//! broker that is late, disorderly and failing, checked against what every client must have got: everything, once
//! and in order, or the word that it has not.
//!
//! What a client does overlaps with what the others do: each of its calls is a future that is polled now and then.
//! The truth is what the broker kept, whatever its publisher was told.

mod client;
mod world;

use std::sync::Arc;
use std::time::Duration;

use self::world::World;
use super::fanout::bench::Random;
use crate::metrics::Metrics;
use crate::model::chance::{Manners, Seed, seeds};

const SCHEDULES: u64 = 20_000;
const STEPS: usize = 100;
/// Longer than the grace of a channel that nobody holds.
const GRACE_IS_OVER: Duration = Duration::from_secs(30);

/// How often something happened that a schedule is for.
#[derive(Debug, Default)]
struct Tally {
    recovered: usize,
    not_recovered: usize,
    lost: usize,
    gaps: usize,
    failed: usize,
    /// Connections that closed while their subscribe was under way.
    abandoned: usize,
    /// Publications that were kept though their publisher was told otherwise.
    kept_in_spite: usize,
    retried: usize,
    epochs: usize,
}

/// A quarter answer at once, a quarter are late, and half fail as well.
fn manners(seed: u64) -> Manners {
    match seed % 4 {
        0 => Manners::CALM,
        1 => Manners { turns_max: 6, failures_percent: 0, holds_back: true },
        2 => Manners { turns_max: 4, failures_percent: 10, holds_back: true },
        _ => Manners { turns_max: 12, failures_percent: 25, holds_back: true },
    }
}

#[tokio::test(start_paused = true)]
async fn every_schedule_ends_with_everything_delivered_once_or_told() {
    let (mut tally, metrics) = (Tally::default(), Arc::new(Metrics::new()));
    let seeds = seeds(1..=SCHEDULES);
    for seed in &seeds {
        let _seed = Seed(*seed);
        let mut random = Random::new(*seed);
        let mut world = World::new(*seed, manners(*seed), &metrics);
        let told = tally.lost + tally.gaps;
        for _ in 0..STEPS {
            world.step(&mut random, &mut tally).await;
        }
        world.finish(&mut tally).await;
        assert!(!world.is_lossless || tally.lost + tally.gaps == told, "told of a loss that there was not");
        world.close().await;
    }
    // The schedules are worth nothing if they do not reach all of it.
    let Tally { recovered, not_recovered, lost, gaps, failed, abandoned, kept_in_spite, retried, epochs } =
        tally;
    let all = [recovered, not_recovered, lost, gaps, failed, abandoned, kept_in_spite, retried, epochs];
    assert!(seeds.len() < 10_000 || all.iter().all(|count| *count > 100), "{tally:?}");
    eprintln!("{tally:?}");
}
