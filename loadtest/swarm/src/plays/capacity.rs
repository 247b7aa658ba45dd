//! How much a server takes: a load that grows until something that is asked for does not hold any more, and where that was.

mod at_limit;
mod crowd;
pub mod ladder;
pub mod slo;

use std::time::Duration;

use anyhow::Result;

pub use self::at_limit::SATURATED;
use self::at_limit::{Usage, Used};
use self::ladder::{Climb, Ladder};
use self::slo::{Measured, Slo};
use super::background::{self, Background, HEAD_START};
use super::run::{CONNECTS, DELAYS, Run};
use crate::load::open_loop::{OpenLoop, Timetable};
use crate::load::tally::Event;
use crate::mark::MarkKind;
use crate::outcome::distribution::Distribution;
use crate::outcome::figure::{Figure, Quantity, Source};
use crate::outcome::ramp::{DelayLimit, Ramp, Step};

/// A ramp, and what is asked of every step.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// What grows.
    pub grows: Grows,
    /// From where to where.
    pub climb: Climb,
    /// What must hold.
    pub slos: Vec<Slo>,
    /// How long each step is held.
    pub hold: Duration,
    /// Publications per second while connections grow.
    pub rate: f64,
    /// No step begins after this.
    pub limit: Duration,
    /// For which share of the time a thread of swarm may have work to do; more, and the clients are the limit. See
    /// [`SATURATED`].
    pub own_busy_max: f64,
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// Clients that are connected and subscribed.
    Connections,
    /// Publications per second, in all channels together.
    Rate,
}

impl Grows {
    /// What a load is a number of.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Rate => "publications/s",
        }
    }
}

/// A ramp that is under way.
struct Climbing {
    background: Background,
    publishing: OpenLoop,
    steps: Vec<Step>,
    /// What was at its limit when the first step broke.
    at_limit: Option<String>,
    /// Deliveries that did not come in earlier steps.
    missing: u64,
    base_bytes: Option<f64>,
}

impl Capacity {
    pub(super) fn about(&self, crowd: &str) -> String {
        let Self { climb, hold, .. } = self;
        let unit = self.grows.unit();
        let held = humantime::format_duration(*hold);
        let ramp = format!("from {} to {} {unit}, each step held for {held}", climb.from, climb.to);
        match self.grows {
            Grows::Connections => format!("{ramp}, with {} publications per second", self.rate),
            Grows::Rate => format!("{crowd}, {ramp}"),
        }
    }

    pub(super) async fn play(&self, run: &mut Run) -> Result<()> {
        run.endings_are_expected();
        let mut climbing = Climbing {
            background: Background::new(run, self.rate)?,
            publishing: OpenLoop::new(run.published.clone()),
            steps: Vec::new(),
            at_limit: None,
            missing: 0,
            base_bytes: resident(run)?,
        };
        if self.grows == Grows::Rate {
            run.connect().await?;
        }
        let climbed = self.climb(run, &mut climbing).await;
        // What was found before something broke down is worth as much.
        self.tell(run, climbing);
        climbed
    }

    async fn climb(&self, run: &mut Run, climbing: &mut Climbing) -> Result<()> {
        let begun = run.load.clock().now();
        let mut ladder = Ladder::new(self.climb);
        while let Some(load) = ladder.next() {
            if run.load.clock().now() - begun > self.limit {
                let limit = humantime::format_duration(self.limit);
                run.outcome.warnings.say(format!(
                    "the ramp was ended before {load} {}: it took longer than {limit}",
                    self.grows.unit()
                ));
                break;
            }
            let step = self.step(run, climbing, load).await?;
            let is_over = step.own_limit.is_some();
            ladder.tried(load, step.broken.is_none());
            climbing.steps.push(step);
            if is_over {
                break;
            }
        }
        Ok(())
    }

    async fn step(&self, run: &mut Run, climbing: &mut Climbing, load: u64) -> Result<Step> {
        let begun = run.load.clock().now();
        run.phase(&format!("{load} {}", self.grows.unit()));
        let before = Look::at(run, &climbing.publishing).await?;
        let connecting = Usage::begin(run)?;
        if self.grows == Grows::Connections {
            let published = &climbing.publishing.published;
            run.load.pausing(published);
            crowd::resize(&run.load, load, published).await?;
            // Who was sent away has taken along what it missed.
            climbing.missing = run.load.missing(published).await?;
        }
        let connecting = connecting.end(run)?;
        let rate = if self.grows == Grows::Rate { load as f64 } else { self.rate };
        let holding = Usage::begin(run)?;
        self.hold(run, climbing, rate).await?;
        let holding = holding.end(run)?;
        // Whom the server cut off it has told so; that is an error, and not many losses.
        run.load.forget_the_unconnected().await?;
        let missing = run.load.wait_given(&climbing.publishing.published).await?;
        let after = Look::at(run, &climbing.publishing).await?;
        let newly_missing = missing.saturating_sub(climbing.missing);
        climbing.missing = missing;
        let measured = after.since(&before, newly_missing);
        let step = self.judged(run, load, measured, &connecting, &holding)?;
        if step.broken.is_some() && climbing.at_limit.is_none() {
            climbing.at_limit = holding.at_limit();
        }
        let verdict = if step.holds() { "holds" } else { "does not hold" };
        run.mark(begun, MarkKind::Step, format!("{load} {verdict}"));
        Ok(step)
    }

    async fn hold(&self, run: &Run, climbing: &mut Climbing, rate: f64) -> Result<()> {
        let start = run.load.clock().now() + HEAD_START;
        let count = (rate * self.hold.as_secs_f64()).round().max(1.0) as u64;
        let timetable = Timetable { start, rate, count };
        climbing.background.publish(&run.load, timetable, &mut climbing.publishing).await
    }

    fn judged(
        &self,
        run: &Run,
        load: u64,
        measured: Measured,
        connecting: &Used,
        holding: &Used,
    ) -> Result<Step> {
        let mut own_limit = holding.own_limit(self.own_busy_max);
        let mut reasons = Vec::new();
        // There was something to be published; delays of nothing would hold whatever is asked.
        if measured.delay.is_empty() {
            reasons.push("nothing was delivered".to_owned());
        }
        for slo in &self.slos {
            let Some(why) = slo.broken(&measured) else { continue };
            if matches!(slo, Slo::Connect(..)) {
                own_limit = own_limit.or(connecting.own_limit(self.own_busy_max));
            }
            reasons.push(why);
        }
        Ok(Step {
            load: load as f64,
            seconds: holding.time.as_secs_f64(),
            connections: run.load.counts().open(),
            deliveries: measured.delay.len(),
            server_cores: holding.server_cores(),
            server_bytes: resident(run)?,
            own_cores: holding.own_cores(),
            broken: (!reasons.is_empty()).then(|| reasons.join("; ")),
            own_limit,
            lost: measured.missing + measured.faults,
            errors: measured.errors,
            delay: measured.delay,
            connect: measured.connect,
        })
    }

    fn tell(&self, run: &mut Run, climbing: Climbing) {
        let Climbing { publishing, mut steps, at_limit, base_bytes, .. } = climbing;
        steps.sort_by(|left, right| left.load.total_cmp(&right.load));
        if let Some(step) = steps.iter().find(|step| step.own_limit.is_some()) {
            let (load, why) = (step.load, step.own_limit.as_deref().unwrap_or_default());
            run.outcome.warnings.say(format!(
                "the clients are the limit: at {load} {} {why}. That says nothing of the server: give swarm more \
                 --threads, or run it elsewhere, or in several processes",
                self.grows.unit()
            ));
        }
        let ramp = Ramp {
            unit: self.grows.unit().to_owned(),
            asked: self.slos.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            delay_limit: self.slos.iter().find_map(delay_limit),
            base_bytes,
            at_limit,
            steps,
        };
        run.outcome.figures.push(Figure::new("knee", ramp.unit.clone(), Source::Knee));
        if let Some(step) = ramp.knee_step() {
            let p99 = Source::Quantity(Quantity::shared(step.delay.quantile(0.99) as f64 / 1000.0));
            run.outcome.figures.push(Figure::new("delay at the knee, p99", "ms", p99));
            let cores = step.server_cores.map(|cores| Source::Quantity(Quantity::shared(cores)));
            run.outcome
                .figures
                .extend(cores.map(|cores| Figure::new("CPU of the server at the knee", "cores", cores)));
        }
        run.outcome.ramp = Some(ramp);
        background::note(run, publishing);
    }
}

fn delay_limit(slo: &Slo) -> Option<DelayLimit> {
    match slo {
        Slo::Delay(share, most) => {
            Some(DelayLimit { quantile: share.quantile(), milliseconds: most.as_secs_f64() * 1e3 })
        }
        _ => None,
    }
}

fn resident(run: &Run) -> Result<Option<f64>> {
    let bytes = (!run.server.is_empty()).then(|| run.server.resident_bytes()).transpose()?;
    Ok(bytes.map(|bytes| bytes as f64))
}

/// What was counted until some moment.
struct Look {
    delay: Distribution,
    connect: Distribution,
    errors: u64,
    faults: u64,
}

impl Look {
    async fn at(run: &Run, publishing: &OpenLoop) -> Result<Self> {
        let counts = run.load.counts();
        let sum = |events: &[Event]| events.iter().map(|event| counts.get(*event)).sum::<u64>();
        Ok(Self {
            delay: run.load.distribution(DELAYS).await?,
            connect: run.load.distribution(CONNECTS).await?,
            errors: sum(&[Event::Failed, Event::Ended]) + publishing.skipped + publishing.failed.total,
            // An offset is broken where something is missing, too.
            faults: sum(&[Event::Late, Event::Repeat]),
        })
    }

    fn since(&self, earlier: &Self, missing: u64) -> Measured {
        Measured {
            delay: self.delay.since(&earlier.delay),
            connect: self.connect.since(&earlier.connect),
            missing,
            faults: self.faults - earlier.faults,
            errors: self.errors - earlier.errors,
        }
    }
}
