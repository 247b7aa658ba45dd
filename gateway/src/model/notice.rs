use std::sync::Arc;

use super::ClientInfo;

/// A change of who is subscribed to a channel, as its subscribers are told.
///
/// Kept in no history: who missed one can ask for the presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This connection is a subscriber from now on.
    Join(Arc<ClientInfo>),
    /// It is none any more.
    Leave(Arc<ClientInfo>),
}

impl Notice {
    /// Who it is about.
    pub fn info(&self) -> &Arc<ClientInfo> {
        match self {
            Self::Join(info) | Self::Leave(info) => info,
        }
    }

    /// How much memory it holds on to, roughly, in bytes. Queues count with it.
    pub fn cost_bytes(&self) -> usize {
        size_of::<Self>() + self.info().cost_bytes()
    }
}
