//! A back end that publishes at a steady rate.

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::clock::Clock;
use crate::findings::PublishFindings;
use crate::published::Published;

/// What is published, how fast, and where.
#[derive(Clone, Debug)]
pub struct PublisherSettings {
    /// Internal addresses of the nodes. Whoever replaces a node changes them; they are read for each request.
    pub nodes: Arc<RwLock<Vec<SocketAddr>>>,
    /// Sent as `X-API-Key`.
    pub api_key: String,
    /// Published to in turn.
    pub channels: Vec<String>,
    /// Publications per second, over all channels.
    pub rate: u32,
    /// Padding of each publication.
    pub payload_bytes: usize,
    /// How long a publication is tried again, with its key, until it is acknowledged. Zero: once, as a plain back end.
    pub patience: Duration,
}

/// Publishes until it is stopped.
#[derive(Debug)]
pub struct Publisher {}

impl Publisher {
    /// Starts to publish, from a task of its own.
    pub fn start(_settings: PublisherSettings, _clock: Clock, _published: Arc<Published>) -> Self {
        Self {}
    }

    /// Publishes nothing more, and waits until everything is answered or given up.
    pub async fn stop(self) -> PublishFindings {
        PublishFindings::default()
    }
}
