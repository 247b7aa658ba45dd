//! Threads for a part of a run alone, so that what one part costs is not counted as a delay of another.

use std::io;

use rustix::process::setpriority_process;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// How nice those are who would be on other machines, and must not take the time of what is measured.
pub(super) const NICE: i32 = 10;

/// A runtime that is not waited for when it ends: that is not allowed on a thread of another one.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// Starts `count` threads, as nice as `niceness` says.
    pub(super) fn start(name: &'static str, count: usize, niceness: i32) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count).thread_name(name).enable_all();
        builder.on_thread_start(move || {
            if niceness > 0 {
                // Of this thread alone. To be nicer is always allowed.
                setpriority_process(None, niceness).expect("a niceness of this machine's range");
            }
        });
        builder.build().map(|runtime| Self(Some(runtime)))
    }

    /// What is spawned while this lives runs here.
    pub(super) fn enter(&self) -> EnterGuard<'_> {
        self.0.as_ref().expect("it is taken when this is dropped").enter()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
