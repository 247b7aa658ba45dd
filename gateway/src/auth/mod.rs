//! Who a client is and what it may do.

mod authority;

pub use authority::{Authority, Refusal};

/// Temporary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// x
    Expired,
    /// x
    NotYetValid,
    /// x
    Other,
}
