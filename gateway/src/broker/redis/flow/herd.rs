//! Subscribers that come back while publications go on, are missed, healed, lost and removed: whatever a flow answers
//! from memory is what the whole history would have answered, and what is delivered after goes on from there.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::broker::redis::window::AGE_MAX;
use crate::model::RawJson;

/// How many publications the history keeps.
const KEPT: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    /// So many are published in one piece.
    Publish(u64),
    /// The next of what is on its way comes.
    Hear,
    /// The next of what is on its way is lost.
    Miss,
    /// The connection was gone, and what may be missing is read.
    Restore,
    /// Somebody reads what comes after an offset so far before the top.
    Read {
        back: u64,
        limit: usize,
    },
    /// A subscriber catches up with what comes after an offset so far before the position.
    CatchUp {
        back: i64,
        limit: usize,
        knows_epoch: bool,
    },
    /// One that wants the newest alone, or nothing.
    Start {
        wants_newest: bool,
    },
    Remove,
    /// All data are lost.
    Lose,
    /// Seconds go by.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..4_u64).prop_map(Step::Publish),
        9 => Just(Step::Hear),
        1 => Just(Step::Miss),
        1 => Just(Step::Restore),
        3 => (0..20_u64, 0..12_usize).prop_map(|(back, limit)| Step::Read { back, limit }),
        8 => (-2..15_i64, 1..12_usize, any::<bool>())
            .prop_map(|(back, limit, knows_epoch)| Step::CatchUp { back, limit, knows_epoch }),
        2 => any::<bool>().prop_map(|wants_newest| Step::Start { wants_newest }),
        1 => Just(Step::Remove),
        1 => Just(Step::Lose),
        1 => (1..15_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

enum Told {
    Came(Epoch, Vec<u64>),
    Lost(Position),
}

#[derive(Default)]
struct Log(Mutex<Vec<Told>>);

impl Receiver for Log {
    fn deliver(&self, _: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        let offsets = publications.iter().map(|publication| publication.offset).collect();
        self.0.lock().push(Told::Came(epoch.unwrap().clone(), offsets));
    }

    fn announce(&self, _: &Channel, _: &Notice) {}

    fn lose(&self, _: &Channel, top: &Position) {
        self.0.lock().push(Told::Lost(top.clone()));
    }
}

struct World {
    flow: Flow,
    log: Log,
    /// Everything that was ever published, by epoch.
    all: HashMap<String, Vec<Arc<Publication>>>,
    top: Position,
    /// What is not above this was removed.
    removed_to: u64,
    on_its_way: VecDeque<(Epoch, Vec<Arc<Publication>>)>,
    /// Where those are who caught up from memory, and have not heard that something is lost.
    subscribers: Vec<Position>,
}

impl World {
    fn new() -> Self {
        let mut flow = Flow::new(Channel::parse("a", 255).unwrap());
        flow.confirm(Confirmation(0));
        Self {
            flow,
            log: Log::default(),
            all: HashMap::new(),
            top: Position { epoch: Epoch::new("e0"), offset: 0 },
            removed_to: 0,
            on_its_way: VecDeque::new(),
            subscribers: Vec::new(),
        }
    }

    fn publish(&mut self, count: u64) {
        let epoch = self.top.epoch.clone();
        let run: Vec<_> = (1..=count).map(|step| publication(&epoch, self.top.offset + step)).collect();
        self.top.offset += count;
        self.all.entry(epoch.as_str().into()).or_default().extend(run.iter().cloned());
        self.on_its_way.push_back((epoch, run));
    }

    /// What Redis answers.
    fn history(&self, since: u64, limit: usize) -> History {
        let all = self.all.get(self.top.epoch.as_str()).map(Vec::as_slice).unwrap_or_default();
        let kept = all[all.len().saturating_sub(KEPT)..].iter();
        let kept = kept.filter(|one| one.offset > since.max(self.removed_to)).take(limit);
        History { top: self.top.clone(), publications: kept.cloned().collect() }
    }

    fn read(&mut self, back: u64, limit: usize) {
        let since = self.top.offset.saturating_sub(back);
        let (history, began) = (self.history(since, limit), self.flow.confirmation());
        let next = self.flow.observe(&history.top, false);
        let range = Range { since: Some(since), limit: Some(limit), ..Range::default() };
        self.flow.learn(began, &range, &history, Instant::now());
        self.heal(next);
    }

    fn heal(&mut self, mut next: Next) {
        while next == Next::Read {
            let Some(position) = self.flow.position().cloned() else { return };
            // In small pages, and something may come between them.
            let found = self.history(position.offset, 5);
            next = self.flow.found(&position, found, &self.log).1;
        }
    }

    fn hear(&mut self) {
        let Some((epoch, run)) = self.on_its_way.pop_front() else { return };
        let next = self.flow.arrive(epoch, run, &self.log);
        self.heal(next);
    }

    fn restore(&mut self) {
        // What was on its way was on the connection that is gone.
        self.on_its_way.clear();
        let next = self.flow.suspect();
        self.heal(next);
    }

    fn remove(&mut self) {
        self.flow.remove(None);
        self.removed_to = self.top.offset;
        self.flow.remove(Some(&self.top));
    }

    fn lose(&mut self) {
        let epoch = Epoch::new(&format!("e{}", self.all.len() + 1));
        self.all.insert(epoch.as_str().into(), Vec::new());
        (self.top, self.removed_to) = (Position { epoch, offset: 0 }, 0);
    }

    /// Whether it was answered.
    fn catch_up(&mut self, range: &Range, knows_epoch: bool) -> bool {
        let Some(position) = self.flow.position().cloned() else { return false };
        let epoch = if knows_epoch { position.epoch.as_str() } else { "" };
        let foreign = self.flow.answer("another", range, AGE_MAX, Instant::now());
        assert!(foreign.is_none());
        let Some(answer) = self.flow.answer(epoch, range, AGE_MAX, Instant::now()) else { return false };
        assert_eq!(answer.top, position);
        let since = if range.reverse { position.offset.saturating_sub(1) } else { range.since.unwrap_or(0) };
        let all = self.all.get(position.epoch.as_str()).map(Vec::as_slice).unwrap_or_default();
        let expected = all.iter().filter(|one| (since + 1..=position.offset).contains(&one.offset));
        let expected: Vec<_> = expected.take(range.limit.unwrap()).map(Arc::as_ptr).collect();
        assert_eq!(answer.publications.iter().map(Arc::as_ptr).collect::<Vec<_>>(), expected);
        if position.epoch == self.top.epoch {
            let is_removed = |one: &Arc<Publication>| one.offset <= self.removed_to;
            assert!(!answer.publications.iter().any(is_removed), "it was removed");
        }
        self.subscribers.push(position);
        true
    }

    /// Delivers to the subscribers what the flow has told.
    fn deliver(&mut self) {
        for told in self.log.0.lock().drain(..) {
            self.subscribers.retain_mut(|at| match &told {
                Told::Lost(top) => at.epoch == top.epoch && at.offset >= top.offset,
                Told::Came(epoch, offsets) => {
                    let is_same = at.epoch == *epoch;
                    for offset in offsets.iter().copied().filter(|_| is_same) {
                        assert!(offset <= at.offset + 1, "a hole");
                        at.offset = at.offset.max(offset);
                    }
                    is_same
                }
            });
        }
    }

    fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Publish(count) => self.publish(count),
            Step::Hear => self.hear(),
            Step::Miss => drop(self.on_its_way.pop_front()),
            Step::Restore => self.restore(),
            Step::Read { back, limit } => self.read(back, limit),
            Step::Remove => self.remove(),
            Step::Lose => self.lose(),
            Step::Wait(_) => {}
            Step::Start { wants_newest } => {
                let range =
                    Range { reverse: wants_newest, limit: Some(wants_newest.into()), ..Range::default() };
                return self.catch_up(&range, false);
            }
            Step::CatchUp { back, limit, knows_epoch } => {
                let top = self.flow.position().map_or(0, |position| position.offset);
                let since = Some(top.saturating_add_signed(-back));
                let range = Range { since, limit: Some(limit), ..Range::default() };
                return self.catch_up(&range, knows_epoch);
            }
        }
        false
    }
}

fn publication(epoch: &Epoch, offset: u64) -> Arc<Publication> {
    let text = format!("{} {offset}", epoch.as_str());
    Arc::new(Publication { offset, ..Publication::of(RawJson::string(&text)) })
}

/// How many were answered from memory.
async fn play(steps: &[Step]) -> usize {
    let mut world = World::new();
    let mut answered = 0;
    for step in steps {
        if let Step::Wait(seconds) = step {
            tokio::time::advance(Duration::from_secs(*seconds)).await;
        }
        answered += usize::from(world.take(step));
        world.deliver();
    }
    world.restore();
    world.deliver();
    let is_whole = |at: &Position| *at == world.top;
    assert!(world.subscribers.iter().all(is_whole), "{:?} of {:?}", world.subscribers, world.top);
    answered
}

fn in_paused_time(steps: &[Step]) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(play(steps))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_answered_from_memory_is_what_the_whole_history_would_answer(steps in steps()) {
        in_paused_time(&steps);
    }
}

#[test]
fn most_who_come_back_are_answered_from_memory() {
    let round = [Step::Publish(2), Step::Hear, Step::CatchUp { back: 3, limit: 9, knows_epoch: true }];
    let start = [Step::Publish(3), Step::Hear, Step::Read { back: 9, limit: 9 }];
    let steps: Vec<_> = start.into_iter().chain(std::iter::repeat_n(round, 20).flatten()).collect();
    assert_eq!(in_paused_time(&steps), 20);
}
