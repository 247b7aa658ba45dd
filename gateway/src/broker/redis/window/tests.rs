use super::*;
use crate::model::RawJson;

const HOUR: Duration = Duration::from_secs(3_600);

fn run(offsets: impl IntoIterator<Item = u64>, bytes: usize) -> Vec<Arc<Publication>> {
    let text = "x".repeat(bytes);
    let publication = |offset| Arc::new(Publication { offset, ..Publication::of(RawJson::string(&text)) });
    offsets.into_iter().map(publication).collect()
}

fn after(since: u64) -> Range {
    Range { since: Some(since), limit: Some(300), bytes_max: Some(1 << 20), ..Range::default() }
}

fn top() -> Range {
    Range { limit: Some(0), ..Range::default() }
}

fn newest() -> Range {
    Range { limit: Some(1), reverse: true, ..Range::default() }
}

/// A window at a time that the test sets.
struct Bench {
    window: Window,
    now: Instant,
}

impl Bench {
    /// Somebody read the top, which was 5.
    fn founded() -> Self {
        let mut bench = Self { window: Window::default(), now: Instant::now() };
        bench.window.learn(&[], 5, 5, bench.now);
        bench
    }

    fn push(&mut self, offsets: std::ops::RangeInclusive<u64>) {
        self.window.push(&run(offsets, 1), self.now);
    }

    fn read(&mut self, range: &Range, position: u64) -> Option<Vec<u64>> {
        let read = self.window.read(range, position, HOUR, self.now)?;
        let bytes: usize = self.window.entries.iter().map(|one| one.publication.cost_bytes()).sum();
        assert_eq!(self.window.bytes(), bytes);
        Some(read.iter().map(|publication| publication.offset).collect())
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn what_was_delivered_answers_whoever_misses_no_more_than_that() {
    let mut bench = Bench::founded();
    assert_eq!(bench.read(&after(5), 5), Some(vec![]), "nothing is missing");
    bench.push(6..=7);
    bench.push(8..=8);
    assert_eq!(bench.read(&after(5), 8), Some(vec![6, 7, 8]));
    assert_eq!(bench.read(&after(7), 8), Some(vec![8]));
    assert_eq!(bench.read(&after(8), 8), Some(vec![]));
    assert_eq!(bench.read(&after(4), 8), None, "5 is not here");
    assert_eq!(bench.read(&after(9), 8), None, "somebody knows more than this node");
    assert_eq!(bench.read(&newest(), 8), Some(vec![8]));
    assert_eq!(bench.read(&top(), 8), Some(vec![]));
    assert_eq!(bench.read(&Range::default(), 8), None, "from the oldest that is kept");
    assert_eq!(bench.read(&Range { limit: Some(2), ..newest() }, 8), None);
}

#[test]
fn limits_are_obeyed_as_by_a_read() {
    let mut bench = Bench::founded();
    bench.push(6..=9);
    let each = run([6], 1)[0].cost_bytes();
    assert_eq!(bench.read(&Range { limit: Some(2), ..after(5) }, 9), Some(vec![6, 7]));
    assert_eq!(bench.read(&Range { bytes_max: Some(3 * each), ..after(5) }, 9), Some(vec![6, 7, 8]));
    assert_eq!(bench.read(&Range { bytes_max: Some(3 * each - 1), ..after(5) }, 9), Some(vec![6, 7]));
    assert_eq!(bench.read(&Range { bytes_max: Some(0), ..after(5) }, 9), Some(vec![6]));
    assert_eq!(bench.read(&Range { limit: None, bytes_max: None, ..after(5) }, 9), Some(vec![6, 7, 8, 9]));
}

#[test]
fn nothing_is_answered_that_does_not_end_at_the_position() {
    let mut bench = Bench::founded();
    // On their way when the top was read.
    bench.push(4..=4);
    assert_eq!(bench.read(&after(3), 5), None);
    assert_eq!(bench.read(&newest(), 5), None);
    assert_eq!(bench.read(&after(5), 5), Some(vec![]));
    bench.push(5..=6);
    assert_eq!(bench.read(&after(3), 6), Some(vec![4, 5, 6]));
    // Delivered after something that is not delivered any more.
    bench.push(8..=9);
    assert_eq!(bench.read(&after(6), 9), None);
    assert_eq!(bench.read(&after(7), 9), Some(vec![8, 9]));
}

#[test]
fn what_was_read_goes_before_what_was_delivered() {
    let mut bench = Bench::founded();
    bench.push(6..=8);
    bench.window.learn(&run(2..=7, 1), 7, 8, bench.now);
    assert_eq!(bench.read(&after(1), 8), Some((2..=8).collect()));
    bench.window.learn(&run(7..=9, 1), 9, 8, bench.now);
    assert_eq!(bench.read(&after(1), 8), Some((2..=8).collect()), "9 is on its way");
    bench.push(9..=9);
    assert_eq!(bench.read(&after(1), 9), Some((2..=9).collect()));
    assert_eq!(bench.read(&after(0), 9), None);
    let mut bench = Bench::founded();
    bench.window.learn(&run(3..=5, 1), 5, 5, bench.now);
    bench.push(6..=6);
    assert_eq!(bench.read(&after(2), 6), Some((3..=6).collect()));
}

#[test]
fn what_was_read_and_does_not_join_is_not_remembered() {
    let is_refused = |publications: &[Arc<Publication>], top| {
        let mut bench = Bench::founded();
        bench.push(11..=12);
        bench.window.learn(publications, top, 12, bench.now);
        bench.read(&after(9), 12).is_none() && bench.read(&after(10), 12) == Some(vec![11, 12])
    };
    assert!(is_refused(&run(2..=9, 1), 9), "10 came in between");
    assert!(is_refused(&run(2..=10, 1), 11), "cut off");
    assert!(is_refused(&run([8, 10, 11], 1), 11), "9 is missing");
    assert!(!is_refused(&run(2..=10, 1), 10));
    let mut bench = Bench::founded();
    bench.window.learn(&run(2..=7, 1), 7, 9, bench.now);
    assert_eq!(bench.read(&after(1), 9), None, "what was delivered since is not here");
}

#[test]
fn what_is_too_old_is_not_answered() {
    let mut bench = Bench::founded();
    bench.push(6..=7);
    bench.pass(15);
    bench.push(8..=8);
    assert_eq!(bench.read(&after(5), 8), Some(vec![6, 7, 8]));
    bench.pass(6);
    assert_eq!(bench.read(&after(5), 8), None);
    assert_eq!(bench.read(&after(7), 8), Some(vec![8]));
    assert!(bench.window.read(&after(7), 8, Duration::from_secs(5), bench.now).is_none());
    bench.pass(15);
    assert_eq!(bench.read(&after(8), 8), None, "nothing came for long, so nobody has looked either");
    bench.window.learn(&run(6..=8, 1), 8, 8, bench.now);
    assert_eq!(bench.read(&after(5), 8), Some(vec![6, 7, 8]), "it is as old as the read");
}

#[test]
fn no_more_is_remembered_than_its_share() {
    let mut bench = Bench::founded();
    (6..=1_000).for_each(|offset| bench.push(offset..=offset));
    assert_eq!(bench.window.entries.len(), PUBLICATIONS_MAX);
    assert_eq!(bench.read(&after(488), 1_000).map(|read| read.len()), Some(300));
    assert_eq!(bench.read(&after(487), 1_000), None);
    bench.window.learn(&run(1..=1_000, 1), 1_000, 1_000, bench.now);
    assert_eq!(bench.window.entries.len(), PUBLICATIONS_MAX, "the newest of them");
    bench.window.push(&run(1_001..=1_001, BYTES_MAX / 2), bench.now);
    bench.window.push(&run(1_002..=1_002, BYTES_MAX / 2), bench.now);
    assert!(bench.window.bytes() <= BYTES_MAX);
    assert_eq!(bench.read(&after(1_001), 1_002), Some(vec![1_002]));
    bench.window.push(&run(1_003..=1_003, BYTES_MAX), bench.now);
    assert_eq!((bench.window.bytes(), bench.read(&after(1_002), 1_003)), (0, None));
    assert_eq!(bench.read(&after(1_003), 1_003), Some(vec![]));
    bench.window.push(&run(1_004..=1_020, BYTES_MAX / 16), bench.now);
    assert_eq!(bench.read(&after(1_019), 1_020), None, "nor the end of what is too much in one piece");
}

#[test]
fn what_was_removed_is_not_answered_though_it_comes() {
    let mut bench = Bench::founded();
    bench.push(6..=7);
    bench.window.remove(u64::MAX);
    bench.push(8..=8);
    assert_eq!((bench.read(&after(5), 8), bench.read(&after(7), 8)), (None, None));
    bench.window.remove(9);
    bench.push(9..=10);
    assert_eq!(bench.read(&after(8), 10), None);
    assert_eq!(bench.read(&after(9), 10), Some(vec![10]));
    // Read before it was removed.
    bench.window.learn(&run(7..=10, 1), 10, 10, bench.now);
    assert_eq!(bench.read(&after(8), 10), None);
    assert_eq!(bench.read(&newest(), 10), Some(vec![10]));
}

#[test]
fn nothing_is_answered_until_somebody_has_read() {
    let mut bench = Bench { window: Window::default(), now: Instant::now() };
    bench.push(6..=7);
    assert_eq!((bench.read(&after(5), 7), bench.read(&top(), 7)), (None, None));
    bench.window.learn(&[], 7, 7, bench.now);
    assert_eq!(bench.read(&after(5), 7), Some(vec![6, 7]));
}
