//! What a delivery costs when many come at once: publications of one call to the API, to all clients of one channel.

use anyhow::Result;

use super::closed_loop;
use super::run::Run;

/// Publishes a burst, waits until everybody has all of it, and goes on.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// How often.
    pub bursts: u32,
    /// Publications of a burst; at least 1.
    pub size: u32,
}

impl Burst {
    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        closed_loop::play(run, self.bursts, self.size).await
    }
}
