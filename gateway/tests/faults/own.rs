//! The tests of the harness itself: an oracle that finds nothing proves nothing.
//!
//! The usual runner is not there, since faults are not chosen and reported as it does. A test that is written and not
//! listed is dead code, which the compiler notices.

use std::thread;

use anyhow::{Result, ensure};

/// One test; it panics if it fails.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
}

/// Lists the tests of a module: those that do not wait, then those that do.
macro_rules! tests {
    ($($plain:ident),* $(; $($waiting:ident),+)?) => {
        pub(crate) const TESTS: &[crate::own::Test] = &[
            $(crate::own::Test { name: stringify!($plain), run: $plain },)*
            $($(crate::own::Test {
                name: stringify!($waiting),
                run: || tokio::runtime::Runtime::new().unwrap().block_on($waiting()),
            },)+)?
        ];
    };
}
pub(crate) use tests;

/// Runs all tests of the harness; answers how many there are.
///
/// # Errors
/// Those that failed, by name.
pub(crate) fn run() -> Result<usize> {
    let parts = [
        crate::catalogue::tests::TESTS,
        crate::certificates::tests::TESTS,
        crate::cleanup::tests::TESTS,
        crate::firewall::tests::TESTS,
        crate::fleet::tests::TESTS,
        crate::http::tests::TESTS,
        crate::journal::tests::TESTS,
        crate::node::tests::TESTS,
        crate::oracle::tests::TESTS,
        crate::probe::tests::TESTS,
        crate::process::tests::TESTS,
        crate::proxy::tests::TESTS,
        crate::publisher::tests::TESTS,
        crate::raw::tests::TESTS,
        crate::redis::tests::TESTS,
        crate::report::tests::TESTS,
        crate::watch::tests::TESTS,
    ];
    let tests: Vec<&Test> = parts.into_iter().flatten().collect();
    let running = tests.iter().map(|test| thread::Builder::new().name(test.name.into()).spawn(test.run));
    let running: Vec<_> = running.collect::<Result<_, _>>()?;
    let ended = running.into_iter().map(thread::JoinHandle::join);
    let failed: Vec<&str> =
        tests.iter().zip(ended).filter(|(_, end)| end.is_err()).map(|(test, _)| test.name).collect();
    ensure!(failed.is_empty(), "tests of the harness failed: {}", failed.join(", "));
    Ok(tests.len())
}
