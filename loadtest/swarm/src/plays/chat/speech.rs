//! A back end that publishes what clients say.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::LATENESS;
use super::score::{Act, Plan};
use crate::load::open_loop::too_late;
use crate::load::stamp::Stamp;
use crate::load::{BackEnd, Load, LoadClock};
use crate::outcome::distribution::Distribution;
use crate::outcome::{Outcome, Sentences};

/// How much may wait for one connection. More is not said, and that is told.
const WAITING_MAX: usize = 4096;

/// What came of publishing.
#[derive(Debug)]
pub(super) struct Speech {
    /// What nobody need have: channel and number.
    pub(super) doubtful: HashSet<(u32, u64)>,
    lateness: Distribution,
    failed: Sentences,
    skipped: u64,
}

/// Something that is to be said: room, number, and when it is due.
type Due = (u32, u64, Duration);

/// Publishes everything that is said, when it is due; what is said in one room goes over one connection, in order.
///
/// # Errors
/// A connection broke down.
pub(super) async fn speak(
    load: &Load,
    back_end: &Arc<BackEnd>,
    connections: usize,
    plan: Plan,
    start: Duration,
) -> Result<Speech> {
    let rooms = usize::try_from(plan.rooms)?;
    let mut lanes = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..connections.clamp(1, rooms) {
        let (tx, rx) = mpsc::channel(WAITING_MAX);
        senders.push(tx);
        let channels = load.settings().channels.clone();
        let patience = load.settings().patience;
        lanes.spawn(lane(Arc::clone(back_end), channels, load.clock(), load.run(), patience, rx));
    }
    let mut speech = Speech::new();
    for cue in plan.score() {
        let Act::Say(number) = cue.act else { continue };
        let at = start + cue.at;
        sleep_until(load.clock().at(at)).await;
        let lane = &senders[cue.room as usize % senders.len()];
        if lane.try_send((cue.room, number, at)).is_err() {
            speech.skipped += 1;
            speech.doubtful.insert((cue.room, number));
        }
    }
    drop(senders);
    while let Some(lane) = lanes.join_next().await {
        speech.add(lane.context("a connection of the back end broke down")?);
    }
    Ok(speech)
}

async fn lane(
    back_end: Arc<BackEnd>,
    channels: Vec<String>,
    clock: LoadClock,
    run: u32,
    patience: Duration,
    mut due: mpsc::Receiver<Due>,
) -> Speech {
    let mut speech = Speech::new();
    while let Some((room, number, at)) = due.recv().await {
        let late = clock.now().saturating_sub(at);
        speech.lateness.record_time(late);
        if late > patience {
            speech.failed.say(too_late(patience));
            speech.doubtful.insert((room, number));
            continue;
        }
        let at_ns = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let outcome = back_end.publish(&channels[room as usize], Stamp { run, number, at_ns }).await;
        if let Err(error) = outcome {
            speech.failed.say(format!("{error:#}"));
            speech.doubtful.insert((room, number));
        }
    }
    speech
}

impl Speech {
    fn new() -> Self {
        Self {
            doubtful: HashSet::new(),
            lateness: Distribution::of_times(),
            failed: Sentences::default(),
            skipped: 0,
        }
    }

    fn add(&mut self, other: Self) {
        self.doubtful.extend(other.doubtful);
        self.lateness.add(&other.lateness);
        let unsaid = other.failed.total - other.failed.first.len() as u64;
        other.failed.first.into_iter().for_each(|sentence| self.failed.say(sentence));
        self.failed.total += unsaid;
        self.skipped += other.skipped;
    }

    /// How late things were said, and what failed.
    pub(super) fn tell(self, outcome: &mut Outcome) {
        outcome.distributions.insert(LATENESS.to_owned(), self.lateness);
        let counts = [("publications not sent", self.skipped), ("publications failed", self.failed.total)];
        outcome.verdict.others.extend(counts.map(|(name, count)| (name.to_owned(), count)));
        self.failed
            .first
            .into_iter()
            .for_each(|sentence| outcome.wrong.say(format!("publishing: {sentence}")));
    }
}
