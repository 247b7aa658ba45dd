//! One run: a load, a back end, whoever is looked at, and the outcome that it comes to.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::sleep;

use crate::load::process::Meter;
use crate::load::stamp::Stamp;
use crate::load::tally::{Counts, Event};
use crate::load::target::Api;
use crate::load::watch::{Watch, Watched};
use crate::load::{BackEnd, CONNECT_TIME, DELAY, Findings, Load, LoadSettings, Published, Secret};
use crate::mark::{Mark, MarkKind};
use crate::outcome::Outcome;
use crate::outcome::figure::{Figure, Quantity, Source};
use crate::progress::{Now, Phase, Progress, Shown};

/// Memory counts as quiet when it has moved by less than this for `QUIET_SECONDS`, after at most `QUIET_SECONDS_MAX`:
/// allocators give back what was needed for a moment over some ten seconds.
const QUIET_BYTES: u64 = 64 * 1024;
const QUIET_SECONDS: u32 = 3;
const QUIET_SECONDS_MAX: u32 = 20;

/// What every play is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What its clients are made of.
    pub load: LoadSettings,
    /// How many of them.
    pub clients: u32,
    /// Where its back end publishes; `None` for a play that does without.
    pub api: Option<Api>,
    /// The key of the server API.
    pub api_key: Option<Secret>,
    /// How many connections its back end has at most.
    pub api_connections: usize,
    /// The size of the data of a publication.
    pub data_bytes: usize,
    /// The processes that serve, if they are on this machine.
    pub pids: Vec<u32>,
    /// Where it says how it goes.
    pub shown: Shown,
    /// The command as it was typed, without secrets.
    pub command: String,
}

/// A load, with everything around it. A play drives it, and puts what it finds into `outcome`.
#[derive(Debug)]
pub struct Run {
    /// The clients.
    pub load: Load,
    /// How many clients the play wants.
    pub clients: u32,
    /// Publishes, if there is a server API.
    pub back_end: Option<Arc<BackEnd>>,
    /// How many connections the back end has at most.
    pub api_connections: usize,
    /// The server's processes; [empty](Meter::is_empty) if they are not known.
    pub server: Meter,
    /// What clients must have at the end.
    pub published: Published,
    /// What it comes to.
    pub outcome: Outcome,
    /// Whether errors and connections that end are part of the play.
    expects_endings: bool,
    watch: Watch,
    phase: Phase,
    progress: Progress,
    /// Memory of this process before there were clients.
    own_bytes: u64,
}

impl Run {
    /// Asks the server API whether it answers, starts the threads of the load, and begins to look. There are no clients
    /// yet.
    ///
    /// # Errors
    /// The API or a process of the server is not there, or the API does not take the key.
    pub async fn start(play: &str, about: String, settings: Settings) -> Result<Self> {
        let server = Meter::new(&settings.pids)?;
        let back_end = settings.api.clone().map(|api| {
            let Settings { api_key, api_connections, data_bytes, .. } = &settings;
            BackEnd::new(api, api_key.clone(), *api_connections, *data_bytes, settings.load.patience)
        });
        if let Some(back_end) = &back_end {
            back_end.check().await?;
        }
        let published = Published::new(settings.load.channels.len());
        let outcome = Outcome::new(play, about, settings.command);
        let load = Load::start(settings.load)?;
        let watch = Watch::start(server.clone(), Arc::new(load.counter()), load.clock())?;
        let phase = Phase::default();
        let look = look(&load, server.clone(), phase.clone(), settings.clients);
        let progress = Progress::start(look, settings.shown).context("a thread that shows progress")?;
        Ok(Self {
            load,
            clients: settings.clients,
            back_end: back_end.map(Arc::new),
            api_connections: settings.api_connections,
            server,
            published,
            outcome,
            expects_endings: false,
            watch,
            phase,
            progress,
            own_bytes: Meter::own().resident_bytes()?,
        })
    }

    /// The play goes on to something else, in a few words.
    pub fn phase(&mut self, text: &str) {
        self.phase.set(text);
        let at = self.load.clock().now();
        self.outcome.marks.push(Mark { at, kind: MarkKind::Phase, text: text.to_owned() });
    }

    /// As [`phase`](Self::phase), for whoever watches only.
    pub fn show(&self, text: &str) {
        self.phase.set(text);
    }

    /// Something happened at a moment of the load's clock.
    pub fn mark(&mut self, at: Duration, kind: MarkKind, text: String) {
        self.outcome.marks.push(Mark { at, kind, text });
    }

    /// The play goes to where a server refuses and closes: that is counted from now on, and fails no run. What is lost in
    /// silence does.
    pub fn endings_are_expected(&mut self) {
        self.expects_endings = true;
    }

    /// Whether [errors and connections that end](Self::endings_are_expected) are part of the play.
    pub fn expects_endings(&self) -> bool {
        self.expects_endings
    }

    /// Connects all clients.
    ///
    /// # Errors
    /// The first one does not get in, or none is left afterwards.
    pub async fn connect(&mut self) -> Result<()> {
        self.phase("connecting");
        self.load.open(self.clients).await?;
        ensure!(self.load.counts().open() > 0, "no client is connected");
        Ok(())
    }

    /// Publishes so many publications at once to the channel 0, all due now, and waits until every client that is
    /// connected has them. All clients must be subscribed to it.
    ///
    /// # Errors
    /// The back end is refused, or clients do not get them.
    pub async fn publish_and_wait(&mut self, count: u32) -> Result<()> {
        self.load.publishing();
        let at_ns = self.load.clock().now_ns();
        let run = self.load.run();
        let stamps: Vec<Stamp> =
            (0..count).map(|_| Stamp { run, number: self.published.next(0), at_ns }).collect();
        let owed = self.load.delivered() + u64::from(count) * self.load.counts().open();
        let channel = &self.load.settings().channels[0];
        let back_end = self.back_end.as_ref().context("this play publishes, and so needs --api")?;
        let outcome = match &*stamps {
            [stamp] => back_end.publish(channel, *stamp).await,
            stamps => back_end.publish_all(channel, stamps).await,
        };
        if let Err(error) = outcome {
            stamps.iter().for_each(|stamp| self.published.doubt(0, stamp.number));
            return Err(error);
        }
        let number = self.published.last(0);
        self.load.wait_delivered(owed).await.with_context(|| format!("after publication {number}"))
    }

    /// Publishes one publication to each channel, and waits until every client that is connected has that of its own.
    ///
    /// # Errors
    /// The back end is refused, or clients do not get them.
    pub async fn publish_everywhere(&mut self) -> Result<()> {
        self.load.publishing();
        let back_end = self.back_end.as_ref().context("this play publishes, and so needs --api")?;
        let owed = self.load.delivered() + self.load.counts().open();
        for (channel, name) in (0..).zip(&self.load.settings().channels) {
            let number = self.published.next(channel);
            let stamp = Stamp { run: self.load.run(), number, at_ns: self.load.clock().now_ns() };
            if let Err(error) = back_end.publish(name, stamp).await {
                self.published.doubt(channel, number);
                return Err(error);
            }
        }
        self.load.wait_delivered(owed).await
    }

    /// Resident memory of the server in bytes, once it no longer moves; `None` if there is none to look at.
    ///
    /// # Errors
    /// It has ended.
    pub async fn quiet_bytes(&self) -> Result<Option<u64>> {
        if self.server.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.server.resident_bytes()?;
        let mut quiet_seconds = 0;
        for _ in 0..QUIET_SECONDS_MAX {
            sleep(Duration::from_secs(1)).await;
            let now = self.server.resident_bytes()?;
            quiet_seconds = if now.abs_diff(bytes) < QUIET_BYTES { quiet_seconds + 1 } else { 0 };
            bytes = now;
            if quiet_seconds == QUIET_SECONDS {
                break;
            }
        }
        Ok(Some(bytes))
    }

    /// A figure that says how much of something that all processes of a run see, such as CPU of the server, there is
    /// for each of something that every process has for itself.
    pub fn share(&mut self, name: &str, unit: &str, of_all: f64, own: f64) {
        self.quotient(name, unit, Quantity::shared(of_all), Quantity::own(own));
    }

    /// A figure that is one quantity by another.
    pub fn quotient(&mut self, name: &str, unit: &str, numerator: Quantity, denominator: Quantity) {
        let from = Source::Quotient { numerator, denominator };
        self.outcome.figures.push(Figure::new(name, unit, from));
    }

    /// A figure that says how often something happened per second, in all processes together.
    pub fn per_second(&mut self, name: &str, count: f64, time: Duration) {
        let denominator = Quantity::shared(time.as_secs_f64());
        let from = Source::Quotient { numerator: Quantity::own(count), denominator };
        self.outcome.figures.push(Figure::new(name, "per second", from));
    }

    /// The median, the 99th percentile and the maximum of a distribution of times, in milliseconds.
    pub fn quantiles(&mut self, what: &str) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let from = Source::Quantile { of: what.to_owned(), quantile, divisor: 1000.0 };
            self.outcome.figures.push(Figure::new(format!("{what}, {name}"), "ms", from));
        }
    }

    /// The play could not go on.
    pub(super) fn broke_off(&mut self, error: &anyhow::Error) {
        self.outcome.wrong.say(format!("the play broke off: {error:#}"));
        *self.outcome.verdict.others.entry("plays broken off".to_owned()).or_default() += 1;
    }

    /// Judges what clients have, ends everything, and answers with the whole outcome.
    ///
    /// # Errors
    /// A thread of the load broke down.
    pub(super) async fn finish(mut self) -> Result<Outcome> {
        let counts = self.load.counts();
        let watched = self.watch.stop();
        drop(self.progress);
        self.outcome.seconds = self.load.clock().now().as_secs_f64();
        let publications = self.published.total();
        if publications > 0 {
            self.outcome.counts.insert("publications".to_owned(), publications);
        }
        let findings = self.load.finish(self.published).await?;
        note_counts(&mut self.outcome, &counts, &findings, self.expects_endings);
        note_findings(&mut self.outcome, findings);
        note_watched(&mut self.outcome, watched);
        note_memory(&mut self.outcome, self.own_bytes, counts.get(Event::Connected))?;
        self.outcome.compute();
        Ok(self.outcome)
    }
}

/// What is to be seen of a run while it runs, whenever somebody looks.
fn look(load: &Load, server: Meter, phase: Phase, clients: u32) -> impl Fn() -> Now + Send + 'static {
    let counter = load.counter();
    move || {
        let counts = counter();
        Now {
            phase: phase.read(),
            wanted: clients.into(),
            connected: counts.open(),
            deliveries: counts.get(Event::Delivered),
            errors: counts.get(Event::Ended) + counts.get(Event::Failed),
            wrong: counts.faults(),
            p99_micros: Some(counts.p99_micros).filter(|micros| *micros > 0),
            server_bytes: server.resident_bytes().ok().filter(|bytes| *bytes > 0),
        }
    }
}

fn note_counts(outcome: &mut Outcome, counts: &Counts, findings: &Findings, expects_endings: bool) {
    let seen = Event::ALL.iter().filter(|event| counts.get(**event) > 0);
    outcome.counts.extend(seen.map(|event| (event.name().to_owned(), counts.get(*event))));
    let verdict = &mut outcome.verdict;
    verdict.lost += findings.lost;
    verdict.repeated = counts.get(Event::Repeat);
    verdict.reordered = counts.get(Event::Late);
    let mut others = vec![(Event::OffsetBreak.name(), counts.get(Event::OffsetBreak))];
    if !expects_endings {
        // Who did not get in is counted among errors as well, by kind.
        let errors: u64 = findings.errors.values().sum();
        others.push(("errors", errors.saturating_sub(counts.get(Event::Failed))));
        others.extend([Event::Ended, Event::Failed].map(|event| (event.name(), counts.get(event))));
    }
    verdict.others.extend(others.into_iter().map(|(name, count)| (name.to_owned(), count)));
}

fn note_findings(outcome: &mut Outcome, findings: Findings) {
    for (name, times) in findings.times {
        outcome.distributions.insert(name.to_owned(), times.distribution);
        outcome.timelines.insert(name.to_owned(), times.timeline);
    }
    outcome.closings.extend(findings.closings);
    outcome.errors.extend(findings.errors);
    let unsaid = findings.wrong.total - findings.wrong.first.len() as u64;
    findings.wrong.first.into_iter().for_each(|sentence| outcome.wrong.say(sentence));
    outcome.wrong.total += unsaid;
}

fn note_watched(outcome: &mut Outcome, watched: Option<Watched>) {
    let Some(watched) = watched else { return outcome.warnings.say("nobody looked at CPU and memory") };
    outcome.series.extend(watched.series);
    if let Some(words) = watched.lost {
        outcome.warnings.say(format!("the server could be looked at no longer: {words}"));
    }
    if !watched.saturated.is_zero() {
        outcome.warnings.say(format!(
            "swarm was at its own limit for {:.1} s (a thread of it was on a CPU, or waited for one, for more than 90 % of the time): what \
             took long then is not the server's fault alone. Take more --threads, or more processes",
            watched.saturated.as_secs_f64()
        ));
    }
}

fn note_memory(outcome: &mut Outcome, before: u64, clients: u64) -> Result<()> {
    let peak = Meter::own().peak_bytes()?;
    let (bytes, grown) = (peak as f64, peak.saturating_sub(before) as f64);
    let own = |value: f64| Quantity::own(value);
    let peak = Source::Quantity(own(bytes / 1e6));
    outcome.figures.push(Figure::new("memory of swarm at its peak", "MB", peak));
    let each = Source::Quotient { numerator: own(grown / 1e3), denominator: own(clients as f64) };
    outcome.figures.push(Figure::new("memory of swarm per client", "KB", each));
    Ok(())
}

/// Microseconds with their fraction.
pub(super) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The figures of delays, which most plays have.
pub(super) const DELAYS: &str = DELAY;
/// Likewise for connecting.
pub(super) const CONNECTS: &str = CONNECT_TIME;
