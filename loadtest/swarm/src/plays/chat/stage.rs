//! Clients that do what their score says.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep_until;

use super::score::{Act, Cue, Plan};
use super::{LATENESS, Through};
use crate::load::stamp::Stamp;
use crate::load::{Client, Load, LoadClock, Thread, Trouble};

/// Has all clients do what the plan says, and returns when the last has. Answers how much was not done, because clients
/// had no connection any more.
pub(super) async fn play(load: &Load, plan: Plan, through: Through, start: Duration) -> Result<u64> {
    let (clock, run) = (load.clock(), load.run());
    let perform = move |thread: Rc<Thread>| async move {
        let scene = Scene { clock, run, through, start };
        scene.perform(&thread, plan).await
    };
    Ok(load.on_each(perform).await?.into_iter().sum())
}

#[derive(Clone, Copy)]
struct Scene {
    clock: LoadClock,
    run: u32,
    through: Through,
    start: Duration,
}

impl Scene {
    /// Every thread goes through all of the score, and does what is for its own clients.
    async fn perform(self, thread: &Thread, plan: Plan) -> u64 {
        let clients: HashMap<u32, Rc<Client>> =
            thread.clients().into_iter().map(|client| (client.number(), client)).collect();
        let mut skipped = 0;
        for cue in plan.score().filter(|cue| thread.owns(cue.client)) {
            if matches!(cue.act, Act::Say(_)) && self.through == Through::Api {
                continue;
            }
            sleep_until(self.clock.at(self.start + cue.at)).await;
            match clients.get(&cue.client).filter(|client| client.is_connected()) {
                Some(client) => self.act(thread, client, cue),
                None => {
                    skipped += 1;
                    if let Act::Say(number) = cue.act {
                        thread.doubt(cue.room, number);
                    }
                }
            }
        }
        skipped
    }

    fn act(self, thread: &Thread, client: &Client, Cue { at, act, room, .. }: Cue) {
        let outcome = match act {
            Act::Join => client.subscribe(room),
            Act::Leave => client.unsubscribe(room),
            Act::Say(number) => {
                let now = self.clock.now();
                thread.took(LATENESS, now.saturating_sub(self.start + at));
                // A client that speaks does not wait for anything, so that what is late here is the fault of swarm, and
                // the delay begins now.
                let at_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
                client.publish(room, Stamp { run: self.run, number, at_ns })
            }
        };
        if let Err(trouble) = outcome {
            failed(thread, client, &trouble);
        }
    }
}

fn failed(thread: &Thread, client: &Client, trouble: &Trouble) {
    thread.error(&trouble.kind(), || format!("client {}: {trouble}", client.number()));
}
