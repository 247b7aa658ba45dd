//! Publishing by a timetable that was fixed before: what is late is late, and does not make later ones late as well.
//!
//! A publisher that waits for answers before it publishes again asks a slow server less, and so does not see how slow
//! it is (coordinated omission). Here every publication has a moment when it is due, carries it, and its delay is measured
//! from there: a server that stands still for a second is late for everything that was due in it.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::back_end::BackEnd;
use super::clock::LoadClock;
use super::engine::Load;
use super::published::Published;
use super::stamp::Stamp;
use crate::outcome::Sentences;
use crate::outcome::distribution::Distribution;

/// How many publications may wait for one connection. More are not published, and that is told.
const WAITING_MAX: usize = 4096;
/// How much later than asked for the kernel may wake the thread that keeps time; 50 µs without this.
const TIMER_SLACK: NonZeroU64 = NonZeroU64::MIN;

/// When each publication is due.
#[derive(Clone, Copy, Debug)]
pub struct Timetable {
    /// Of the first, on the clock of the load.
    pub start: Duration,
    /// Publications per second, in all channels together.
    pub rate: f64,
    /// How many there are.
    pub count: u64,
}

impl Timetable {
    /// When publication `turn` is due, on the clock of the load; the first is 0.
    pub fn due(&self, turn: u64) -> Duration {
        self.start + Duration::from_secs_f64(turn as f64 / self.rate)
    }
}

/// What came of publishing.
#[derive(Debug)]
pub struct OpenLoop {
    /// What clients must have.
    pub published: Published,
    /// From when a publication was due until it was sent: how late this process was, or how long earlier ones of the
    /// same connection took.
    pub lateness: Distribution,
    /// How long calls took.
    pub call_time: Distribution,
    /// Publications that were not sent, because too many waited already.
    pub skipped: u64,
    /// Calls that failed, and the first of them in words.
    pub failed: Sentences,
}

impl OpenLoop {
    /// Nothing yet, after what was `published` before.
    pub fn new(published: Published) -> Self {
        Self {
            published,
            lateness: Distribution::of_times(),
            call_time: Distribution::of_times(),
            skipped: 0,
            failed: Sentences::default(),
        }
    }

    /// Goes on with the next, which began with what was published by this one.
    pub fn add(&mut self, next: Self) {
        let Self { published, lateness, call_time, skipped, failed } = next;
        self.published = published;
        self.lateness.add(&lateness);
        self.call_time.add(&call_time);
        self.skipped += skipped;
        let unsaid = failed.total - failed.first.len() as u64;
        failed.first.into_iter().for_each(|sentence| self.failed.say(sentence));
        self.failed.total += unsaid;
    }
}

/// A publication that is due.
#[derive(Clone, Copy, Debug)]
struct Due {
    channel: u32,
    number: u64,
    at: Duration,
}

/// Publishes by the timetable, to all channels of the load in turn, over `connections`, and waits for all answers.
///
/// Numbers go on from what was `published` before. A channel belongs to one connection, so its publications have an order. Dropped before its end it stops soon.
///
/// # Errors
/// There is no thread to keep time.
pub async fn publish(
    load: &Load,
    back_end: &Arc<BackEnd>,
    timetable: Timetable,
    connections: usize,
    published: Published,
) -> Result<OpenLoop> {
    let channels = load.settings().channels.len();
    let mut lanes = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..connections.clamp(1, channels) {
        let (tx, rx) = mpsc::channel(WAITING_MAX);
        senders.push(tx);
        lanes.spawn(Lane::new(load, back_end).run(rx));
    }
    load.publishing();
    let (mut published, skipped) = keep_time(load.clock(), timetable, published, senders).await?;
    let mut all = Lane::new(load, back_end);
    while let Some(lane) = lanes.join_next().await {
        all.add(lane.context("a connection of the back end broke down")?);
    }
    for due in &all.doubtful {
        published.doubt(due.channel, due.number);
    }
    let Lane { lateness, call_time, failed, .. } = all;
    Ok(OpenLoop { published, lateness, call_time, skipped, failed })
}

/// Hands out publications when they are due, from a thread of its own: timers of the runtime go by milliseconds.
/// Returns what was handed out, and how many were not.
async fn keep_time(
    clock: LoadClock,
    timetable: Timetable,
    published: Published,
    lanes: Vec<mpsc::Sender<Due>>,
) -> Result<(Published, u64)> {
    let (tx, rx) = oneshot::channel();
    // It may have passed: what was due meanwhile goes at once.
    let start = clock.at(timetable.start).into_std();
    let work = move || {
        // Without it every publication is some 50 µs later, which is no fault of the server.
        let _: rustix::io::Result<()> = rustix::thread::set_current_timer_slack(Some(TIMER_SLACK));
        let _: Result<(), _> = tx.send(hand_out(timetable, start, published, &lanes));
    };
    thread::Builder::new().name("timetable".to_owned()).spawn(work)?;
    rx.await.context("the thread that keeps time broke down")
}

fn hand_out(
    timetable: Timetable,
    start: Instant,
    mut published: Published,
    lanes: &[mpsc::Sender<Due>],
) -> (Published, u64) {
    let (channels, mut skipped) = (published.channels(), 0);
    for turn in 0..timetable.count {
        let at = timetable.due(turn);
        thread::sleep((start + (at - timetable.start)).saturating_duration_since(Instant::now()));
        let channel = usize::try_from(turn % channels as u64).expect("it is below a usize");
        let lane = &lanes[channel % lanes.len()];
        match lane.try_reserve() {
            Ok(permit) => {
                let channel = u32::try_from(channel).expect("channels are numbered");
                permit.send(Due { channel, number: published.next(channel), at });
            }
            Err(mpsc::error::TrySendError::Full(())) => skipped += 1,
            Err(mpsc::error::TrySendError::Closed(())) => break,
        }
    }
    (published, skipped)
}

/// Why a publication was not sent that had waited for its connection for longer than `patience`.
pub fn too_late(patience: Duration) -> String {
    let patience = humantime::format_duration(patience);
    format!("it was not sent: its connection was not free within {patience} of when it was due")
}

/// One connection of the back end: it publishes one thing at a time.
struct Lane {
    back_end: Arc<BackEnd>,
    channels: Vec<String>,
    clock: LoadClock,
    run: u32,
    patience: Duration,
    lateness: Distribution,
    call_time: Distribution,
    failed: Sentences,
    doubtful: Vec<Due>,
}

impl Lane {
    fn new(load: &Load, back_end: &Arc<BackEnd>) -> Self {
        Self {
            back_end: Arc::clone(back_end),
            channels: load.settings().channels.clone(),
            clock: load.clock(),
            run: load.run(),
            patience: load.settings().patience,
            lateness: Distribution::of_times(),
            call_time: Distribution::of_times(),
            failed: Sentences::default(),
            doubtful: Vec::new(),
        }
    }

    async fn run(mut self, mut due: mpsc::Receiver<Due>) -> Self {
        while let Some(due) = due.recv().await {
            self.publish(due).await;
        }
        self
    }

    async fn publish(&mut self, due: Due) {
        let at_ns = u64::try_from(due.at.as_nanos()).unwrap_or(u64::MAX);
        let stamp = Stamp { run: self.run, number: due.number, at_ns };
        let begun = self.clock.now();
        let late = begun.saturating_sub(due.at);
        self.lateness.record_time(late);
        if late > self.patience {
            // A server that hangs would be waited for again and again, once for each.
            self.failed.say(too_late(self.patience));
            return self.doubtful.push(due);
        }
        let outcome = self.back_end.publish(&self.channels[due.channel as usize], stamp).await;
        self.call_time.record_time(self.clock.now() - begun);
        if let Err(error) = outcome {
            self.failed.say(format!("{error:#}"));
            self.doubtful.push(due);
        }
    }

    fn add(&mut self, other: Self) {
        self.lateness.add(&other.lateness);
        self.call_time.add(&other.call_time);
        let unsaid = other.failed.total - other.failed.first.len() as u64;
        other.failed.first.into_iter().for_each(|sentence| self.failed.say(sentence));
        self.failed.total += unsaid;
        self.doubtful.extend(other.doubtful);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timetable_does_not_drift() {
        let timetable = Timetable { start: Duration::from_secs(5), rate: 3.0, count: 10 };
        assert_eq!(timetable.due(0), Duration::from_secs(5));
        assert_eq!(timetable.due(3_000_000), Duration::from_secs(1_000_005));
        let step = timetable.due(2) - timetable.due(1);
        assert!(step.abs_diff(Duration::from_nanos(333_333_333)) < Duration::from_nanos(3), "{step:?}");
    }

    #[test]
    fn who_cannot_keep_up_is_told_so_and_skips_no_number() {
        let (tx, mut rx) = mpsc::channel(2);
        let timetable = Timetable { start: Duration::ZERO, rate: 1e6, count: 5 };
        let (published, skipped) = hand_out(timetable, Instant::now(), Published::new(1), &[tx]);
        assert_eq!((published.last(0), skipped), (2, 3));
        let numbers: Vec<u64> = std::iter::from_fn(|| rx.try_recv().ok()).map(|due| due.number).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    fn channels_have_their_turn_and_numbers_of_their_own() {
        let (tx, mut rx) = mpsc::channel(10);
        let timetable = Timetable { start: Duration::ZERO, rate: 1e6, count: 5 };
        let (published, _) = hand_out(timetable, Instant::now(), Published::new(2), &[tx]);
        assert_eq!((published.last(0), published.last(1), published.total()), (3, 2, 5));
        let given: Vec<_> =
            std::iter::from_fn(|| rx.try_recv().ok()).map(|due| (due.channel, due.number)).collect();
        assert_eq!(given, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]);
    }
}
