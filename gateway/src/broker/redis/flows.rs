//! The flows of one worker, by the names of their Redis channels, and how much they may remember together.
//!
//! What is remembered of a channel of which nothing more comes must not stay for ever, and nobody walks over all
//! channels: a channel that remembers something stands in a line, and is looked at when its time has come. When there
//! is too much, the first in the line forgets.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::flow::Flow;
use super::window::AGE_MAX;
use crate::model::Channel;
use crate::redis::WORKERS;

/// Most bytes that all flows of a node remember.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;

/// See the module's doc.
#[derive(Debug)]
pub(super) struct Flows {
    by_name: HashMap<Box<[u8]>, Kept>,
    /// Those that remember something, in the order in which they are to be looked at. May hold places that were given
    /// up.
    line: VecDeque<(Instant, Box<[u8]>)>,
    remembered_bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    flow: Flow,
    /// Its place in the line.
    in_line_since: Option<Instant>,
}

impl Default for Flows {
    fn default() -> Self {
        Self::new(REMEMBERED_BYTES_MAX / WORKERS)
    }
}

impl Flows {
    fn new(bytes_max: usize) -> Self {
        Self { by_name: HashMap::new(), line: VecDeque::new(), remembered_bytes: 0, bytes_max }
    }

    /// There is a flow for `channel` from now on, if there was none.
    pub(super) fn open(&mut self, name: Box<[u8]>, channel: &Channel) {
        let kept = || Kept { flow: Flow::new(channel.clone()), in_line_since: None };
        self.by_name.entry(name).or_insert_with(kept);
    }

    pub(super) fn close(&mut self, name: &[u8]) {
        if let Some(closed) = self.by_name.remove(name) {
            self.remembered_bytes -= closed.flow.remembered_bytes();
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Flow> {
        self.by_name.get(name).map(|kept| &kept.flow)
    }

    /// Does `act` to a flow; `None` if there is none of that name.
    pub(super) fn change<T>(&mut self, name: &[u8], act: impl FnOnce(&mut Flow) -> T) -> Option<T> {
        let done = self.account(name, act);
        while self.remembered_bytes > self.bytes_max && self.forget_first() {}
        done
    }

    /// Does `act` to every flow; it must leave alone what they remember. Answers what it answered.
    pub(super) fn change_all<T>(&mut self, mut act: impl FnMut(&[u8], &mut Flow) -> Option<T>) -> Vec<T> {
        self.by_name.iter_mut().filter_map(|(name, kept)| act(name, &mut kept.flow)).collect()
    }

    /// Forgets what is too old, at the latest when it is twice as old as what may still be answered.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while let Some(place) = self.line.pop_front_if(|(since, _)| now.duration_since(*since) > AGE_MAX) {
            self.leave_line(place, |flow| flow.forget_old(now));
        }
    }

    /// Has the first in the line forget all; `false` if there is nobody.
    fn forget_first(&mut self) -> bool {
        let first = self.line.pop_front();
        first.map(|place| self.leave_line(place, Flow::forget)).is_some()
    }

    /// It was the turn of a place: does `act` to its flow, unless it was given up. If the flow remembers something even
    /// then, it goes to the end of the line.
    fn leave_line(&mut self, (since, name): (Instant, Box<[u8]>), act: impl FnOnce(&mut Flow)) {
        let place = self.by_name.get_mut(&name).map(|kept| &mut kept.in_line_since);
        if let Some(place) = place.filter(|place| **place == Some(since)) {
            *place = None;
            self.account(&name, act);
        }
    }

    fn account<T>(&mut self, name: &[u8], act: impl FnOnce(&mut Flow) -> T) -> Option<T> {
        let kept = self.by_name.get_mut(name)?;
        let before = kept.flow.remembered_bytes();
        let done = act(&mut kept.flow);
        let after = kept.flow.remembered_bytes();
        self.remembered_bytes = self.remembered_bytes - before + after;
        if after > 0 && kept.in_line_since.is_none() {
            let now = Instant::now();
            kept.in_line_since = Some(now);
            self.line.push_back((now, name.into()));
        }
        Some(done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::broker::Receiver;
    use crate::broker::redis::flow::Next;
    use crate::model::{Epoch, Notice, Position, Publication, RawJson};

    struct Nobody;

    impl Receiver for Nobody {
        fn deliver(&self, _: &Channel, _: Option<&Epoch>, _: &[Arc<Publication>]) {}
        fn announce(&self, _: &Channel, _: &Notice) {}
        fn lose(&self, _: &Channel, _: &Position) {}
    }

    fn publication(offset: u64) -> Arc<Publication> {
        Arc::new(Publication { offset, ..Publication::of(RawJson::string("x")) })
    }

    fn arrive(flows: &mut Flows, name: &str, offset: u64) {
        let name = name.as_bytes();
        flows.open(name.into(), &Channel::parse("a", 255).unwrap());
        let run = vec![publication(offset)];
        let next = flows.change(name, |flow| flow.arrive(Epoch::new("e"), run, &Nobody));
        assert_eq!(next, Some(Next::Nothing));
    }

    fn remembered(flows: &Flows, name: &str) -> usize {
        flows.get(name.as_bytes()).unwrap().remembered_bytes() / publication(1).cost_bytes()
    }

    #[test]
    fn when_there_is_too_much_the_first_that_remembered_something_forgets() {
        let mut flows = Flows::new(3 * publication(1).cost_bytes());
        for name in ["a", "b", "c"] {
            arrive(&mut flows, name, 1);
        }
        arrive(&mut flows, "a", 2);
        assert_eq!(["a", "b", "c"].map(|name| remembered(&flows, name)), [0, 1, 1]);
        arrive(&mut flows, "a", 3);
        arrive(&mut flows, "c", 2);
        assert_eq!(["a", "b", "c"].map(|name| remembered(&flows, name)), [1, 0, 2]);
        flows.close(b"c");
        assert_eq!(flows.remembered_bytes, publication(1).cost_bytes());
        arrive(&mut flows, "c", 1);
        arrive(&mut flows, "b", 2);
        assert_eq!(["a", "b", "c"].map(|name| remembered(&flows, name)), [1, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_forgotten_though_nothing_more_comes() {
        let mut flows = Flows::default();
        arrive(&mut flows, "a", 1);
        tokio::time::advance(Duration::from_secs(15)).await;
        arrive(&mut flows, "a", 2);
        arrive(&mut flows, "b", 1);
        tokio::time::advance(Duration::from_secs(15)).await;
        flows.forget_old(Instant::now());
        assert_eq!(["a", "b"].map(|name| remembered(&flows, name)), [1, 1]);
        tokio::time::advance(AGE_MAX + Duration::from_secs(1)).await;
        flows.forget_old(Instant::now());
        assert_eq!(["a", "b"].map(|name| remembered(&flows, name)), [0, 0]);
        assert_eq!((flows.remembered_bytes, flows.line.len()), (0, 0));
        arrive(&mut flows, "a", 3);
        assert_eq!(flows.line.len(), 1);
    }
}
