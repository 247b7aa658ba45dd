//! Which lines are written now: what the configuration says, until somebody asks for something else.
//!
//! There is one answer for the process, as it has one log. Enter by [`levels`].

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload;

use super::filter::LogFilter;
use crate::config::LogLevel;

/// Those of this process.
static LEVELS: OnceLock<Levels> = OnceLock::new();

/// The layer that decides; a disabled line costs what it costs without one, as the answer is kept at each place in the code.
pub(super) type Filtering = reload::Layer<Targets, Registry>;

/// What decides which lines of this process are written; `None` if it does not write any.
pub fn levels() -> Option<&'static Levels> {
    LEVELS.get()
}

/// Has [`levels`] be `these`, unless there are some.
pub(super) fn publish(these: Levels) {
    let _is_first = LEVELS.set(these);
}

/// Which lines are written, and how that is changed.
#[derive(Debug)]
pub struct Levels {
    handle: reload::Handle<Targets, Registry>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    configured: LogLevel,
    filter: LogFilter,
    reversion: Option<Reversion>,
    /// Tells a reversion that came too late that it did.
    changes: u64,
}

/// What ends a change by itself.
#[derive(Debug)]
struct Reversion {
    at: Instant,
    task: AbortHandle,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Which lines are written.
    pub filter: LogFilter,
    /// The level of the configuration.
    pub configured: LogLevel,
    /// After what time that of the configuration comes back by itself; `None`: it does not.
    pub time_left: Option<Duration>,
}

impl Levels {
    /// Those of a process with that in its configuration, and the layer to decide by them.
    pub(super) fn new(configured: LogLevel) -> (Self, Filtering) {
        let filter = LogFilter::from(configured);
        let (layer, handle) = reload::Layer::new(filter.targets());
        let state = State { configured, filter, reversion: None, changes: 0 };
        (Self { handle, state: Mutex::new(state) }, layer)
    }

    /// What is in force.
    pub fn in_force(&self) -> InForce {
        let state = self.state.lock();
        let now = Instant::now();
        let time_left = state.reversion.as_ref().map(|reversion| reversion.at.duration_since(now));
        InForce { filter: state.filter.clone(), configured: state.configured, time_left }
    }

    /// Has lines be written as `filter` says from now on, and for `time` if there is one: then as the configuration says
    /// again. To be called within a runtime, and the process ends before its runtime does.
    pub fn change(&'static self, filter: LogFilter, time: Option<Duration>) {
        let mut state = self.state.lock();
        self.put(&mut state, filter);
        let change = state.changes;
        state.reversion = time.map(|time| Reversion {
            at: Instant::now() + time,
            task: tokio::spawn(async move {
                tokio::time::sleep(time).await;
                self.revert(change);
            })
            .abort_handle(),
        });
    }

    /// The configuration says `level` now. That is in force from then on, whatever was asked for.
    pub fn configure(&self, level: LogLevel) {
        let mut state = self.state.lock();
        state.configured = level;
        self.put(&mut state, level.into());
    }

    fn revert(&self, change: u64) {
        let mut state = self.state.lock();
        if state.changes == change {
            let configured = state.configured;
            self.put(&mut state, configured.into());
            tracing::info!(log.level = %configured, "the level of the log is as configured again");
        }
    }

    fn put(&self, state: &mut State, filter: LogFilter) {
        if let Some(reversion) = state.reversion.take() {
            reversion.task.abort();
        }
        state.changes += 1;
        // It is gone only if the subscriber is, and that lives as long as the process.
        let _is_there = self.handle.reload(filter.targets());
        state.filter = filter;
    }
}

#[cfg(test)]
mod tests {
    use tracing::Subscriber;
    use tracing::level_filters::LevelFilter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::suppression::Suppression;
    use super::*;

    /// With the layers of a process, except that nobody writes.
    fn make(configured: LogLevel) -> (&'static Levels, impl Subscriber) {
        let (levels, layer) = Levels::new(configured);
        let subscriber = Registry::default().with(layer).with(Suppression::new(10));
        (Box::leak(Box::new(levels)), subscriber)
    }

    fn filter(text: &str) -> LogFilter {
        LogFilter::parse(text, LogLevel::Info).unwrap()
    }

    /// What lies beyond it costs a comparison of two numbers, and is not looked at any further.
    #[tokio::test]
    async fn the_bound_of_all_that_may_be_written_follows_each_change() {
        let (levels, subscriber) = make(LogLevel::Info);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::INFO));
        levels.change(filter("info,clarion::redis=debug"), None);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::DEBUG));
        levels.change(filter("error"), None);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::ERROR));
        levels.configure(LogLevel::Warn);
        assert_eq!(subscriber.max_level_hint(), Some(LevelFilter::WARN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_for_some_time_ends_by_itself_and_one_without_does_not() {
        let (levels, _subscriber) = make(LogLevel::Info);
        let minute = Duration::from_secs(60);
        levels.change(filter("debug"), Some(minute));
        assert!(levels.in_force().time_left.unwrap() <= minute);
        tokio::time::sleep(minute / 2).await;
        assert_eq!(levels.in_force().filter, filter("debug"));
        tokio::time::sleep(minute).await;
        let as_configured = InForce { filter: filter("info"), configured: LogLevel::Info, time_left: None };
        assert_eq!(levels.in_force(), as_configured);
        levels.change(filter("debug"), None);
        tokio::time::sleep(minute * 1_000).await;
        assert_eq!(levels.in_force(), InForce { filter: filter("debug"), ..as_configured });
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_change_does_not_end_the_one_after_it() {
        let (levels, _subscriber) = make(LogLevel::Info);
        let minute = Duration::from_secs(60);
        levels.change(filter("debug"), Some(minute));
        levels.change(filter("trace"), Some(minute * 3));
        tokio::time::sleep(minute * 2).await;
        assert_eq!(levels.in_force().filter, filter("trace"));
        levels.change(filter("debug"), None);
        tokio::time::sleep(minute * 2).await;
        assert_eq!(levels.in_force().filter, filter("debug"));
    }

    #[tokio::test]
    async fn what_the_configuration_says_now_ends_what_was_asked_for() {
        let (levels, _subscriber) = make(LogLevel::Info);
        levels.change(filter("trace"), Some(Duration::from_secs(60)));
        levels.configure(LogLevel::Warn);
        let as_configured = InForce { filter: filter("warn"), configured: LogLevel::Warn, time_left: None };
        assert_eq!(levels.in_force(), as_configured);
    }
}
