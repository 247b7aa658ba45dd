use serde::{Deserialize, Serialize};

/// What helps to find out why a node does what it does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Debugging {
    /// Whether the internal listener gives profiles to whoever has a key.
    pub pprof: bool,
}
