//! Where the time of the processors goes: what every thread of the process does, looked at 99 times in each second of
//! processor time.
//!
//! Nobody waits for it: a thread of its own begins, waits and writes it down, and the others are interrupted for as long as
//! it takes to walk their stacks. The first profile takes 115 MB that the process keeps, and for a moment 200. Enter by
//! [`profile`].

mod encoding;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use tokio::sync::oneshot;

/// Samples in a second of processor time. Not a round number, which would be in step with timers.
const FREQUENCY: i32 = 99;
/// Where stacks are not walked: what is interrupted there may hold what walking needs. In a static binary there is none of
/// these, and its C library walks without locks.
const NOT_WALKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Why there is no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// One is being taken.
    #[error("a profile is being taken")]
    Busy,
    /// The system lacks what it needs: a directory for temporary files, and a thread.
    #[error("the profiler cannot start")]
    Unable,
}

/// Takes a profile of `time`, as `go tool pprof` reads it (perftools.profiles.Profile, not compressed). One at a time.
///
/// Dropping the future ends it early.
///
/// # Errors
/// [`ProfileError`]
pub async fn profile(time: Duration) -> Result<Vec<u8>, ProfileError> {
    let turn = Turn::take().ok_or(ProfileError::Busy)?;
    let (asking, nobody_asks) = sync_channel(0);
    let (answer, answered) = oneshot::channel();
    let take = move || {
        // Whoever asked may have gone meanwhile.
        let _is_heard = answer.send(turn.record(time, &nobody_asks));
    };
    let started = thread::Builder::new().name("profile".into()).spawn(take);
    started.map_err(|error| unable(&error))?;
    let result = answered.await;
    drop(asking);
    result.unwrap_or(Err(ProfileError::Unable))
}

/// The right to take a profile, which nobody else has meanwhile.
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        // Not `then_some`: a turn that is made in vain ends the one that goes on.
        (!IS_UNDER_WAY.swap(true, Ordering::AcqRel)).then(|| Self)
    }

    /// Takes one, unless `nobody_asks` any more before its `time` is over.
    fn record(self, time: Duration, nobody_asks: &Receiver<Infallible>) -> Result<Vec<u8>, ProfileError> {
        let begun = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&NOT_WALKED).build();
        let recording = begun.map_err(|error| unable(&error))?;
        match nobody_asks.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => finish(&recording),
            Err(RecvTimeoutError::Disconnected) => Ok(Vec::new()),
            Ok(never) => match never {},
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_UNDER_WAY.store(false, Ordering::Release);
    }
}

fn finish(recording: &ProfilerGuard<'_>) -> Result<Vec<u8>, ProfileError> {
    let report = recording.report().build().map_err(|error| unable(&error))?;
    Ok(encoding::encode(&report.data, report.timing.start_time, report.timing.duration, FREQUENCY))
}

fn unable(error: &(dyn std::error::Error + 'static)) -> ProfileError {
    let directory = std::env::temp_dir();
    tracing::warn!(error, directory = %directory.display(), "no profile can be taken");
    ProfileError::Unable
}
