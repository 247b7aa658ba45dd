//! x
pub mod ladder;
pub mod slo;
