//! What the gateway is about, as plain values: channels, publications, identities, reasons to close.
//!
//! Nothing here does I/O, and nothing here knows a client protocol.

#[cfg(test)]
pub(crate) mod chance;
mod channel;
mod close;
mod grants;
mod identity;
mod notice;
mod payload;
mod position;
mod publication;
mod revocation;
mod secret;
mod subscription;
mod tenure;
mod trace_parent;

pub use channel::{Channel, ChannelError};
pub use close::CloseReason;
pub use grants::{Capability, ChannelMatch, Permission, TokenGrants};
pub use identity::{ClientId, ClientInfo, Identity, NodeEpoch, NodeId, UserId, UserIdError};
pub use notice::Notice;
pub use payload::{Json, Payload};
pub use position::{Epoch, Position, Since};
pub use publication::{Publication, RawJson, RawJsonError, is_too_deep};
pub use revocation::{Revocation, TokenMark, Whose};
pub use secret::Secret;
pub use subscription::{Overrides, SubscriptionGrant};
pub use tenure::Tenure;
pub use trace_parent::TraceParent;
