//! Clients that keep their connections while all others lose theirs, and a back end of their own.
//!
//! They work on a thread of their own: what it costs this process that thousands of clients connect at once is not to be
//! counted as a delay of the gateway. They have a channel of their own, in which there is much to hear: a percentile of a
//! few publications says little.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::threads::Threads;
use crate::clock::Clock;
use crate::crowd::{Crowd, CrowdSettings};
use crate::findings::{CrowdFindings, PublishFindings};
use crate::published::Published;
use crate::publisher::{Publisher, PublisherSettings};

/// How many there are.
pub(super) const COUNT: usize = 20;
/// Publications per second that each of them gets.
pub(super) const RATE: u32 = 200;

/// Running. Dropping it ends all of it.
pub(super) struct Witnesses {
    crowd: Crowd,
    publisher: Publisher,
    threads: Threads,
}

impl Witnesses {
    /// Starts them; they publish at once.
    pub(super) fn start(crowd: CrowdSettings, publisher: PublisherSettings, clock: Clock) -> Result<Self> {
        let threads = Threads::start("witnesses", 1, 0)?;
        let published = Arc::new(Published::new(&crowd.channels));
        let entered = threads.enter();
        let crowd = Crowd::start(crowd, clock, Arc::clone(&published));
        let publisher = Publisher::start(publisher, clock, published);
        drop(entered);
        Ok(Self { crowd, publisher, threads })
    }

    /// As [`Crowd::all_live`].
    pub(super) async fn all_live(&self, within: Duration) -> Result<(), usize> {
        self.crowd.all_live(within).await
    }

    /// Ends them in order, and answers what they went through.
    pub(super) async fn finish(self) -> (CrowdFindings, PublishFindings) {
        let Self { crowd, publisher, threads } = self;
        let publish = publisher.stop().await;
        let crowd = crowd.finish().await;
        drop(threads);
        (crowd, publish)
    }
}
