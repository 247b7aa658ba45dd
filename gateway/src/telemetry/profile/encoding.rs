//! A profile as bytes: `proto/profile.proto`.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, SystemTime};

use pprof::{Frames, Symbol};
use prost::Message as _;

use self::proto::{Function, Label, Line, Location, Profile, Sample, ValueType};

mod proto {
    #![expect(unreachable_pub, reason = "generated for a public module")]

    include!(concat!(env!("OUT_DIR"), "/perftools.profiles.rs"));
}

/// Writes down how often each of `stacks` was met, from `begun_at` on and for `duration`, looked for `frequency` times in
/// a second of processor time.
pub(super) fn encode(
    stacks: &HashMap<Frames, isize>,
    begun_at: SystemTime,
    duration: Duration,
    frequency: i32,
) -> Vec<u8> {
    let mut tables = Tables::default();
    // The first text has to be the empty one.
    tables.text("");
    let period = 1_000_000_000 / i64::from(frequency);
    let nanoseconds = tables.kind("cpu", "nanoseconds");
    let sample_type = vec![tables.kind("samples", "count"), nanoseconds];
    let sample = stacks.iter().map(|(frames, &count)| tables.sample(frames, count as i64, period)).collect();
    let begun_at = begun_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let profile = Profile {
        sample_type,
        sample,
        location: tables.locations.rows,
        function: tables.functions.rows,
        string_table: tables.texts.rows,
        time_nanos: nanos(begun_at),
        duration_nanos: nanos(duration),
        period_type: Some(nanoseconds),
        period,
    };
    profile.encode_to_vec()
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Rows that are there once, and are known by their place.
struct Table<K, R> {
    places: HashMap<K, usize>,
    rows: Vec<R>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { places: HashMap::new(), rows: Vec::new() }
    }
}

impl<K: Hash + Eq, R> Table<K, R> {
    /// The place of the row of `key`, which `make` makes for that place if it is not there.
    fn place(&mut self, key: K, make: impl FnOnce(&K, usize) -> R) -> usize {
        let next = self.rows.len();
        match self.places.get(&key) {
            Some(place) => *place,
            None => {
                self.rows.push(make(&key, next));
                self.places.insert(key, next);
                next
            }
        }
    }
}

/// What samples refer to.
#[derive(Default)]
struct Tables {
    texts: Table<String, String>,
    functions: Table<(i64, i64, i64), Function>,
    locations: Table<Vec<(u64, i64)>, Location>,
}

impl Tables {
    fn text(&mut self, text: &str) -> i64 {
        self.texts.place(text.to_owned(), |text, _| text.clone()) as i64
    }

    fn kind(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(name), unit: self.text(unit) }
    }

    /// `frames` was met `count` times; its thread is a label.
    fn sample(&mut self, frames: &Frames, count: i64, period: i64) -> Sample {
        let mut innermost = frames.frames.iter().take(OWN_FRAMES_MAX);
        let own = innermost.rposition(|symbols| are_of_profiler(symbols));
        let interrupted = frames.frames.iter().skip(own.map_or(0, |place| place + 1));
        let location_id = interrupted.map(|symbols| self.location(symbols)).collect();
        let label = Label { key: self.text("thread"), str: self.text(&frames.thread_name_or_id()) };
        Sample { location_id, value: vec![count, count.saturating_mul(period)], label: vec![label] }
    }

    /// The id of the place where all of `symbols` are, of which each was inlined into the next.
    fn location(&mut self, symbols: &[Symbol]) -> u64 {
        let lines: Vec<_> =
            symbols.iter().map(|symbol| (self.function(symbol), i64::from(symbol.lineno()))).collect();
        let line = |&(function_id, line): &(u64, i64)| Line { function_id, line };
        let make = |lines: &Vec<(u64, i64)>, place| Location {
            id: id(place),
            line: lines.iter().map(line).collect(),
        };
        id(self.locations.place(lines, make))
    }

    fn function(&mut self, symbol: &Symbol) -> u64 {
        let names = (self.text(&symbol.name()), self.text(&symbol.sys_name()), self.text(&symbol.filename()));
        let make = |&(name, system_name, filename): &(i64, i64, i64), place| Function {
            id: id(place),
            name,
            system_name,
            filename,
        };
        id(self.functions.place(names, make))
    }
}

/// The profiler looks at a stack from the innermost of so many frames at most. What is inlined there may have lost its path.
const OWN_FRAMES_MAX: usize = 4;

/// Whether it is what looked at the stack, innermost, and not what was interrupted by that.
fn are_of_profiler(symbols: &[Symbol]) -> bool {
    let is_of_profiler = |symbol: &Symbol| {
        let name = symbol.name();
        let path = name.trim_start_matches('<');
        path.starts_with("backtrace::") || path.starts_with("pprof::")
    };
    symbols.iter().all(is_of_profiler)
}

/// Of the row at `place`; zero means none.
fn id(place: usize) -> u64 {
    place as u64 + 1
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::super::{ProfileError, profile};
    use super::*;

    fn symbol(name: &str, lineno: u32) -> Symbol {
        Symbol {
            name: Some(name.into()),
            addr: None,
            lineno: Some(lineno),
            filename: Some("src/a.rs".into()),
        }
    }

    fn frames(frames: Vec<Vec<Symbol>>) -> Frames {
        Frames { frames, thread_name: "shard".into(), thread_id: 1, sample_timestamp: SystemTime::UNIX_EPOCH }
    }

    fn decode(bytes: &[u8]) -> Profile {
        Profile::decode(bytes).unwrap()
    }

    fn text(profile: &Profile, place: i64) -> &str {
        &profile.string_table[usize::try_from(place).unwrap()]
    }

    /// The names of the functions of a sample, the innermost first.
    fn stack<'a>(profile: &'a Profile, sample: &Sample) -> Vec<&'a str> {
        let row = |id: u64| usize::try_from(id - 1).unwrap();
        let locations = sample.location_id.iter().map(|&id| &profile.location[row(id)]);
        let functions = locations
            .flat_map(|location| &location.line)
            .map(|line| &profile.function[row(line.function_id)]);
        functions.map(|function| text(profile, function.name)).collect()
    }

    #[test]
    fn stacks_are_written_down_with_what_they_share_once() {
        let inlined = || vec![symbol("inner", 7), symbol("outer", 8)];
        let root = || vec![symbol("main", 1)];
        let stacks = HashMap::from([
            (
                frames(vec![
                    vec![symbol("backtrace::trace", 5), symbol("<pprof::Trace>::trace", 6)],
                    inlined(),
                    root(),
                ]),
                3,
            ),
            (frames(vec![vec![symbol("other", 9)], root()]), 2),
        ]);
        let begun_at = SystemTime::UNIX_EPOCH + Duration::from_secs(5);
        let profile = decode(&encode(&stacks, begun_at, Duration::from_secs(1), 100));
        assert_eq!(profile.string_table[0], "");
        assert_eq!(
            (profile.time_nanos, profile.duration_nanos, profile.period),
            (5_000_000_000, 1_000_000_000, 10_000_000)
        );
        let kinds: Vec<_> = profile
            .sample_type
            .iter()
            .map(|kind| (text(&profile, kind.r#type), text(&profile, kind.unit)))
            .collect();
        assert_eq!(kinds, [("samples", "count"), ("cpu", "nanoseconds")]);
        let mut samples: Vec<_> =
            profile.sample.iter().map(|sample| (sample.value.clone(), stack(&profile, sample))).collect();
        samples.sort();
        assert_eq!(
            samples,
            [
                (vec![2, 20_000_000], vec!["other", "main"]),
                (vec![3, 30_000_000], vec!["inner", "outer", "main"])
            ]
        );
        assert_eq!((profile.location.len(), profile.function.len()), (3, 4));
        let label = &profile.sample[0].label[0];
        assert_eq!((text(&profile, label.key), text(&profile, label.str)), ("thread", "shard"));
        let line =
            profile.location.iter().flat_map(|location| &location.line).find(|line| line.line == 9).unwrap();
        assert_eq!(
            text(&profile, profile.function[usize::try_from(line.function_id - 1).unwrap()].name),
            "other"
        );
    }

    #[inline(never)]
    fn a_function_that_takes_its_time(is_over: &AtomicBool) {
        let mut number = 1u64;
        while !is_over.load(Ordering::Relaxed) {
            (0..100_000).for_each(|_| number = black_box(number.wrapping_mul(3)));
        }
    }

    /// Asks until nobody else takes one: what was broken off may still be ending.
    async fn profile_in_turn(time: Duration) -> Profile {
        loop {
            match profile(time).await {
                Ok(bytes) => return decode(&bytes),
                Err(error) => assert_eq!(error, ProfileError::Busy),
            }
            tokio::task::yield_now().await;
        }
    }

    /// One test for all of it, because there is one profiler in a process.
    #[tokio::test]
    async fn a_profile_says_what_takes_time_is_alone_and_can_be_broken_off() {
        let hours = Duration::from_secs(36_000);
        assert!(tokio::time::timeout(Duration::from_millis(50), profile(hours)).await.is_err());
        let is_over = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&is_over);
        let working = thread::spawn(move || a_function_that_takes_its_time(&busy));
        let taken = profile_in_turn(Duration::from_secs(1)).await;
        is_over.store(true, Ordering::Relaxed);
        working.join().unwrap();
        let met = |sample: &&Sample| stack(&taken, sample).iter().any(|name| name.contains("takes_its_time"));
        let times: i64 = taken.sample.iter().filter(met).map(|sample| sample.value[0]).sum();
        assert!(times > 5, "{times} of {:?}", taken.sample);
        let by_profiler = |sample: &Sample| stack(&taken, sample).iter().any(|name| name.contains("pprof::"));
        // The profiler may be met at its own work; who is interrupted by it is not.
        assert!(!taken.sample.iter().filter(met).any(by_profiler));
        let both = tokio::join!(profile(Duration::from_millis(10)), profile(Duration::from_millis(10)));
        assert_eq!(both.1, Err(ProfileError::Busy));
        assert!(both.0.is_ok());
    }
}
