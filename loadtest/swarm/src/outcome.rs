//! What came of a play: plain data that a play fills, that a table, a page and JSON show, and that can be merged.
//!
//! An [`Outcome`] is one or several processes' findings. Whatever can be merged is kept so that merging is exact: counts
//! are sums, distributions are histograms and not percentiles, and a figure remembers what it was computed from
//! ([`figure::Source`]). Times are relative to the start of the outcome, whose own time is that of the wall clock, so that
//! what several machines found can be laid over each other; how well depends on how well their clocks agree.
//!
//! Nothing here knows how an outcome is shown. Enter by [`Outcome::new`], and by [`merge`] for several.

pub mod distribution;
pub mod figure;
pub mod file;
pub mod merge;
pub mod ramp;
pub mod series;
pub mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use self::distribution::Distribution;
use self::figure::{Figure, Source};
use self::ramp::Ramp;
use self::series::Series;
use self::timeline::Timeline;
use crate::mark::Mark;
use crate::report::environment::Environment;

/// The version of the format of JSON. It is raised when a reader of the old one would misunderstand the new one.
pub const FORMAT: u32 = 1;
/// How many sentences are kept of each kind.
pub const SENTENCES_MAX: usize = 20;

/// What came of a play.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The version of this format: [`FORMAT`].
    pub format: u32,
    /// The name of the play, as on the command line.
    pub play: String,
    /// In a few words, what was played how large: `10000 clients on 1 channel, one publication at a time`.
    pub about: String,
    /// What was run, as it was typed, without secrets (`cli` masks them).
    pub command: String,
    /// How many processes found this; 1 unless it is merged.
    pub processes: u32,
    /// When it began, in milliseconds of the Unix epoch.
    pub started_unix_ms: u64,
    /// How long it took.
    pub seconds: f64,
    /// The machines of the load generator, each once, in no order that means anything.
    pub environments: Vec<Environment>,
    /// Whether everything arrived as it should.
    pub verdict: Verdict,
    /// What was counted, by name: `connects`, `deliveries`.
    pub counts: BTreeMap<String, u64>,
    /// What there is to say in numbers, in the order in which it should be read.
    pub figures: Vec<Figure>,
    /// How something was distributed, by name: `delay`, `connect time`.
    pub distributions: BTreeMap<String, Distribution>,
    /// How the distribution of something changed over time, by name; mostly the names of `distributions`.
    pub timelines: BTreeMap<String, Timeline>,
    /// Values over time: connections, CPU, memory.
    pub series: Vec<Series>,
    /// How many connections ended against the will of the play, by code and reason.
    pub closings: BTreeMap<String, u64>,
    /// How many things failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// What went wrong, in words: the first of it.
    pub wrong: Sentences,
    /// Why figures should be read with care, such as a load generator at its own limit.
    pub warnings: Sentences,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// The steps of a play that ramps.
    pub ramp: Option<Ramp>,
}

impl Outcome {
    /// The outcome of one process, which begins now on this machine and has found nothing yet.
    pub fn new(play: &str, about: impl Into<String>, command: impl Into<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            format: FORMAT,
            play: play.into(),
            about: about.into(),
            command: command.into(),
            processes: 1,
            started_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            seconds: 0.0,
            environments: vec![Environment::here()],
            verdict: Verdict::default(),
            counts: BTreeMap::new(),
            figures: Vec::new(),
            distributions: BTreeMap::new(),
            timelines: BTreeMap::new(),
            series: Vec::new(),
            closings: BTreeMap::new(),
            errors: BTreeMap::new(),
            wrong: Sentences::default(),
            warnings: Sentences::default(),
            marks: Vec::new(),
            ramp: None,
        }
    }

    /// Whether the run is a success: exit code 0. Figures do not decide, since they are a matter of the machine.
    pub fn passed(&self) -> bool {
        self.verdict.holds()
    }

    /// What `figure` is worth: `None` if nothing of the kind was measured.
    pub fn value(&self, figure: &Figure) -> Option<f64> {
        match &figure.from {
            Source::Count { of } => self.counts.get(of).map(|&count| count as f64),
            Source::Quantile { of, quantile, divisor } => {
                let distribution =
                    self.distributions.get(of).filter(|distribution| !distribution.is_empty())?;
                Some(distribution.quantile(*quantile) as f64 / divisor)
            }
            Source::Quotient { numerator, denominator } if denominator.value != 0.0 => {
                Some(numerator.value / denominator.value)
            }
            Source::Quotient { .. } => None,
            Source::Quantity(quantity) => Some(quantity.value),
            Source::Knee => self.ramp.as_ref().and_then(Ramp::knee),
        }
        .filter(|value| value.is_finite())
    }

    /// Computes every figure again from what it is computed of. A play calls it once, when everything is filled in.
    pub fn compute(&mut self) {
        let values: Vec<Option<f64>> = self.figures.iter().map(|figure| self.value(figure)).collect();
        for (figure, value) in self.figures.iter_mut().zip(values) {
            figure.value = value;
        }
    }

    /// The wall clock at the start of the outcome.
    pub fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.started_unix_ms)
    }
}

/// What must be 0: a load test that cannot see loss is not believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Publications that a client should have got and did not, and was not told that it would not.
    pub lost: u64,
    /// Publications that a client got more than once.
    pub repeated: u64,
    /// Publications that a client got after later ones.
    pub reordered: u64,
    /// Places of a history that were not the same for everybody.
    pub forked: u64,
    /// What else must be 0 in this play, by name: `clients not back`.
    pub others: BTreeMap<String, u64>,
}

impl Verdict {
    /// Whether all of it is 0.
    pub fn holds(&self) -> bool {
        self.rows().all(|(_, count)| count == 0)
    }

    /// Everything that must be 0, with its name, in the order in which it is shown.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u64)> {
        let own = [
            ("publications lost", self.lost),
            ("publications repeated", self.repeated),
            ("publications out of order", self.reordered),
            ("histories forked", self.forked),
        ];
        own.into_iter().chain(self.others.iter().map(|(name, count)| (name.as_str(), *count)))
    }
}

/// The first few sentences of possibly many, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentences {
    /// How often something was said, also if it is not kept.
    pub total: u64,
    /// What was said, at most [`SENTENCES_MAX`].
    pub first: Vec<String>,
}

impl Sentences {
    /// Says something. It is kept if there is room and it was not said before.
    pub fn say(&mut self, sentence: impl Into<String>) {
        self.total += 1;
        let sentence = sentence.into();
        if self.first.len() < SENTENCES_MAX && !self.first.contains(&sentence) {
            self.first.push(sentence);
        }
    }
}
