//! Chance for tests: random by a seed that is told when a test fails, and how unruly a backend is.

use std::future::poll_fn;
use std::task::Poll;

/// Reruns one seed of the tests that have many.
const SEED_VARIABLE: &str = "CLARION_TEST_SEED";

/// The seeds of a test: those of `all`, or the one that is in the environment.
pub(crate) fn seeds(all: impl Iterator<Item = u64>) -> Vec<u64> {
    match std::env::var(SEED_VARIABLE) {
        Ok(seed) => vec![seed.parse().expect("a seed is a number above 0")],
        Err(_) => all.collect(),
    }
}

/// A seed for a test that has one, told if it fails.
pub(crate) fn any_seed() -> u64 {
    let seed = seeds([rand::random_range(1..u64::MAX)].into_iter())[0];
    // Output is shown if the test fails.
    eprintln!("to see it again: {SEED_VARIABLE}={seed}");
    seed
}

/// Says which seed it was if the test fails, so that it can be run again alone.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: {SEED_VARIABLE}={}", self.0);
        }
    }
}

/// A generator whose sequence is known by its seed (xorshift64*), which is above 0.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }
}

/// Waits until it was polled as often; wakes its task for each.
pub(crate) async fn turns(mut count: usize) {
    poll_fn(|ctx| {
        if count == 0 {
            return Poll::Ready(());
        }
        count -= 1;
        ctx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How unruly it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Most turns that a call waits before it takes effect, and again before its answer.
    pub(crate) turns_max: usize,
    /// How many calls of a hundred fail, half of them after they took effect.
    pub(crate) failures_percent: usize,
    /// Whether what is delivered waits until the test passes it on.
    pub(crate) holds_back: bool,
}

impl Manners {
    /// Does what it is asked, at once.
    pub(crate) const CALM: Self = Self { turns_max: 0, failures_percent: 0, holds_back: false };

    /// How the next call goes.
    pub(crate) fn fate(&self, random: &mut Random) -> Fate {
        let failure = random.below(100) < self.failures_percent;
        Fate {
            before: random.below(self.turns_max + 1),
            after: random.below(self.turns_max + 1),
            failure: failure.then(|| [Failure::Before, Failure::After][random.below(2)]),
        }
    }
}

/// How a call goes.
pub(crate) struct Fate {
    pub(crate) before: usize,
    pub(crate) after: usize,
    pub(crate) failure: Option<Failure>,
}

/// A call that is answered with an error…
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// … and did nothing.
    Before,
    /// … and took effect.
    After,
}
