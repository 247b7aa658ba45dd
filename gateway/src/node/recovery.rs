//! Joins what a history holds with what was published meanwhile, without gap or repeat.
//!
//! A subscriber that follows a history is registered first, and what comes is set aside; then the history is
//! read; then both are joined here by offset; then the reply goes out and the subscriber is live.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{History, Range};
pub use crate::model::Since;
use crate::model::{Epoch, Position, Publication};

/// How to catch up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everything that was missed.
    #[default]
    Stream,
    /// The newest publication alone.
    Cache,
}

/// What a subscriber wants to know of the history when it subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// `None`: it starts at the top.
    pub since: Option<Since>,
    /// How it catches up.
    pub mode: Mode,
    /// Most publications to catch up with.
    pub publications_max: usize,
    /// Most bytes of them together; what needs more is not recovered.
    pub bytes_max: usize,
    /// How long the epoch is kept; see [`Retention`](crate::broker::Retention).
    pub meta_ttl: Duration,
}

impl Follow {
    /// The part of the history that has to be read.
    pub fn range(&self) -> Range {
        match (&self.since, self.mode) {
            (None, _) => Range { limit: Some(0), ..Range::default() },
            (Some(since), Mode::Stream) => Range {
                since: Some(since.offset),
                limit: Some(self.publications_max),
                bytes_max: Some(self.bytes_max),
                ..Range::default()
            },
            (Some(_), Mode::Cache) => Range { limit: Some(1), reverse: true, ..Range::default() },
        }
    }
}

/// What was published to a channel while its history was read for a subscriber.
#[derive(Debug, Default)]
pub struct Aside {
    epoch: Option<Epoch>,
    publications: Vec<Arc<Publication>>,
    bytes: usize,
    /// More came than may be kept: what came is known by its offsets alone.
    is_full: bool,
    /// The first and the last offset that came, since something was missing before the first.
    span: Option<(u64, u64)>,
    /// Nothing up to here will come any more.
    lost_to: Option<Position>,
}

impl Aside {
    /// Sets `publications` with offsets of `epoch` aside. Above `bytes_max` only their offsets are kept: enough to
    /// be live after them, not to recover.
    pub fn add(&mut self, epoch: &Epoch, publications: &[Arc<Publication>], bytes_max: usize) {
        if self.epoch.as_ref() != Some(epoch) {
            // What came before belongs to a history that is no more.
            let lost_to = self.lost_to.take();
            *self = Self { epoch: Some(epoch.clone()), lost_to, ..Self::default() };
        }
        for publication in publications.iter().filter(|publication| publication.offset > 0) {
            self.bytes += publication.cost_bytes();
            self.note(publication.offset);
            self.publications.push(Arc::clone(publication));
        }
        if self.bytes > bytes_max {
            self.is_full = true;
            self.publications = Vec::new();
        }
    }

    /// What has not come up to `top` will not come: the history must have it.
    pub fn lose(&mut self, top: &Position) {
        self.lost_to = Some(top.clone());
    }

    fn note(&mut self, offset: u64) {
        let (first, last) = *self.span.get_or_insert((offset, offset));
        // A broker may deliver again what it delivered before.
        if offset > last {
            // What is missing may have been published while nobody here was subscribed: then the history has it.
            self.span = Some((if offset == last + 1 { first } else { offset }, offset));
        }
    }

    /// The last offset that is known to have been published, if everything from `top` to it came.
    fn end(&self, top: &Position) -> Result<u64, Gap> {
        let is_other = self.epoch.as_ref() != Some(&top.epoch);
        let end = match self.span {
            None => top.offset,
            Some((first, _)) if is_other || first > top.offset + 1 => return Err(Gap),
            Some((_, last)) => last.max(top.offset),
        };
        match &self.lost_to {
            Some(lost_to) if lost_to.epoch != top.epoch || lost_to.offset > end => Err(Gap),
            _ => Ok(end),
        }
    }
}

/// A subscriber's start.
#[derive(Debug, Clone)]
pub struct Start {
    /// From here on it is live.
    pub position: Position,
    /// Whether it has caught up with everything; `None` if it did not ask.
    pub recovered: Option<bool>,
    /// What it missed, in ascending order; empty unless recovered.
    pub publications: Vec<Arc<Publication>>,
}

/// Between the history and what is live something is missing: the client has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("publications are missing between history and live")]
pub struct Gap;

/// Joins `history`, read by [`Follow::range`], with what was set `aside` since before the read.
///
/// # Errors
/// [`Gap`] if the two do not touch.
pub fn join(follow: &Follow, history: History, aside: Aside) -> Result<Start, Gap> {
    if aside.is_full {
        let offset = aside.end(&history.top)?;
        let position = Position { epoch: history.top.epoch, offset };
        let recovered = follow.since.as_ref().map(|_| false);
        return Ok(Start { position, recovered, publications: Vec::new() });
    }
    let live = live(&history.top, aside)?;
    let recovered = follow.since.as_ref().map(|since| match follow.mode {
        Mode::Stream => has_all(since, &history),
        Mode::Cache => has_newest(since, &history) || !live.is_empty(),
    });
    let mut position = history.top;
    position.offset = live.last().map_or(position.offset, |last| last.offset);
    let publications = match (recovered, follow.mode) {
        (Some(true), Mode::Stream) => history.publications.into_iter().chain(live).collect(),
        (Some(true), Mode::Cache) => {
            let newest = live.into_iter().next_back().or(history.publications.into_iter().next());
            let is_known = |newest: &Arc<Publication>| {
                let since = follow.since.as_ref();
                since.is_some_and(|since| knows(since, &position) && since.offset == newest.offset)
            };
            newest.into_iter().filter(|newest| !is_known(newest)).collect()
        }
        _ => Vec::new(),
    };
    Ok(Start { position, recovered, publications })
}

/// What was set aside and is above `top`, one after another.
fn live(top: &Position, aside: Aside) -> Result<Vec<Arc<Publication>>, Gap> {
    aside.end(top)?;
    let mut next = top.offset + 1;
    let mut live = Vec::new();
    for publication in aside.publications {
        if publication.offset == next {
            live.push(publication);
            next += 1;
        }
    }
    Ok(live)
}

fn knows(since: &Since, top: &Position) -> bool {
    since.epoch.is_empty() || since.epoch == top.epoch.as_str()
}

fn has_all(since: &Since, history: &History) -> bool {
    knows(since, &history.top)
        && match (history.publications.first(), history.publications.last()) {
            (Some(first), Some(last)) => {
                first.offset == since.offset.saturating_add(1) && last.offset == history.top.offset
            }
            _ => since.offset == history.top.offset,
        }
}

fn has_newest(since: &Since, history: &History) -> bool {
    match history.publications.first() {
        Some(newest) => newest.offset == history.top.offset,
        None => knows(since, &history.top) && since.offset == history.top.offset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawJson;

    fn run(offsets: impl IntoIterator<Item = u64>) -> Vec<Arc<Publication>> {
        let publication = |offset| {
            let mut publication = Publication::of(RawJson::parse(b"1").unwrap());
            publication.offset = offset;
            Arc::new(publication)
        };
        offsets.into_iter().map(publication).collect()
    }

    fn history(top: u64, publications: Vec<Arc<Publication>>) -> History {
        History { top: Position { epoch: Epoch::new("e"), offset: top }, publications }
    }

    fn follow(since: Option<(&str, u64)>, mode: Mode) -> Follow {
        let since = since.map(|(epoch, offset)| Since { epoch: epoch.into(), offset });
        Follow { since, mode, publications_max: 300, bytes_max: 1 << 20, meta_ttl: Duration::MAX }
    }

    fn aside(epoch: &str, offsets: std::ops::RangeInclusive<u64>) -> Aside {
        let mut aside = Aside::default();
        aside.add(&Epoch::new(epoch), &run(offsets), 1 << 20);
        aside
    }

    fn summary(start: &Start) -> (u64, Option<bool>, Vec<u64>) {
        let offsets = start.publications.iter().map(|publication| publication.offset).collect();
        (start.position.offset, start.recovered, offsets)
    }

    fn stream(
        since: (&str, u64),
        top: u64,
        kept: impl IntoIterator<Item = u64>,
    ) -> (u64, Option<bool>, Vec<u64>) {
        let start = join(&follow(Some(since), Mode::Stream), history(top, run(kept)), Aside::default());
        summary(&start.unwrap())
    }

    #[test]
    fn what_was_missed_is_recovered_exactly_or_not_at_all() {
        assert_eq!(stream(("e", 3), 5, 4..=5), (5, Some(true), vec![4, 5]));
        assert_eq!(stream(("", 0), 2, 1..=2), (2, Some(true), vec![1, 2]));
        assert_eq!(stream(("e", 5), 5, [0; 0]), (5, Some(true), vec![]));
        assert_eq!(stream(("e", 3), 6, 5..=6), (6, Some(false), vec![]), "4 is gone");
        assert_eq!(stream(("e", 3), 6, 4..=5), (6, Some(false), vec![]), "the limit cut the end off");
        assert_eq!(stream(("x", 3), 5, 4..=5), (5, Some(false), vec![]), "another epoch");
        assert_eq!(stream(("e", 9), 5, [0; 0]), (5, Some(false), vec![]), "above the top");
        assert_eq!(stream(("e", u64::MAX), 5, [0; 0]), (5, Some(false), vec![]));
    }

    #[test]
    fn what_came_meanwhile_follows_without_gap_or_repeat() {
        let follow = follow(Some(("e", 3)), Mode::Stream);
        let joined = |aside| join(&follow, history(5, run(4..=5)), aside).map(|start| summary(&start));
        assert_eq!(joined(aside("e", 2..=7)), Ok((7, Some(true), vec![4, 5, 6, 7])));
        assert_eq!(joined(aside("e", 6..=6)), Ok((6, Some(true), vec![4, 5, 6])));
        assert_eq!(joined(aside("e", 7..=7)), Err(Gap));
        assert_eq!(joined(aside("x", 1..=1)), Err(Gap));
        let mut twice = aside("e", 5..=6);
        twice.add(&Epoch::new("e"), &run(6..=7), 1 << 20);
        assert_eq!(joined(twice), Ok((7, Some(true), vec![4, 5, 6, 7])));
        let mut broken = Aside::default();
        broken.add(&Epoch::new("e"), &run(6..=9), 10);
        assert_eq!(joined(broken), Ok((9, Some(false), vec![])), "too much to keep, and nothing missing");
        let mut holed = Aside::default();
        holed.add(&Epoch::new("e"), &run([6, 7, 9]), 10);
        assert_eq!(joined(holed), Err(Gap));
        let mut elder = aside("e", 2..=3);
        elder.add(&Epoch::new("e"), &run(5..=6), 1 << 20);
        assert_eq!(joined(elder), Ok((6, Some(true), vec![4, 5, 6])), "the history has what is missing");
        let mut lossy = aside("e", 6..=7);
        lossy.lose(&history(7, vec![]).top);
        assert_eq!(joined(lossy), Ok((7, Some(true), vec![4, 5, 6, 7])), "nothing of it is missing");
        let mut lossy = aside("e", 6..=7);
        lossy.lose(&history(8, vec![]).top);
        assert_eq!(joined(lossy), Err(Gap));
        let mut lossy = Aside::default();
        lossy.lose(&history(5, vec![]).top);
        assert_eq!(joined(lossy), Ok((5, Some(true), vec![4, 5])), "the history was read after the loss");
        let mut lossy = Aside::default();
        lossy.lose(&history(6, vec![]).top);
        assert_eq!(joined(lossy), Err(Gap));
        let mut beyond = Aside::default();
        beyond.add(&Epoch::new("e"), &run(7..=9), 10);
        assert_eq!(joined(beyond), Err(Gap));
    }

    #[test]
    fn who_does_not_ask_starts_at_the_top_and_what_came_meanwhile_counts_as_seen() {
        let start = join(&follow(None, Mode::Stream), history(5, vec![]), aside("e", 6..=7)).unwrap();
        assert_eq!(summary(&start), (7, None, vec![]));
    }

    fn cache(
        since: Option<(&str, u64)>,
        top: u64,
        kept: impl IntoIterator<Item = u64>,
        aside: Aside,
    ) -> (u64, Option<bool>, Vec<u64>) {
        summary(&join(&follow(since, Mode::Cache), history(top, run(kept)), aside).unwrap())
    }

    #[test]
    fn in_cache_mode_the_newest_is_enough() {
        assert_eq!(cache(Some(("e", 2)), 5, 5..=5, Aside::default()), (5, Some(true), vec![5]));
        assert_eq!(cache(Some(("x", 2)), 5, 5..=5, Aside::default()), (5, Some(true), vec![5]));
        assert_eq!(cache(Some(("e", 5)), 5, 5..=5, Aside::default()), (5, Some(true), vec![]));
        assert_eq!(cache(Some(("e", 2)), 5, 5..=5, aside("e", 6..=7)), (7, Some(true), vec![7]));
        assert_eq!(cache(Some(("e", 5)), 5, [0; 0], Aside::default()), (5, Some(true), vec![]));
        assert_eq!(cache(Some(("e", 2)), 5, [0; 0], Aside::default()), (5, Some(false), vec![]));
        assert_eq!(cache(Some(("x", 9)), 5, 5..=5, Aside::default()), (5, Some(true), vec![5]));
        assert_eq!(cache(Some(("e", 9)), 5, 5..=5, Aside::default()), (5, Some(true), vec![5]));
        assert_eq!(cache(Some(("", 0)), 0, [0; 0], aside("e", 1..=1)), (1, Some(true), vec![1]));
    }
}
