//! What came out of a run: plain data, for a table, a page, or JSON.
//!
//! Every time is a [`Duration`] since the start of the run's clock.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

/// What the clients of a crowd went through and were given.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrowdFindings {
    /// How many clients there were.
    pub clients: usize,
    /// How many of them were live at the end.
    pub live_at_end: usize,
    /// What the oracle says of the publications.
    pub verdict: Verdict,
    /// Every time that a client was connected and subscribed, in this order.
    pub opened: Vec<Opening>,
    /// Every attempt to connect that failed.
    pub refused: Vec<Refused>,
    /// Every connection that ended before the end of the run, but those that the crowd itself cut.
    pub closed: Vec<Closing>,
    /// How many connections the crowd itself cut.
    pub cut: u64,
    /// How many clients were told not to come back: by a code (3500–3999, 4500–4999, 1009), by an error of a command that
    /// does not pass, or by an unsubscription below 2500.
    pub terminal: u64,
    /// Every time that a client was away and came back.
    pub blackouts: Vec<Blackout>,
    /// How long live publications took, by the second in which they were published.
    pub delays: Delays,
    /// What else clients were told.
    pub notices: Notices,
    /// Commands that were answered by an error, and what could not be understood, in words (the first of them).
    pub failures: Vec<String>,
    /// How many failures there were.
    pub failures_total: u64,
    /// Events for which there was no room in the lists above. 0 unless a run is absurdly long.
    pub unrecorded: u64,
}

impl CrowdFindings {
    /// How many clients opened a connection in each tenth of a second since the start of the run.
    pub fn openings_per_tenth(&self) -> Vec<u32> {
        per_tenth(self.opened.iter().map(|opening| opening.at))
    }

    /// As [`CrowdFindings::openings_per_tenth`], but only of those who had been there before.
    pub fn returns_per_tenth(&self) -> Vec<u32> {
        per_tenth(self.opened.iter().filter(|opening| opening.was_return).map(|opening| opening.at))
    }
}

/// What the oracle says. All but `lost_declared` must be 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Publications that a client did not get and was not told of, summed over clients.
    pub lost_silent: u64,
    /// Publications that a client did not get, and it was told so.
    pub lost_declared: u64,
    /// Publications that came to a client twice, or that one idempotency key got twice.
    pub duplicated: u64,
    /// Publications that came after later ones.
    pub reordered: u64,
    /// Places of a history in which two different publications were seen.
    pub forked: u64,
    /// Clients that did not have everything when all was quiet.
    pub behind_at_end: u64,
    /// The first of what was wrong, in words.
    pub examples: Vec<String>,
}

/// More examples than these help nobody.
pub const EXAMPLES_MAX: usize = 20;

impl Verdict {
    /// Whether nothing was broken. What was declared as lost is not.
    pub fn is_clean(&self) -> bool {
        let Self { lost_silent, duplicated, reordered, forked, behind_at_end, .. } = self;
        [lost_silent, duplicated, reordered, forked, behind_at_end].into_iter().all(|&count| count == 0)
    }

    /// Counts what was found of one among many; its examples begin with `who`.
    pub fn add(&mut self, other: Self, who: &str) {
        self.lost_silent += other.lost_silent;
        self.lost_declared += other.lost_declared;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.forked += other.forked;
        self.behind_at_end += other.behind_at_end;
        for words in other.examples {
            self.example(format!("{who}: {words}"));
        }
    }

    /// Says something in words, unless enough was said.
    pub(crate) fn example(&mut self, words: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(words);
        }
    }
}

/// A client became live: connected and subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// When.
    pub at: Duration,
    /// Which of the crowd.
    pub client: usize,
    /// How many attempts it took, this one included, since it was last live.
    pub attempt: u32,
    /// Whether it had been live before.
    pub was_return: bool,
}

/// An attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// When.
    pub at: Duration,
    /// Which of the crowd.
    pub client: usize,
    /// The HTTP status; `None` if there was no answer of HTTP.
    pub status: Option<u16>,
    /// `Retry-After` in seconds, if there was one.
    pub retry_after: Option<u64>,
}

/// A connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// When.
    pub at: Duration,
    /// Which of the crowd.
    pub client: usize,
    /// The code of the close frame; `None` if TCP was gone without one.
    pub code: Option<u16>,
}

/// A client was away for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Blackout {
    /// Which of the crowd.
    pub client: usize,
    /// When its connection ended.
    pub closed_at: Duration,
    /// When it was subscribed again and had what it missed, or was told that it will not get it.
    pub live_at: Duration,
    /// How much of the time in between it waited of its own accord.
    pub own_backoff: Duration,
}

impl Blackout {
    /// How long it was away beyond its own waiting.
    pub fn beyond_backoff(&self) -> Duration {
        (self.live_at - self.closed_at).saturating_sub(self.own_backoff)
    }
}

/// What clients were told beside publications.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notices {
    /// Joins, as heard by one client of each channel.
    pub joins: u64,
    /// Leaves, as heard by one client of each channel.
    pub leaves: u64,
    /// Leaves of a client id whose leave had been heard by the same client before.
    pub leaves_twice: u64,
    /// Returns after which a client got exactly what it had missed.
    pub recovered: u64,
    /// Returns after which a client was told that it will not get everything.
    pub not_recovered: u64,
    /// Times that the server ended a subscription and left the connection open.
    pub unsubscribed: u64,
}

/// How long publications took, from their publishing to each client that was live all the while.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Delays {
    /// One for each second of the run, by when they were published.
    pub seconds: Vec<Second>,
}

impl Delays {
    /// The delays in microseconds of what was published from `from` until before `until`, by whole seconds.
    pub fn between(&self, from: Duration, until: Duration) -> Histogram<u64> {
        let mut sum = histogram();
        let seconds = |at: Duration| usize::try_from(at.as_secs()).unwrap_or(usize::MAX);
        for second in self.seconds.iter().take(seconds(until)).skip(seconds(from)) {
            sum += &second.micros;
        }
        sum
    }
}

/// The delays of one second.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// In microseconds. Written as count, quantiles and maximum.
    #[serde(flatten, serialize_with = "quantiles")]
    pub micros: Histogram<u64>,
}

impl Default for Second {
    fn default() -> Self {
        Self { micros: histogram() }
    }
}

/// An empty histogram that takes any number of microseconds, with two significant digits.
fn histogram() -> Histogram<u64> {
    Histogram::new(2).expect("two digits are a possible precision")
}

fn quantiles<S: Serializer>(micros: &Histogram<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Quantiles {
        count: u64,
        p50_us: u64,
        p99_us: u64,
        max_us: u64,
    }
    let quantiles = Quantiles {
        count: micros.len(),
        p50_us: micros.value_at_quantile(0.5),
        p99_us: micros.value_at_quantile(0.99),
        max_us: micros.max(),
    };
    quantiles.serialize(serializer)
}

/// What came of publishing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PublishFindings {
    /// Publications, each counted once however often it was tried.
    pub sent: u64,
    /// Publications that were acknowledged in the end.
    pub acknowledged: u64,
    /// Publications that failed twice: the second time with the same key on another node.
    pub failed_after_one_retry: u64,
    /// Publications that were not acknowledged when the publisher stopped.
    pub unacknowledged: u64,
    /// Publications that were never tried, because too many others were still waiting for an answer.
    pub skipped: u64,
    /// Requests beyond the first of each publication.
    pub retries: u64,
    /// Every time in which what a back end publishes failed even after one retry.
    pub outages: Vec<Outage>,
    /// How many publications were acknowledged in each tenth of a second since the start of the run.
    pub acknowledged_per_tenth: Vec<u32>,
    /// Why requests failed, in words (the first of them).
    pub failures: Vec<String>,
}

/// A time in which nothing could be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// When the first publication failed.
    pub from: Duration,
    /// When the next publication was acknowledged; `None` if none was.
    pub until: Option<Duration>,
}

/// How many of `times` are in each tenth of a second, up to the last that has any.
fn per_tenth(times: impl Iterator<Item = Duration>) -> Vec<u32> {
    let mut counts = Vec::new();
    for at in times {
        count_tenth(&mut counts, at);
    }
    counts
}

/// Counts something that happened at `at` in its tenth of a second.
pub(crate) fn count_tenth(counts: &mut Vec<u32>, at: Duration) {
    let tenth = usize::try_from(at.as_millis() / 100).expect("no run is longer than memory");
    if counts.len() <= tenth {
        counts.resize(tenth + 1, 0);
    }
    counts[tenth] += 1;
}
