use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Auto;

/// How a node that stops lets go of its clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long the node still accepts after it was told to stop, not ready any more: until nobody sends clients there.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// Over how long connections are closed after that, evenly. 0 = all at once.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), window: Duration::from_secs(20) }
    }
}

/// How fast clients may come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Most handshakes of the node in a second; at least 1. Auto = sized from the CPUs.
    pub handshakes_per_second: Auto<usize>,
    /// Most handshakes from one address in a second; 0 = unlimited.
    pub address_handshakes_per_second: usize,
}

/// Whether nodes even out how many clients they have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rebalance {
    /// A node that has far more clients than the others have on average lets go of some, slowly.
    pub enabled: bool,
}
