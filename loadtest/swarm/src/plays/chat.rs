//! Rooms with people in them, who come and go and talk: whether everybody hears what is said where they are, how late, and
//! in the same order as the others.

mod judgement;
pub mod score;
mod speech;
mod stage;

use std::time::Duration;

use anyhow::{Context as _, Result};

use self::judgement::Judgement;
use self::score::{Act, Plan};
use super::run::{CONNECTS, DELAYS, Run, micros};
use crate::load::tally::Event;

/// What comes before the first cue.
const HEAD_START: Duration = Duration::from_millis(200);
/// From when something was to be said until it was: how late swarm was.
const LATENESS: &str = "speaking late";

/// Rooms, and who publishes what is said.
#[derive(Clone, Copy, Debug)]
pub struct Chat {
    /// Who does what when.
    pub plan: Plan,
    /// The way of what is said.
    pub through: Through,
    /// Whether clients ask to be told of others' joining and leaving.
    pub is_hearing: bool,
}

/// The way of what is said to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// Each client publishes over its own connection.
    Socket,
    /// The back end publishes for them.
    Api,
}

impl Chat {
    pub(super) fn about(self) -> String {
        let Plan { rooms, members, churn, talk, time, .. } = self.plan;
        let way = match self.through {
            Through::Socket => "by the clients themselves",
            Through::Api => "through the server API",
        };
        format!(
            "{rooms} rooms of {members} clients; {churn} join or leave in a second, and {talk} things are said in a second, \
             {way}, for {}",
            humantime::format_duration(time)
        )
    }

    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        run.connect().await?;
        let before = if run.server.is_empty() { None } else { Some(run.server.settled().await?) };
        run.phase("talking");
        let start = run.load.clock().now() + HEAD_START;
        let speaking = async {
            match self.through {
                Through::Socket => Ok(None),
                Through::Api => {
                    let back_end = run.back_end.clone().context("--through api needs --api")?;
                    speech::speak(&run.load, &back_end, run.api_connections, self.plan, start).await.map(Some)
                }
            }
        };
        let stage = stage::play(&run.load, self.plan, self.through, start);
        let (speech, staged) = tokio::join!(speaking, stage);
        let (speech, skipped) = (speech?, staged?);
        run.phase("waiting for the last words");
        let judgement = judgement::wait(&run.load, self.plan, start, speech.as_ref()).await?;
        if let Some(before) = before {
            let used = run.server.settled().await?.since(&before);
            run.share("CPU of the server per delivery", "µs", micros(used), run.load.delivered() as f64);
        }
        self.tell(run, judgement, skipped, speech);
        Ok(())
    }

    fn tell(self, run: &mut Run, judgement: Judgement, skipped: u64, speech: Option<speech::Speech>) {
        let (mut said, mut joins, mut leaves) = (0, 0, 0);
        for cue in self.plan.score() {
            match cue.act {
                Act::Join => joins += 1,
                Act::Leave => leaves += 1,
                Act::Say(_) => said += 1,
            }
        }
        let counts = [("joins", joins), ("leaves", leaves), ("things said", said), ("cues missed", skipped)];
        run.outcome.counts.extend(counts.map(|(name, count): (&str, u64)| (name.to_owned(), count)));
        let delivered = run.load.delivered() as f64;
        run.per_second("things said", said as f64, self.plan.time);
        run.per_second("deliveries", delivered, self.plan.time);
        run.quantiles(DELAYS);
        run.quantiles(CONNECTS);
        run.quantiles(LATENESS);
        let heard = run.load.counts().get(Event::Joined);
        if self.is_hearing && joins > 0 && heard == 0 {
            run.outcome.warnings.say(
                "nobody was told of anybody's joining: the server has it switched off for these channels (join_leave of the \
                 namespace)",
            );
        }
        if let Some(speech) = speech {
            speech.tell(&mut run.outcome);
        }
        judgement.tell(&mut run.outcome);
    }
}
