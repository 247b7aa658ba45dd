//! One client of a crowd: it connects, subscribes, listens, and comes back, as the SDKs do.

pub(crate) mod backoff;
pub(crate) mod protocol;
mod session;
mod socket;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time;

use crate::clock::Clock;
use crate::crowd::{CrowdSettings, Plant, TokenPlace};
use crate::findings::{Blackout, Closing, Opening, Refused};
use crate::oracle::{Answer, Position, Walk};
use crate::published::Published;
use crate::records::Records;
use crate::token;
use session::Session;

/// More ids of clients that left are not remembered by one observer.
const LEFT_MAX: usize = 1_000_000;

/// What the clients of a crowd have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: CrowdSettings,
    pub(crate) clock: Clock,
    pub(crate) published: Arc<Published>,
    pub(crate) records: Records,
}

/// What all clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Grows each time that every connection is to be dropped.
    pub(crate) cuts: u64,
    pub(crate) phase: Phase,
}

/// How far a crowd is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Clients listen, and come back.
    Run,
    /// Clients end once they have everything that was acknowledged; who is away stays away.
    Settle,
    /// Clients end.
    Stop,
}

/// How a client ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Which of the crowd.
    pub(crate) client: usize,
    /// Whether it was live to the end.
    pub(crate) is_live: bool,
    pub(crate) walk: Walk,
}

/// How a visit to the server ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There was no connection.
    Refused(socket::Refusal),
    /// There is no connection any more. `None`: there was no close frame.
    Closed(Option<u16>),
    /// The server refused for good what the client needs, by a reply or a push.
    Denied,
    /// The crowd dropped the connection.
    Cut,
    /// The run is over.
    Finished,
}

impl End {
    /// Whether SDKs stay away.
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Denied | Self::Closed(Some(1009 | 3500..=3999 | 4500..=4999)))
    }
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    index: usize,
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    walk: Walk,
    /// The name of the epoch in which it is.
    epoch: Arc<str>,
    /// The number of its last command.
    command: u32,
    /// Attempts since it was last live.
    attempts: u32,
    /// Since when it is live.
    live_since: Option<Duration>,
    was_live: bool,
    /// Since when it is away, and how long of that it waited.
    away: Option<(Duration, Duration)>,
    /// Whose leaves it heard, by a hash of their ids; only kept by those who asked to hear of them.
    left: HashSet<u64>,
    /// Whether it is still to be shown a publication twice.
    will_repeat: bool,
}

impl Client {
    /// Client `index` of a crowd. Nothing happens before [`Client::run`].
    pub(crate) fn new(index: usize, shared: Arc<Shared>, orders: watch::Receiver<Orders>) -> Self {
        let will_repeat = index == 0 && shared.settings.plant == Some(Plant::Repeat);
        Self {
            index,
            shared,
            orders,
            walk: Walk::default(),
            epoch: Arc::from(""),
            command: 0,
            attempts: 0,
            live_since: None,
            was_live: false,
            away: None,
            left: HashSet::new(),
            will_repeat,
        }
    }

    /// Lives until the crowd is told to end, beginning after `delay`.
    pub(crate) async fn run(mut self, delay: Duration) -> Ended {
        self.wait(delay).await;
        while self.orders.borrow().phase == Phase::Run {
            self.attempts += 1;
            let end = self.visit().await;
            if end == End::Finished {
                return self.ended(true);
            }
            self.leave(&end);
            if end.is_terminal() {
                self.shared.records.terminal();
                self.wait(Duration::MAX).await;
            } else {
                self.back_off().await;
            }
        }
        self.ended(false)
    }

    fn ended(self, was_there: bool) -> Ended {
        Ended { client: self.index, is_live: was_there && self.live_since.is_some(), walk: self.walk }
    }

    /// Connects and stays as long as it goes.
    async fn visit(&mut self) -> End {
        let cuts = self.orders.borrow_and_update().cuts;
        let (mut orders, mut orders_to_cut) = (self.orders.clone(), self.orders.clone());
        let opened = tokio::select! {
            biased;
            _ = orders.wait_for(|orders| orders.phase != Phase::Run) => return End::Finished,
            _ = orders_to_cut.wait_for(|orders| orders.cuts != cuts) => return End::Cut,
            opened = self.open() => opened,
        };
        match opened {
            Ok(socket) => Session::new(self, socket, cuts).run().await,
            Err(refusal) => End::Refused(refusal),
        }
    }

    async fn open(&self) -> Result<socket::Socket, socket::Refusal> {
        let settings = &self.shared.settings;
        let target = {
            // A panic while somebody changes the list cannot leave it half changed.
            let targets = settings.targets.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            let turn = (self.index + self.attempts as usize).checked_rem(targets.len());
            turn.map(|turn| targets[turn]).ok_or(socket::Refusal::SILENT)?
        };
        let source = self.index.checked_rem(settings.sources.len()).map(|turn| settings.sources[turn]);
        let path = match settings.token {
            TokenPlace::Query => format!("{}?token={}", settings.path, self.token()),
            TokenPlace::Command => settings.path.clone(),
        };
        socket::open(target, source, &path).await
    }

    fn token(&self) -> String {
        token::sign(&format!("u{}", self.index), &self.shared.settings.secret)
    }

    /// Writes down how a visit ended.
    fn leave(&mut self, end: &End) {
        let at = self.shared.clock.now();
        let (client, records) = (self.index, &self.shared.records);
        match *end {
            End::Refused(socket::Refusal { status, retry_after }) => {
                records.refused(Refused { at, client, status, retry_after });
            }
            End::Closed(code) => records.closed(Closing { at, client, code }),
            End::Cut => records.cut(),
            End::Denied | End::Finished => {}
        }
        if self.was_live && self.away.is_none() {
            self.away = Some((at, Duration::ZERO));
        }
        self.unlive();
    }

    /// Waits as SDKs do after an attempt that failed, or after a connection that ended.
    async fn back_off(&mut self) {
        let before = self.shared.clock.now();
        self.wait(backoff::delay(self.attempts)).await;
        if let Some((_, waited)) = &mut self.away {
            *waited += self.shared.clock.now() - before;
        }
    }

    /// Waits, but not beyond the end of the run.
    async fn wait(&mut self, delay: Duration) {
        let over = self.orders.wait_for(|orders| orders.phase != Phase::Run);
        // Either way it is time to look at the orders again.
        let _ = time::timeout(delay, over).await;
    }

    fn channel(&self) -> usize {
        self.index % self.shared.settings.channels.len()
    }

    fn channel_name(&self) -> &str {
        &self.shared.settings.channels[self.channel()]
    }

    /// Whether it is the one in its channel that hears who joins and leaves.
    fn is_observer(&self) -> bool {
        self.index < self.shared.settings.channels.len()
    }

    /// Where it goes on, unless it has not been there or forgets it.
    fn recovers_from(&self) -> Option<Position> {
        let forgets = self.shared.settings.plant == Some(Plant::Forget);
        self.walk.position().filter(|_| !forgets)
    }

    /// It is subscribed, under this id. What it missed is to follow before it is [`Client::lives`].
    fn subscribed(&mut self, asked: bool, recovered: bool, epoch: &str, offset: u64) {
        let number = self.shared.published.log(self.channel()).epoch(epoch);
        if *self.epoch != *epoch {
            self.epoch = epoch.into();
        }
        let answer = Answer { asked, recovered, at: Position { epoch: number, offset } };
        if self.walk.position().is_some() {
            self.shared.records.notice(|notices| match recovered {
                true => notices.recovered += 1,
                false => notices.not_recovered += 1,
            });
        }
        self.walk.subscribed(answer, self.shared.clock.now());
    }

    /// It has all that it will get of what it missed. `opens` if this is the first time on this connection.
    fn lives(&mut self, id: &str, opens: bool) {
        let at = self.shared.clock.now();
        let records = &self.shared.records;
        self.live_since = Some(at);
        records.set_live(self.index, Some(id));
        if opens {
            let (client, attempt, was_return) = (self.index, self.attempts, self.was_live);
            records.opened(Opening { at, client, attempt, was_return });
        }
        if let Some((closed_at, own_backoff)) = self.away.take() {
            records.blackout(Blackout { client: self.index, closed_at, live_at: at, own_backoff });
        }
        self.was_live = true;
        self.attempts = 0;
    }

    /// It is not subscribed any more.
    fn unlive(&mut self) {
        if self.live_since.take().is_some() {
            self.shared.records.set_live(self.index, None);
        }
    }

    /// A publication came, live or with the answer to a subscription.
    fn publication(&mut self, publication: &protocol::Publication<'_>, is_live: bool) {
        let now = self.shared.clock.now();
        let payload = publication.payload();
        self.judge(publication, payload, now);
        let published_at = payload.map(|payload| Duration::from_micros(payload.at));
        // What was published while the client was away took as long as it did for that reason.
        let was_there = |at: &Duration| is_live && self.live_since.is_some_and(|since| since < *at);
        if let Some(published_at) = published_at.filter(was_there) {
            self.shared.records.delay(published_at, now);
        }
    }

    fn judge(
        &mut self,
        publication: &protocol::Publication<'_>,
        payload: Option<protocol::Payload>,
        now: Duration,
    ) {
        if publication.offset == 0 {
            return self.shared.records.failure(|| "a publication without an offset".to_owned());
        }
        let published = Arc::clone(&self.shared.published);
        let mut log = published.log(self.channel());
        if let Some(epoch) = publication.epoch.as_deref().filter(|&epoch| epoch != &*self.epoch) {
            self.epoch = epoch.into();
        }
        let at = Position { epoch: log.epoch(&self.epoch), offset: publication.offset };
        if let Some(payload) = payload {
            log.saw(at, payload.seq);
        }
        drop(log);
        self.walk.publication(at, now);
        if std::mem::take(&mut self.will_repeat) {
            self.walk.publication(at, now);
        }
    }

    fn joined(&self) {
        self.shared.records.notice(|notices| notices.joins += 1);
    }

    /// Somebody left. No client leaves twice, since whoever comes back has a new id.
    fn heard_leave(&mut self, id: &str) {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let is_known = self.left.contains(&hasher.finish());
        if self.left.len() < LEFT_MAX {
            self.left.insert(hasher.finish());
        }
        self.shared.records.notice(|notices| {
            notices.leaves += 1;
            notices.leaves_twice += u64::from(is_known);
        });
    }

    /// Whether it has the last of what was acknowledged.
    fn is_settled(&self) -> bool {
        let top = self.shared.published.log(self.channel()).top();
        let Some(top) = top else { return true };
        let position = self.walk.position();
        position.is_some_and(|position| position.epoch == top.epoch && position.offset >= top.offset)
    }

    fn failure(&self, words: &str) {
        let (client, at) = (self.index, self.shared.clock.now());
        self.shared.records.failure(|| format!("client {client} at {:.3} s: {words}", at.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_after_which_clients_stay_away_are_known() {
        for code in [1009, 3500, 3501, 3999, 4500, 4999] {
            assert!(End::Closed(Some(code)).is_terminal(), "{code}");
        }
        for code in [1000, 1001, 1006, 3000, 3001, 3499, 4000, 4499, 5000] {
            assert!(!End::Closed(Some(code)).is_terminal(), "{code}");
        }
        assert!(!End::Closed(None).is_terminal() && !End::Cut.is_terminal());
        assert!(!End::Refused(socket::Refusal { status: Some(503), retry_after: Some(1) }).is_terminal());
        assert!(End::Denied.is_terminal());
    }
}
