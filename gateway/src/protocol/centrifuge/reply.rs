//! What the gateway answers to a command, as values.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::code::Error;
use crate::broker::History;
use crate::model::{Channel, ClientId, ClientInfo, RawJson};
use crate::node::recovery::Start;
use crate::presence::PresenceStats;

/// The answer to one command.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It was not done.
    Error(Error),
    /// The session is open.
    Connect(Box<Connected>),
    /// The client is subscribed.
    Subscribe(Box<Begun>),
    /// It is not subscribed any more.
    Unsubscribe,
    /// Published.
    Publish,
    /// Who is there.
    Presence(Vec<Arc<ClientInfo>>),
    /// How many are there.
    PresenceStats(PresenceStats),
    /// What was published.
    History(History),
    /// The connection is good until then; `None`: for ever.
    Refresh(Option<SystemTime>),
    /// The subscription is good until then; `None`: for ever.
    SubRefresh(Option<SystemTime>),
}

/// How a session began.
#[derive(Clone, Debug)]
pub struct Connected {
    /// The client's id.
    pub client: ClientId,
    /// Between two pings; zero if none are sent.
    pub ping: Duration,
    /// When the client has to have refreshed; `None` if there is nothing to refresh.
    pub expires_at: Option<SystemTime>,
    /// The subscriptions that the server made.
    pub subscriptions: Vec<(Channel, Begun)>,
}

/// How a subscription began: what its result says.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// Where it is in the history; `None` if it follows none.
    pub start: Option<Start>,
    /// Whether it can catch up later.
    pub is_recoverable: bool,
    /// The offset from which it asked to catch up; `None` if it did not ask.
    pub since: Option<u64>,
    /// When the client has to have refreshed it; `None` if there is nothing to refresh.
    pub expires_at: Option<SystemTime>,
    /// Custom data of whoever allowed it.
    pub data: Option<RawJson>,
}

impl Begun {
    /// Whether it has caught up; `None` if it did not ask.
    pub fn recovered(&self) -> Option<bool> {
        self.start.as_ref().and_then(|start| start.recovered)
    }

    /// The offset that the client counts on from: where it asked to catch up from if it has caught up, as it takes
    /// the rest from the publications; else where it is live.
    pub fn offset(&self) -> u64 {
        let Some(start) = &self.start else { return 0 };
        let is_recovered = start.recovered == Some(true);
        self.since.filter(|_| is_recovered).unwrap_or(start.position.offset)
    }
}

/// Clients keep timers of 32 bits.
const TTL_SECONDS_MAX: u64 = 365 * 24 * 3600;

/// In how many whole seconds the client has to refresh, at least 1.
pub(super) fn ttl_seconds(expires_at: SystemTime) -> u32 {
    let rest = expires_at.duration_since(SystemTime::now()).unwrap_or_default();
    u32::try_from(rest.as_secs().clamp(1, TTL_SECONDS_MAX)).expect("it is below the limit")
}

/// The interval of pings in whole seconds, rounded up, so that a client never waits for less than comes.
pub(super) fn ping_seconds(ping: Duration) -> u32 {
    let seconds = ping.as_secs().saturating_add(u64::from(ping.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_when_to_refresh_in_whole_seconds_of_32_bits() {
        let now = SystemTime::now();
        assert_eq!(ttl_seconds(now + Duration::from_millis(3_600_500)), 3_600);
        assert_eq!(ttl_seconds(now + Duration::from_secs(u64::from(u32::MAX))), 31_536_000);
        assert_eq!(ttl_seconds(SystemTime::UNIX_EPOCH), 1);
    }

    #[test]
    fn pings_come_no_later_than_announced() {
        assert_eq!(ping_seconds(Duration::from_secs(25)), 25);
        assert_eq!(ping_seconds(Duration::from_millis(1_500)), 2);
        assert_eq!(ping_seconds(Duration::MAX), u32::MAX);
    }
}
