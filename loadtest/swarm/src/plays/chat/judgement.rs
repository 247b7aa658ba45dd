//! Whether everybody has heard what was said while they were there.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::score::{Act, Plan};
use super::speech::Speech;
use crate::load::{Load, Missed, Talk, Thread, Voice};
use crate::outcome::Outcome;

/// How often clients are asked whether they have heard everything.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What was not heard as it should have been.
#[derive(Debug)]
pub(super) struct Judgement {
    lost: Vec<Missed>,
    forked: u64,
    unanswered: u64,
    channels: Vec<String>,
}

/// Everything that was said in each room: its number, and when it was said at the earliest, in nanoseconds.
type Said = Vec<Vec<(u64, u64)>>;

/// Waits until everybody has heard everything, or nothing more comes for the patience of the settings, and judges.
///
/// # Errors
/// A thread broke down.
pub(super) async fn wait(
    load: &Load,
    plan: Plan,
    start: Duration,
    speech: Option<&Speech>,
) -> Result<Judgement> {
    let said = Arc::new(said(plan, start));
    let by_back_end = speech.map(|speech| speech.doubtful.clone()).unwrap_or_default();
    let (mut delivered, mut last) = (load.delivered(), Instant::now());
    loop {
        let mut doubtful = doubtful(load).await?;
        let unanswered = doubtful.unanswered;
        doubtful.all.extend(&by_back_end);
        let unheard = unheard(load, &said, Arc::new(doubtful.all)).await?;
        if load.delivered() > delivered {
            (delivered, last) = (load.delivered(), Instant::now());
        }
        let is_over = unheard.is_empty() && unanswered == 0;
        if is_over || last.elapsed() > load.settings().patience {
            return judged(load, unheard, unanswered, &by_back_end).await;
        }
        sleep(ASK_AGAIN).await;
    }
}

fn said(plan: Plan, start: Duration) -> Said {
    let mut said: Said = vec![Vec::new(); plan.rooms as usize];
    for cue in plan.score() {
        if let Act::Say(number) = cue.act {
            let at_ns = u64::try_from((start + cue.at).as_nanos()).unwrap_or(u64::MAX);
            said[cue.room as usize].push((number, at_ns));
        }
    }
    said
}

/// What nobody need have heard.
struct Doubtful {
    all: HashSet<(u32, u64)>,
    /// Of these, what the server has not answered.
    unanswered: u64,
}

async fn doubtful(load: &Load) -> Result<Doubtful> {
    let of_each = load.on_each(|thread| async move { (thread.doubtful(), thread.unanswered()) }).await?;
    let mut doubtful = Doubtful { all: HashSet::new(), unanswered: 0 };
    for (of_thread, unanswered) in of_each {
        doubtful.all.extend(of_thread);
        doubtful.unanswered += unanswered.len() as u64;
        doubtful.all.extend(unanswered);
    }
    Ok(doubtful)
}

/// What clients that are still there have not heard, of what was said for sure.
async fn unheard(load: &Load, said: &Arc<Said>, doubtful: Arc<HashSet<(u32, u64)>>) -> Result<Vec<Missed>> {
    let said = Arc::clone(said);
    let of_thread = move |thread: Rc<Thread>| {
        let (said, doubtful) = (Arc::clone(&said), Arc::clone(&doubtful));
        async move {
            let clients = thread.clients().into_iter().filter(|client| client.is_connected());
            let unheard = clients.flat_map(|client| {
                let unheard = client.unheard(|room| &said[room as usize]);
                unheard.into_iter().map(move |(room, number)| (client.number(), room, number))
            });
            unheard.filter(|(_, room, number)| !doubtful.contains(&(*room, *number))).collect::<Vec<_>>()
        }
    };
    Ok(load.on_each(of_thread).await?.into_iter().flatten().collect())
}

async fn judged(
    load: &Load,
    mut lost: Vec<Missed>,
    unanswered: u64,
    by_back_end: &HashSet<(u32, u64)>,
) -> Result<Judgement> {
    let mut talk = Talk::default();
    load.on_each(|thread| async move { thread.take_talk() }).await?.into_iter().for_each(|one| talk.add(one));
    let is_sure = |(_, room, number): &Missed| {
        let one = (*room, *number);
        !talk.doubtful.contains(&one) && !by_back_end.contains(&one)
    };
    lost.extend(talk.missed.iter().filter(|missed| is_sure(missed)));
    Ok(Judgement { lost, forked: talk.forked, unanswered, channels: load.settings().channels.clone() })
}

impl Judgement {
    /// What was lost or forked, and the first of it in words.
    pub(super) fn tell(self, outcome: &mut Outcome) {
        outcome.verdict.lost += self.lost.len() as u64;
        outcome.verdict.forked += self.forked;
        outcome.verdict.others.insert("publications not answered".to_owned(), self.unanswered);
        for (client, room, number) in self.lost {
            let Voice { speaker, count } = Voice::of(number);
            let room = &self.channels[room as usize];
            outcome.wrong.say(format!(
                "client {client} did not hear publication {count} of client {speaker} in {room}"
            ));
        }
    }
}
