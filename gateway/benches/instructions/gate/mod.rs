//! What is made of the counts. No I/O: `tests/gate.rs` tests it, because a bench without a harness has no tests.

pub(crate) mod baselines;
pub(crate) mod counts;
pub(crate) mod verdict;
