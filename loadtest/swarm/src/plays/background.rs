//! Publications that go on while a play does something else.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::run::Run;
use crate::load::open_loop::{self, OpenLoop, Timetable};
use crate::load::{BackEnd, Load, Published};

/// What comes before the first publication is due.
pub(super) const HEAD_START: Duration = Duration::from_millis(200);
/// From when a publication was due until it was sent.
pub(super) const LATENESS: &str = "publishing late";
/// How long a call of the server API takes.
pub(super) const CALL_TIME: &str = "API call";
/// How long it may go on after it is to end.
const SLICE_SECONDS: f64 = 0.5;

/// Publishes by a timetable to all channels in turn, until it is told that it is over.
#[derive(Debug)]
pub(super) struct Background {
    back_end: Arc<BackEnd>,
    connections: usize,
    rate: f64,
}

impl Background {
    /// So many publications per second, by the back end of a run.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn new(run: &Run, rate: f64) -> Result<Self> {
        let back_end = run.back_end.clone().context("this play publishes, and so needs --api")?;
        Ok(Self { back_end, connections: run.api_connections, rate })
    }

    /// Publishes until `is_over`, and a moment longer.
    ///
    /// # Errors
    /// There is no thread to keep time.
    pub(super) async fn until(&self, load: &Load, is_over: &Cell<bool>) -> Result<OpenLoop> {
        let mut publishing = OpenLoop::new(Published::new(load.settings().channels.len()));
        let mut start = load.clock().now() + HEAD_START;
        let count = (self.rate * SLICE_SECONDS).ceil().max(1.0);
        while !is_over.get() {
            let timetable = Timetable { start, rate: self.rate, count: count as u64 };
            self.publish(load, timetable, &mut publishing).await?;
            // Slices follow each other by the timetable, not by when the last one was answered.
            start += Duration::from_secs_f64(count / self.rate);
        }
        Ok(publishing)
    }

    /// Publishes by a timetable, and goes on where `publishing` ended.
    ///
    /// # Errors
    /// There is no thread to keep time.
    pub(super) async fn publish(
        &self,
        load: &Load,
        timetable: Timetable,
        publishing: &mut OpenLoop,
    ) -> Result<()> {
        let before = publishing.published.clone();
        let slice = open_loop::publish(load, &self.back_end, timetable, self.connections, before).await?;
        publishing.add(slice);
        Ok(())
    }
}

/// Takes down what came of publishing: how late it was, and what failed.
pub(super) fn note(run: &mut Run, published: OpenLoop) {
    let OpenLoop { published, lateness, call_time, skipped, failed } = published;
    run.published = published;
    let expects_endings = run.expects_endings();
    let outcome = &mut run.outcome;
    outcome.distributions.insert(LATENESS.to_owned(), lateness);
    outcome.distributions.insert(CALL_TIME.to_owned(), call_time);
    for (name, count) in [("publications not sent", skipped), ("publications failed", failed.total)] {
        let counted = if expects_endings { &mut outcome.counts } else { &mut outcome.verdict.others };
        counted.insert(name.to_owned(), count);
    }
    if skipped > 0 {
        outcome.wrong.say(format!(
            "{skipped} publications were not sent, because too many waited for the API already: it does not keep up"
        ));
    }
    failed.first.into_iter().for_each(|sentence| outcome.wrong.say(format!("publishing: {sentence}")));
}
