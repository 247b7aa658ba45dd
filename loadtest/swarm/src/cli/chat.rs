//! `swarm chat`.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum, value_parser};

use super::Failure;
use super::load::{self, LoadArguments};
use crate::plays::chat::score::Plan;
use crate::plays::{Play, chat};

/// How much may be said in a run: every member of a room remembers it.
const SAID_MAX: f64 = 1e6;
/// Clients are numbered with so many digits.
const CLIENTS_MAX: u32 = 1_000_000;

/// Fill rooms with clients that come and go and talk, and say how late they hear each other, and whether they hear all
///
/// Every client checks each speaker of its room: nothing lost while it is there, nothing twice, all in order. Where the
/// channels have a history, everybody must hear everything in the same order. Who does what when is fixed by --seed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    swarm chat --url ws://127.0.0.1:8000/connection/websocket --channel room:swarm --rooms 100 --members 20 --churn 50 \
    --talk 200 --for 30s --join-leave --pid $(pidof clarion)\n\n\
    Clients publish over their connections, which the namespace must allow (allow_publish_for_subscriber); where it does \
    not: --through api --api http://127.0.0.1:9000")]
pub(super) struct Chat {
    /// How many rooms; each is a channel
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = value_parser!(u32).range(1..=100_000))]
    rooms: u32,
    /// How many clients each room has
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=100_000))]
    members: u32,
    /// How many clients join or leave a room in a second, in all rooms together; 0 for none
    #[arg(long, value_name = "RATE", default_value = "10", value_parser = rate_or_none)]
    churn: f64,
    /// How often somebody says something in a second, in all rooms together
    #[arg(long, value_name = "RATE", default_value = "100", value_parser = load::rate)]
    talk: f64,
    /// How long
    #[arg(long = "for", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Who publishes what is said
    #[arg(long, value_enum, value_name = "WAY", default_value_t = Through::Socket)]
    through: Through,
    /// Clients ask to be told of others' joining and leaving
    #[arg(long)]
    join_leave: bool,
    /// Another one plays otherwise; the same one plays the same again
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    load: LoadArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Through {
    /// Each client, over its own connection
    Socket,
    /// A back end, over the server API
    Api,
}

fn rate_or_none(text: &str) -> Result<f64> {
    if text == "0" { Ok(0.0) } else { load::rate(text) }
}

impl Chat {
    /// Plays; answers whether it was a success.
    pub(super) fn run(self, command: String) -> Result<bool, Failure> {
        if self.through == Through::Api {
            self.load.needs_api()?;
        }
        let plan = self.plan().map_err(Failure::Usage)?;
        let play = Play::Chat(chat::Chat {
            plan,
            through: match self.through {
                Through::Socket => chat::Through::Socket,
                Through::Api => chat::Through::Api,
            },
            is_hearing: self.join_leave,
        });
        self.load.run(&play, plan.clients(), plan.rooms, command)
    }

    fn plan(&self) -> Result<Plan> {
        let Self { rooms, members, churn, talk, time, seed, .. } = *self;
        let clients = rooms.checked_mul(members).filter(|clients| *clients < CLIENTS_MAX);
        ensure!(
            clients.is_some(),
            "--rooms {rooms} --members {members}: that is {CLIENTS_MAX} clients or more"
        );
        ensure!(!time.is_zero(), "--for 0s: nothing takes no time");
        let said = talk * time.as_secs_f64();
        ensure!(
            said <= SAID_MAX,
            "--talk {talk} --for {}: {said:.0} things would be said, and {SAID_MAX:.0} is the most",
            humantime::format_duration(time)
        );
        Ok(Plan { rooms, members, churn, talk, time, seed })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        chat: Chat,
    }

    fn parsed(arguments: &str) -> Result<Chat, clap::Error> {
        let words = "chat --url ws://127.0.0.1:1/".split_whitespace().chain(arguments.split_whitespace());
        Alone::try_parse_from(words).map(|alone| alone.chat)
    }

    #[test]
    fn rooms_may_be_without_churn() {
        let plan = parsed("--rooms 3 --members 4 --churn 0").unwrap().plan().unwrap();
        assert_eq!((plan.clients(), plan.churn), (12, 0.0));
    }

    #[test]
    fn bad_arguments_say_what_and_where() {
        for (arguments, word) in [
            ("--churn=-1", "--churn"),
            ("--talk 0", "--talk"),
            ("--through air", "--through"),
            ("--rooms 0", "--rooms"),
        ] {
            let error = parsed(arguments).unwrap_err().to_string();
            assert!(error.contains(word), "{arguments}: {error}");
        }
        for (arguments, word) in [
            ("--rooms 100000 --members 100000", "--members 100000"),
            ("--rooms 1000 --members 1000", "1000000 clients"),
            ("--talk 1000 --for 1h", "3600000 things"),
            ("--for 0s", "--for 0s"),
        ] {
            let error = parsed(arguments).unwrap().plan().unwrap_err().to_string();
            assert!(error.contains(word), "{arguments}: {error}");
        }
        assert!(matches!(parsed("--through api").unwrap().run(String::new()), Err(Failure::Usage(_))));
    }
}
