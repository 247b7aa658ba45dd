//! What a delivery costs: one publication at a time to all clients of one channel.

use anyhow::Result;

use super::closed_loop;
use super::run::Run;

/// Publishes, waits until everybody has it, and goes on.
#[derive(Clone, Copy, Debug)]
pub struct Fan {
    /// How often.
    pub publications: u32,
}

impl Fan {
    pub(super) async fn play(self, run: &mut Run) -> Result<()> {
        closed_loop::play(run, self.publications, 1).await
    }
}
