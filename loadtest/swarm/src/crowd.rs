//! Many clients that come back when they lose their connection, as the SDKs do.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::findings::CrowdFindings;
use crate::published::Published;

/// Who connects where, and listens to what.
#[derive(Clone, Debug)]
pub struct CrowdSettings {
    /// Public addresses: a load balancer, or nodes in turn. They are read for each attempt.
    pub targets: Arc<RwLock<Vec<SocketAddr>>>,
    /// Where on them the WebSocket is, such as `/connection/websocket`.
    pub path: String,
    /// How many clients there are. Client `i` is the user `u{i}` and listens to channel `i % channels`.
    pub clients: usize,
    /// What they listen to. The first client of each channel also hears who joins and leaves.
    pub channels: Vec<String>,
    /// How many clients start per second.
    pub connects_per_second: u32,
    /// Signs the clients' tokens (HS256).
    pub secret: String,
    /// Where a client shows its token.
    pub token: TokenPlace,
    /// Addresses to connect from, in turn. Empty: the kernel's choice, which is good for some 25,000 clients per target.
    pub sources: Vec<IpAddr>,
    /// A fault of the clients themselves, to see that the oracle finds it.
    pub plant: Option<Plant>,
}

/// Where a client shows its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace {
    /// In the query of the handshake, as `token`.
    Query,
    /// In its command `connect`.
    Command,
}

/// A fault of the clients themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Clients that come back do not recover.
    Forget,
    /// One client is shown one publication twice.
    Repeat,
}

/// Many clients. Dropping it ends them at once, without a judgement.
#[derive(Debug)]
pub struct Crowd {}

impl Crowd {
    /// Starts the clients, one after the other.
    pub fn start(_settings: CrowdSettings, _clock: Clock, _published: Arc<Published>) -> Self {
        Self {}
    }

    /// Waits until every client is live: connected, subscribed, and caught up.
    ///
    /// # Errors
    /// How many are, when that took longer than `within`.
    pub async fn all_live(&self, _within: Duration) -> Result<(), usize> {
        Ok(())
    }

    /// Drops the TCP connection of every client at one instant, without a close frame.
    pub fn cut_all(&self) {}

    /// How many clients are live now.
    pub fn live(&self) -> usize {
        0
    }

    /// Per channel, the ids that the server gave to those clients that are live now.
    pub fn present(&self) -> HashMap<String, Vec<String>> {
        HashMap::new()
    }

    /// Waits, but not for long, until every live client has everything that was acknowledged; then closes all of them
    /// and judges. To be called when nothing more is published.
    pub async fn finish(self) -> CrowdFindings {
        CrowdFindings::default()
    }
}
