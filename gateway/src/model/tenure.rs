use std::time::{Duration, Instant};

use super::NodeEpoch;

/// Far enough ahead for any process, and near enough for an [`Instant`].
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long the others are known to take a node for alive.
///
/// What a node keeps for others to see it keeps under its epoch, and changes only until `until`: after that somebody
/// may have taken it for dead, and cleared away what it kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// Under which name.
    pub epoch: NodeEpoch,
    /// Until when, unless the node is heard again before.
    pub until: Instant,
}

impl Tenure {
    /// One that has not begun: nobody has heard of it.
    pub fn unheard() -> Self {
        Self { epoch: NodeEpoch::random(), until: Instant::now() }
    }

    /// That of a node without others, which ends with the process.
    pub fn endless() -> Self {
        Self { epoch: NodeEpoch::random(), until: Instant::now() + FOR_EVER }
    }

    /// Its epoch while it lasts.
    pub fn held(&self) -> Option<NodeEpoch> {
        (Instant::now() < self.until).then_some(self.epoch)
    }
}
