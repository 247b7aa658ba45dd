//! What happens when everybody loses the line at once and comes back: how long until they are back, what that costs the
//! server, and whether anybody misses anything in silence.

mod backoff;
mod returns;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::{sleep, timeout};

pub use self::backoff::Backoff;
use self::returns::{RETURN_TIME, Returns};
use super::background::{self, Background};
use super::run::{CONNECTS, DELAYS, Run, micros};
use crate::load::open_loop::OpenLoop;
use crate::load::process::Cpu;
use crate::load::tally::Event;
use crate::load::{Load, Thread};
use crate::mark::MarkKind;
use crate::outcome::distribution::Distribution;
use crate::outcome::figure::{Figure, Quantity, Reach, Source};

/// What memory may be after a storm, against before it.
const MEMORY_REACH: f64 = 1.2;

/// Cuts all lines at once, and waits until everybody is back; publications go on meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// How often.
    pub rounds: u32,
    /// Publications per second, in all channels together.
    pub rate: f64,
    /// How clients come back.
    pub backoff: Backoff,
    /// How long nothing happens before the first round, to compare with.
    pub calm: Duration,
    /// How long everybody may take to be back.
    pub within: Duration,
    /// How long nothing happens after the last round, until memory is looked at again.
    pub settle: Duration,
}

/// What a round came to.
#[derive(Debug)]
struct Round {
    begun: Duration,
    /// How many lost their line, and how many of them were back in time.
    dropped: u64,
    back: u64,
    times: Distribution,
}

/// What all rounds came to.
#[derive(Debug)]
struct Rounds {
    rounds: Vec<Round>,
    /// Of the server: before, at its peak, and after it has settled. `None` if nobody looks.
    memory: Option<[u64; 3]>,
    /// How many clients there were before.
    connected: u64,
    cpu: Option<Duration>,
}

impl Storm {
    pub(super) fn about(self, crowd: &str) -> String {
        let Self { rounds, rate, .. } = self;
        let backoff = match self.backoff {
            Backoff::Sdk => "with the back-off of the SDKs",
            Backoff::None => "without back-off",
        };
        format!(
            "{crowd}, {rounds} times cut off all at once, coming back {backoff}; {rate} publications per second"
        )
    }

    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        run.endings_are_expected();
        run.connect().await?;
        warn_of_who_is_not_there(run);
        ensure_positions(&run.load).await?;
        let returns = Arc::new(Returns::default());
        let publishing = Background::new(run, self.rate)?;
        let is_over = Cell::new(false);
        let rounds = async {
            let rounds = self.rounds(run, &returns).await;
            is_over.set(true);
            rounds
        };
        let (rounds, published) = tokio::join!(rounds, publishing.until(&run.load, &is_over));
        let (rounds, published) = (rounds?, published?);
        // Who is not back is counted as such, and not as many losses.
        let gone = run.load.unconnected().await?;
        run.load.forget_the_unconnected().await?;
        run.load.wait_given(&published.published).await?;
        fail_if_idle(run, &rounds, &published);
        self.tell(run, &returns, &rounds, gone, published);
        Ok(())
    }

    async fn rounds(self, run: &Run, returns: &Arc<Returns>) -> Result<Rounds> {
        run.show("calm before the storm");
        sleep(self.calm).await;
        let memory = || (!run.server.is_empty()).then(|| run.server.resident_bytes()).transpose();
        let cpu = || (!run.server.is_empty()).then(|| run.server.cpu()).transpose();
        let (before, cpu_before) = (memory()?, cpu()?);
        let (highest_before, connected) = (highest(run)?, run.load.counts().open());
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            run.show(&format!("storm {number} of {}", self.rounds));
            let round = self.round(&run.load, returns).await?;
            let is_whole = round.back == round.dropped;
            rounds.push(round);
            if !is_whole {
                break;
            }
        }
        let used = cpu()?.zip(cpu_before).map(|(after, before): (Cpu, Cpu)| after.since(&before));
        let peak = highest(run)?.filter(|peak| Some(*peak) > highest_before);
        run.show("settling");
        sleep(self.settle).await;
        let memory = before.zip(memory()?).map(|(before, after)| {
            // What is highest of all may have been before this run.
            [before, peak.unwrap_or(before.max(after)), after]
        });
        Ok(Rounds { rounds, memory, connected, cpu: used })
    }

    async fn round(self, load: &Load, returns: &Arc<Returns>) -> Result<Round> {
        let (begun, before) = (load.clock().now(), load.distribution(RETURN_TIME).await?);
        returns.begin();
        let (backoff, of_threads) = (self.backoff, Arc::clone(returns));
        let drop_all = move |thread: Rc<Thread>| {
            let returns = Arc::clone(&of_threads);
            async move { returns::drop_all(&thread, backoff, &returns) }
        };
        let dropped = load.on_each(drop_all).await?.into_iter().sum();
        // Whoever is not back then is counted.
        let _: Result<(), _> = timeout(self.within, returns.all_back(dropped)).await;
        let times = load.distribution(RETURN_TIME).await?.since(&before);
        Ok(Round { begun, dropped, back: returns.back(), times })
    }

    fn tell(self, run: &mut Run, returns: &Returns, rounds: &Rounds, gone: u64, published: OpenLoop) {
        let mut late = 0;
        for (index, round) in rounds.rounds.iter().enumerate() {
            let text = format!("storm {}: {}", index + 1, round.words());
            run.mark(round.begun, MarkKind::Step, text);
            late += round.dropped.saturating_sub(round.back);
        }
        let all_back: u64 = rounds.rounds.iter().map(|round| round.back).sum();
        // Some may be back too late, and others were and are gone again.
        let not_back = late.max(gone);
        run.outcome.verdict.others.insert("clients not back".to_owned(), not_back);
        let all = (not_back == 0).then_some(("everybody", 1.0));
        for (name, quantile) in [("50 %", 0.5), ("99 %", 0.99)].into_iter().chain(all) {
            let from = Source::Quantile { of: RETURN_TIME.to_owned(), quantile, divisor: 1e6 };
            run.outcome.figures.push(Figure::new(format!("{name} back after"), "s", from));
        }
        let counts = run.load.counts();
        let recovered = counts.get(Event::Recovered) as f64;
        let asked = recovered + counts.get(Event::Unrecovered) as f64;
        run.quotient(
            "subscriptions that had all they missed",
            "%",
            Quantity::own(recovered * 100.0),
            Quantity::own(asked),
        );
        run.quotient(
            "handshakes per client back",
            "",
            Quantity::own(returns.attempts() as f64),
            Quantity::own(all_back as f64),
        );
        if let Some(used) = rounds.cpu {
            run.share("CPU of the server per client back", "µs", micros(used), all_back as f64);
        }
        if let Some(memory) = rounds.memory {
            self.tell_memory(run, memory, rounds.connected);
        }
        run.quantiles(CONNECTS);
        run.quantiles(DELAYS);
        returns.tell(&mut run.outcome);
        background::note(run, published);
    }

    fn tell_memory(self, run: &mut Run, [before, peak, after]: [u64; 3], clients: u64) {
        let shared = |bytes: u64| Quantity::shared(bytes as f64);
        for (name, bytes) in [("before", before), ("at its peak", peak), ("after", after)] {
            let from = Source::Quantity(Quantity::shared(bytes as f64 / 1e6));
            run.outcome.figures.push(Figure::new(format!("memory of the server {name}"), "MB", from));
        }
        run.share("memory of the server per client before", "KB", before as f64 / 1e3, clients as f64);
        let settle = humantime::format_duration(self.settle);
        let from = Source::Quotient { numerator: shared(after), denominator: shared(before) };
        let figure = Figure::new(format!("memory of the server {settle} after, against before"), "×", from);
        run.outcome.figures.push(figure.reaching(Reach::AtMost(MEMORY_REACH)));
    }
}

impl Round {
    fn words(&self) -> String {
        let seconds = |quantile| self.times.quantile(quantile) as f64 / 1e6;
        let (half, most, all) = (seconds(0.5), seconds(0.99), seconds(1.0));
        format!(
            "{} back, half of them after {half:.2} s, 99 % after {most:.2} s, the last after {all:.2} s",
            self.back
        )
    }
}

/// A storm that met nobody, or in which there was nothing to miss, says nothing of the server.
fn fail_if_idle(run: &mut Run, rounds: &Rounds, published: &OpenLoop) {
    let mut idle = Vec::new();
    if rounds.rounds.iter().any(|round| round.dropped == 0) {
        idle.push("nobody was there to be cut off");
    }
    if published.published.is_all_uncertain() || run.load.delivered() == 0 {
        idle.push("nothing was delivered, so nobody had anything to miss");
    }
    run.outcome.verdict.others.insert("storms that say nothing".to_owned(), idle.len() as u64);
    idle.into_iter().for_each(|words| run.outcome.wrong.say(words));
}

/// The most memory that the server ever had.
fn highest(run: &Run) -> Result<Option<u64>> {
    (!run.server.is_empty()).then(|| run.server.peak_bytes()).transpose()
}

fn warn_of_who_is_not_there(run: &mut Run) {
    let missing = u64::from(run.clients).saturating_sub(run.load.counts().open());
    if missing > 0 {
        let clients = run.clients;
        run.outcome
            .warnings
            .say(format!("{missing} of {clients} clients did not get in, and had no part in the storm"));
    }
}

/// Without a history nobody can say what was missed.
async fn ensure_positions(load: &Load) -> Result<()> {
    let have =
        load.on_each(|thread| async move { thread.clients().iter().all(|client| client.has_positions()) });
    let channel = load.settings().channels.first().context("there is no channel")?;
    ensure!(
        have.await?.into_iter().all(|has| has),
        "{channel} has no history to recover from: the server gave a subscriber no position. Switch it on there \
         (history_size, history_ttl, and allow_recovery or force_recovery of the namespace), or name other channels with \
         --channel NAMESPACE:NAME"
    );
    Ok(())
}
