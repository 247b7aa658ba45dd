//! Who a client is and what it may do: tokens, permissions, keys of the server API.
//!
//! Decides and does nothing else: it knows no socket, no protocol and no close code. Nothing of a
//! token is acted on before its signature has been verified. Enter by [`Authority`] and [`ApiKeys`].

// Bytes of strangers come here: none of them may panic.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used))]

mod authority;
mod claims;
mod grants;
mod jwt;
mod keys;
mod members;
mod revocations;
mod terms;

pub use authority::{Authority, Refusal, SubscriptionTokenError};
pub use claims::SubscriptionClaims;
pub use jwt::{KeyError, TokenError, TokenVerifier, sign};
pub use keys::ApiKeys;
pub use revocations::Revocations;
pub use terms::{Asks, Following, Terms};
