use parking_lot::Mutex;

use super::*;
use crate::model::RawJson;

/// Writes down what it is told: offsets, and `lost 7` for a loss up to there.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    fn write(&self, epoch: Option<&Epoch>, what: &str) {
        self.0.lock().push(format!("{}{what}", epoch.map_or("", Epoch::as_str)));
    }
}

impl Receiver for Log {
    fn deliver(&self, _: &Channel, epoch: Option<&Epoch>, publications: &[Arc<Publication>]) {
        for publication in publications {
            self.write(epoch, &publication.offset.to_string());
        }
    }

    fn announce(&self, _: &Channel, _: &Notice) {
        self.write(None, "notice");
    }

    fn lose(&self, _: &Channel, top: &Position) {
        self.write(Some(&top.epoch), &format!(" lost {}", top.offset));
    }
}

struct Bench {
    flow: Flow,
    log: Log,
}

fn run(offsets: impl IntoIterator<Item = u64>) -> Vec<Arc<Publication>> {
    let publication = |offset| Arc::new(Publication { offset, ..Publication::of(RawJson::string("x")) });
    offsets.into_iter().map(publication).collect()
}

fn at(epoch: &str, offset: u64) -> Position {
    Position { epoch: Epoch::new(epoch), offset }
}

impl Bench {
    fn new() -> Self {
        Self { flow: Flow::new(Channel::parse("a", 255).unwrap()), log: Log::default() }
    }

    /// Followed from `e5` on.
    fn followed() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.flow.observe(&at("e", 5), false), Next::Nothing);
        bench
    }

    fn arrive(&mut self, epoch: &str, offsets: impl IntoIterator<Item = u64>) -> Next {
        self.flow.arrive(Epoch::new(epoch), run(offsets), &self.log)
    }

    fn found(&mut self, since: u64, top: Position, offsets: impl IntoIterator<Item = u64>) -> (Healed, Next) {
        self.flow.found(&at("e", since), History { top, publications: run(offsets) }, &self.log)
    }

    fn log(&self) -> String {
        self.log.take().join(" ")
    }
}

const NOTHING: Healed = Healed { publications: 0, is_lost: false };

fn healed(publications: usize) -> Healed {
    Healed { publications, is_lost: false }
}

fn lost(publications: usize) -> Healed {
    Healed { publications, is_lost: true }
}

#[test]
fn what_goes_on_is_delivered_once_and_in_order() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 6..=7), Next::Nothing);
    assert_eq!(bench.arrive("e", 6..=8), Next::Nothing);
    assert_eq!(bench.arrive("e", 7..=8), Next::Nothing);
    bench.flow.pass(&run([0]), &bench.log);
    assert_eq!(bench.log(), "e6 e7 e8 0");
}

#[test]
fn a_gap_is_read_and_what_comes_meanwhile_waits() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 8..=8), Next::Read);
    assert_eq!(bench.arrive("e", 9..=10), Next::Nothing, "it is being read");
    assert_eq!(bench.log(), "");
    assert_eq!(bench.found(5, at("e", 9), 6..=9), (healed(4), Next::Nothing));
    assert_eq!(bench.log(), "e6 e7 e8 e9 e10");
    assert!(!bench.flow.is_healing());
}

#[test]
fn what_goes_on_while_the_history_is_read_is_delivered_at_once_and_not_again() {
    let mut bench = Bench::followed();
    assert_eq!(bench.flow.suspect(), Next::Read);
    assert_eq!(bench.arrive("e", 6..=7), Next::Nothing);
    assert_eq!(bench.log(), "e6 e7");
    assert_eq!(bench.found(5, at("e", 6), 6..=6), (NOTHING, Next::Nothing));
    assert_eq!((bench.log().as_str(), bench.flow.position()), ("", Some(&at("e", 7))));
}

#[test]
fn what_kept_publications_do_not_reach_back_to_but_came_is_no_loss() {
    let mut bench = Bench::followed();
    assert_eq!(bench.flow.suspect(), Next::Read);
    assert_eq!(bench.arrive("e", 6..=20), Next::Nothing);
    assert_eq!(bench.found(5, at("e", 20), 16..=20), (NOTHING, Next::Nothing));
    assert_eq!(bench.log().split(' ').count(), 15);
}

#[test]
fn a_long_gap_is_read_page_by_page() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 20..=20), Next::Read);
    assert_eq!(bench.found(5, at("e", 20), 6..=10), (healed(5), Next::Read));
    assert_eq!(bench.found(10, at("e", 21), 11..=21), (healed(11), Next::Nothing));
    assert_eq!(bench.flow.position(), Some(&at("e", 21)));
    assert_eq!(bench.log().split(' ').count(), 16);
}

#[test]
fn what_is_gone_is_said_and_the_rest_is_delivered() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 12..=12), Next::Read);
    assert_eq!(bench.found(5, at("e", 12), 9..=12), (lost(4), Next::Nothing));
    assert_eq!(bench.log(), "e lost 8 e9 e10 e11 e12");
    // Nothing at all is kept, and something came.
    assert_eq!(bench.arrive("e", 15..=15), Next::Read);
    assert_eq!(bench.found(12, at("e", 15), []), (lost(0), Next::Nothing));
    assert_eq!(bench.log(), "e lost 14 e15");
    assert_eq!(bench.flow.suspect(), Next::Read);
    assert_eq!(bench.found(15, at("e", 17), []), (lost(0), Next::Nothing));
    assert_eq!(bench.log(), "e lost 17");
}

#[test]
fn another_epoch_is_told_once_and_what_is_kept_of_it_is_delivered() {
    let mut bench = Bench::followed();
    assert_eq!(bench.flow.observe(&at("f", 0), false), Next::Read, "somebody found it out");
    assert_eq!(bench.found(5, at("f", 0), []), (lost(0), Next::Nothing));
    assert_eq!(bench.log(), "f lost 0");
    assert_eq!(bench.arrive("f", 1..=2), Next::Nothing);
    assert_eq!(bench.log(), "f1 f2");
    // Its publications tell as well.
    assert_eq!(bench.arrive("g", 4..=4), Next::Nothing);
    assert_eq!((bench.log().as_str(), bench.flow.position()), ("g4", Some(&at("g", 4))));
    // Made while nothing was heard.
    assert_eq!(bench.flow.suspect(), Next::Read);
    let history = |top, offsets| History { top, publications: run(offsets) };
    let (log, flow) = (&bench.log, &mut bench.flow);
    assert_eq!(flow.found(&at("g", 4), history(at("h", 2), 0..0), log), (lost(0), Next::Read));
    assert_eq!(flow.found(&at("h", 0), history(at("h", 2), 1..3), log), (healed(2), Next::Nothing));
    assert_eq!(bench.log(), "h lost 0 h1 h2");
}

#[test]
fn a_new_epoch_ends_what_waits_of_the_old_one() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 8..=8), Next::Read);
    assert_eq!(bench.arrive("f", 1..=1), Next::Nothing);
    assert_eq!(bench.found(5, at("e", 8), 6..=8), (NOTHING, Next::Read), "what was read is of the old one");
    let history = History { top: at("f", 1), publications: vec![] };
    assert_eq!(bench.flow.found(&at("f", 1), history, &bench.log).1, Next::Nothing);
    assert_eq!(bench.log(), "f1");
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 8..=8), Next::Read);
    assert_eq!(bench.found(5, at("f", 0), []), (lost(0), Next::Nothing));
    assert_eq!(bench.arrive("f", 1..=1), Next::Nothing);
    assert_eq!(bench.log(), "f lost 0 f1");
}

#[test]
fn what_was_on_its_way_when_somebody_began_to_follow_is_delivered() {
    let mut bench = Bench::new();
    assert_eq!(bench.flow.observe(&at("e", 5), false), Next::Nothing);
    assert_eq!(bench.arrive("e", 4..=4), Next::Nothing);
    assert_eq!(bench.arrive("e", 5..=6), Next::Nothing);
    assert_eq!(bench.arrive("e", 5..=6), Next::Nothing);
    assert_eq!((bench.log().as_str(), bench.flow.position()), ("e4 e5 e6", Some(&at("e", 6))));
}

#[test]
fn what_was_missed_again_while_the_history_was_read_is_read_again() {
    let mut bench = Bench::followed();
    assert_eq!(bench.flow.suspect(), Next::Read);
    assert_eq!(bench.flow.suspect(), Next::Nothing);
    assert_eq!(bench.found(5, at("e", 6), 6..=6), (healed(1), Next::Read));
    assert_eq!(bench.found(6, at("e", 7), 7..=7), (healed(1), Next::Nothing));
    assert_eq!(bench.log(), "e6 e7");
}

#[test]
fn more_than_may_be_held_is_read_instead() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 7..=7), Next::Read);
    assert_eq!(bench.arrive("e", 8..=20_000), Next::Nothing);
    assert_eq!(bench.arrive("e", 20_001..=20_001), Next::Nothing);
    assert_eq!(bench.found(5, at("e", 7), 6..=7), (healed(2), Next::Read));
    assert_eq!(bench.found(7, at("e", 20_001), 8..=20_001), (healed(19_994), Next::Nothing));
    assert_eq!(bench.log().split(' ').count(), 19_996);
}

#[test]
fn nobody_misses_anything_who_does_not_follow() {
    let mut bench = Bench::new();
    assert_eq!(bench.flow.suspect(), Next::Nothing);
    assert_eq!(bench.arrive("e", 9..=9), Next::Nothing);
    assert_eq!(bench.log(), "e9");
    let mut bench = Bench::new();
    assert_eq!(bench.flow.observe(&at("e", 5), true), Next::Read, "it may be behind already");
}

/// What is answered from memory to somebody who has everything up to `since`.
fn answer(bench: &mut Bench, epoch: &str, since: u64) -> Option<Vec<u64>> {
    let range = Range { since: Some(since), limit: Some(9), ..Range::default() };
    let answer = bench.flow.answer(epoch, &range, Duration::MAX, Instant::now())?;
    assert_eq!(Some(&answer.top), bench.flow.position());
    Some(answer.publications.iter().map(|publication| publication.offset).collect())
}

/// Somebody reads the history, which is `offsets`, up to `top`.
fn learn(bench: &mut Bench, top: Position, offsets: impl IntoIterator<Item = u64>) {
    let (began, history) = (bench.flow.confirmation(), History { top, publications: run(offsets) });
    bench.flow.learn(began, &Range::default(), &history, Instant::now());
}

#[test]
fn who_comes_back_is_answered_from_memory_up_to_the_position() {
    let mut bench = Bench::followed();
    bench.flow.confirm(Confirmation(0));
    learn(&mut bench, at("e", 5), 4..=5);
    assert_eq!(bench.arrive("e", 6..=7), Next::Nothing);
    assert_eq!(answer(&mut bench, "e", 3), Some(vec![4, 5, 6, 7]));
    assert_eq!(answer(&mut bench, "", 6), Some(vec![7]));
    assert_eq!(answer(&mut bench, "f", 6), None, "it may know more than this node");
    assert_eq!(bench.arrive("e", 9..=9), Next::Read);
    assert_eq!(answer(&mut bench, "e", 6), None, "something is missing");
    assert_eq!(bench.found(7, at("e", 9), 8..=9), (healed(2), Next::Nothing));
    assert_eq!(answer(&mut bench, "e", 3), Some(vec![4, 5, 6, 7, 8, 9]));
    bench.flow.forget();
    assert_eq!((answer(&mut bench, "e", 8), bench.flow.remembered_bytes()), (None, 0));
}

#[test]
fn what_was_remembered_before_a_loss_or_of_another_epoch_is_no_answer() {
    let mut bench = Bench::followed();
    bench.flow.confirm(Confirmation(0));
    learn(&mut bench, at("e", 5), 4..=5);
    assert_eq!(bench.arrive("e", 8..=8), Next::Read);
    assert_eq!(bench.found(5, at("e", 8), 8..=8), (lost(1), Next::Nothing));
    assert_eq!(answer(&mut bench, "e", 7), None, "nobody has read since");
    learn(&mut bench, at("e", 8), []);
    assert_eq!((answer(&mut bench, "e", 7), answer(&mut bench, "e", 5)), (Some(vec![8]), None));
    assert_eq!(bench.arrive("f", 9..=9), Next::Nothing);
    assert_eq!((answer(&mut bench, "f", 8), answer(&mut bench, "e", 7)), (None, None));
    // A read of the old one comes late.
    learn(&mut bench, at("e", 8), 1..=8);
    assert_eq!(answer(&mut bench, "f", 8), None);
    learn(&mut bench, at("f", 9), []);
    assert_eq!(answer(&mut bench, "f", 8), Some(vec![9]));
}

#[test]
fn nothing_is_answered_before_the_subscription_is_confirmed_and_the_history_was_read_after() {
    let mut bench = Bench::followed();
    assert_eq!(bench.arrive("e", 6..=6), Next::Nothing);
    learn(&mut bench, at("e", 6), 1..=6);
    assert_eq!(answer(&mut bench, "e", 6), None);
    let began = bench.flow.confirmation();
    bench.flow.confirm(Confirmation(1));
    let history = History { top: at("e", 6), publications: run(1..=6) };
    bench.flow.learn(began, &Range::default(), &history, Instant::now());
    assert_eq!(answer(&mut bench, "e", 6), None, "the read began before");
    learn(&mut bench, at("e", 6), 1..=6);
    assert_eq!(answer(&mut bench, "e", 5), Some(vec![6]));
    bench.flow.confirm(Confirmation(2));
    assert_eq!(answer(&mut bench, "e", 5), None, "it was not subscribed for a while");
}

#[test]
fn a_channel_without_a_history_remembers_nothing() {
    let mut bench = Bench::new();
    bench.flow.confirm(Confirmation(0));
    bench.flow.pass(&run([0, 0]), &bench.log);
    assert!(bench.flow.window.is_none());
}

#[test]
fn a_top_that_is_reached_needs_no_reading() {
    let mut bench = Bench::followed();
    assert_eq!(bench.flow.suspect(), Next::Read);
    assert_eq!(bench.flow.compare(&at("e", 6), &bench.log), None);
    assert_eq!(bench.flow.compare(&at("f", 5), &bench.log), None);
    assert_eq!(bench.flow.compare(&at("e", 4), &bench.log), None, "it may have lost its end");
    assert_eq!(bench.flow.compare(&at("e", 5), &bench.log), Some(Next::Nothing));
    assert!(!bench.flow.is_healing());
    assert!(bench.flow.lags(&at("e", 6)) && !bench.flow.lags(&at("e", 5)) && !bench.flow.lags(&at("f", 6)));
}
