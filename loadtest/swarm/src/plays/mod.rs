//! What a load plays. Each play has a file, a function that drives a [`Run`], and figures of its own.
//!
//! [`play`] does what all of them have in common: it starts the load, looks at server and swarm meanwhile, has the play
//! played, judges what clients were given, and makes one [`Outcome`] of it.

mod background;
pub mod burst;
pub mod capacity;
pub mod chat;
mod closed_loop;
pub mod connect;
pub mod fan;
pub mod idle;
pub mod rate;
mod run;
pub mod storm;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

pub use self::run::{Run, Settings};
use crate::load::tally::Event;
use crate::load::{LoadSettings, Numbering};
use crate::outcome::Outcome;

/// One of the plays, with what it is told.
#[derive(Clone, Debug)]
pub enum Play {
    /// Opens connections.
    Connect(connect::Connect),
    /// Keeps them.
    Idle(idle::Idle),
    /// Publishes one thing at a time to all.
    Fan(fan::Fan),
    /// Publishes by a timetable.
    Rate(rate::Rate),
    /// Publishes many things at a time to all.
    Burst(burst::Burst),
    /// Cuts all lines at once.
    Storm(storm::Storm),
    /// Fills rooms with people.
    Chat(chat::Chat),
    /// Grows until something breaks.
    Capacity(capacity::Capacity),
}

impl Play {
    /// As it is called on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Idle(_) => "idle",
            Self::Fan(_) => "fan",
            Self::Rate(_) => "rate",
            Self::Burst(_) => "burst",
            Self::Storm(_) => "storm",
            Self::Chat(_) => "chat",
            Self::Capacity(_) => "capacity",
        }
    }

    /// What is played how large, in a few words.
    pub fn about(&self, settings: &Settings) -> String {
        let (clients, channels) = (settings.clients, settings.load.channels.len());
        let crowd =
            format!("{clients} clients on {channels} {}", if channels == 1 { "channel" } else { "channels" });
        match self {
            Self::Connect(_) => crowd,
            Self::Idle(idle) => format!("{crowd}, idle for {}", humantime::format_duration(idle.time)),
            Self::Fan(fan) => format!("{crowd}, {} publications one at a time", fan.publications),
            Self::Rate(rate) => {
                let time = humantime::format_duration(rate.time);
                format!("{crowd}, {} publications per second for {time}", rate.rate)
            }
            Self::Burst(burst) => format!("{crowd}, {} bursts of {} publications", burst.bursts, burst.size),
            Self::Storm(storm) => storm.about(&crowd),
            Self::Chat(chat) => chat.about(),
            Self::Capacity(capacity) => capacity.about(&crowd),
        }
    }

    /// What clients must be for it.
    fn shape(&self, load: &mut LoadSettings) {
        match self {
            Self::Storm(_) => load.is_recoverable = true,
            Self::Chat(chat) => {
                load.numbering = Numbering::Speakers;
                load.is_hearing = chat.is_hearing;
            }
            _ => {}
        }
    }

    async fn drive(&self, run: &mut Run) -> Result<()> {
        match self {
            Self::Connect(connect) => connect.play(run).await,
            Self::Idle(idle) => idle.play(run).await,
            Self::Fan(fan) => fan.play(run).await,
            Self::Rate(rate) => rate.play(run).await,
            Self::Burst(burst) => burst.play(run).await,
            Self::Storm(storm) => storm.play(run).await,
            Self::Chat(chat) => chat.play(run).await,
            Self::Capacity(capacity) => capacity.play(run).await,
        }
    }
}

/// Plays, until it is over or interrupted, and says what came of it. Needs a runtime.
///
/// # Errors
/// There was nothing to judge: the server API does not answer, or the very first client does not get in.
pub async fn play(play: &Play, mut settings: Settings) -> Result<Outcome> {
    play.shape(&mut settings.load);
    let mut run = Run::start(play.name(), play.about(&settings), settings).await?;
    let played = tokio::select! {
        played = play.drive(&mut run) => played,
        interrupted = interrupted() => interrupted,
    };
    if let Err(error) = played {
        if run.load.counts().get(Event::Connected) == 0 {
            return Err(error);
        }
        run.broke_off(&error);
    }
    run.finish().await
}

/// Waits for a signal to end, which is an error then.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    anyhow::bail!("interrupted before its end")
}
