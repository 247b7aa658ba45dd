use crate::model::{Channel, NodeId};

/// What keys and channels are called in Redis.
///
/// Every name begins with the prefix of the cluster. What belongs to one channel has the same tag, so that it lives
/// in one place wherever channels are spread.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The Redis channel that carries `channel`.
    pub fn relay(&self, channel: &Channel) -> String {
        self.of_channel("c", channel)
    }

    /// The key called `kind` of `channel`; `kind` holds no colon.
    pub fn of_channel(&self, kind: &str, channel: &Channel) -> String {
        format!("{}:{kind}:{channel}", self.prefix)
    }

    /// The key called `kind` of `id`, for what belongs to no channel; `kind` holds no colon.
    pub fn of(&self, kind: &str, id: &str) -> String {
        format!("{}:{kind}:{id}", self.prefix)
    }

    /// The Redis channel on which a node hears its own probes.
    pub(super) fn probe(&self, node: NodeId) -> String {
        self.of("probe", &node.to_string())
    }
}
