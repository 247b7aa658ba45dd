//! Which lines are written.

use std::fmt;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use crate::config::LogLevel;

/// The root of our own targets, and the only one that may say more than `warn`: what a library says of a request may hold
/// its query, and the query holds the token.
const OURS: &str = "clarion";
/// Longest text of a filter, in bytes.
const TEXT_BYTES_MAX: usize = 1024;
/// How much of what is wrong is repeated, in characters.
const REPEATED_MAX: usize = 64;

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nobody types that much.
    #[error("a filter has at most {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// There is no such level.
    #[error("`{0}` is no level; known are `error`, `warn`, `info`, `debug` and `trace`")]
    Level(String),
    /// It names somebody else's code, or nothing that could be code.
    #[error(
        "`{0}` is no part of the gateway; those begin with `clarion::`, as in `info,clarion::redis=debug`"
    )]
    Target(String),
    /// It is not clear which one counts.
    #[error("`{0}` is there twice")]
    Twice(String),
}

/// The level of the gateway, and of some parts of it another. Of libraries, what is at least `warn` is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    level: LogLevel,
    parts: Vec<(String, LogLevel)>,
}

impl From<LogLevel> for LogFilter {
    fn from(level: LogLevel) -> Self {
        Self { level, parts: Vec::new() }
    }
}

impl LogFilter {
    /// Reads `debug` or `info,clarion::redis=debug`: a level, and parts of the gateway by their path with theirs. Without
    /// the former it is `default`.
    ///
    /// # Errors
    /// [`FilterError`] names the first thing that is wrong.
    pub fn parse(text: &str, default: LogLevel) -> Result<Self, FilterError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(FilterError::TooLong);
        }
        let (mut level, mut parts) = (None, Vec::new());
        for word in text.split(',').map(str::trim) {
            let (target, name) = word.split_once('=').unwrap_or((OURS, word));
            let (target, its_level) = (target.trim(), parse_level(name.trim())?);
            let is_known = parts.iter().any(|(known, _)| known == target);
            if is_known || (target == OURS && level.is_some()) {
                return Err(FilterError::Twice(repeat(target)));
            }
            match target {
                OURS => level = Some(its_level),
                _ if is_ours(target) => parts.push((target.to_owned(), its_level)),
                _ => return Err(FilterError::Target(repeat(target))),
            }
        }
        Ok(Self { level: level.unwrap_or(default), parts })
    }

    /// The same for the subscriber.
    pub(super) fn targets(&self) -> Targets {
        let others = self.level.min(LogLevel::Warn);
        let targets = Targets::new().with_default(level_filter(others));
        let parts = self.parts.iter().map(|(target, level)| (target.as_str(), level_filter(*level)));
        targets.with_target(OURS, level_filter(self.level)).with_targets(parts)
    }
}

/// As [`parse`](LogFilter::parse) reads it.
impl fmt::Display for LogFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.level)?;
        self.parts.iter().try_for_each(|(target, level)| write!(formatter, ",{target}={level}"))
    }
}

fn parse_level(name: &str) -> Result<LogLevel, FilterError> {
    let level = LogLevel::ALL.into_iter().find(|level| level.as_str() == name);
    level.ok_or_else(|| FilterError::Level(repeat(name)))
}

fn is_ours(target: &str) -> bool {
    let path = target.strip_prefix(OURS).and_then(|rest| rest.strip_prefix("::"));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    path.is_some_and(|path| path.split("::").all(is_name))
}

fn repeat(text: &str) -> String {
    text.chars().take(REPEATED_MAX).collect()
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn parse(text: &str) -> Result<LogFilter, FilterError> {
        LogFilter::parse(text, LogLevel::Info)
    }

    #[test]
    fn a_filter_is_a_level_and_parts_of_the_gateway_with_theirs() {
        for (text, is) in [
            ("debug", "debug"),
            (" warn , clarion::redis = debug ", "warn,clarion::redis=debug"),
            ("clarion::redis=debug", "info,clarion::redis=debug"),
            ("clarion=trace,clarion::shard::hub=info", "trace,clarion::shard::hub=info"),
        ] {
            let filter = parse(text).unwrap();
            assert_eq!(filter.to_string(), is);
            assert_eq!(parse(is), Ok(filter));
        }
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_named() {
        let level = |text: &str| FilterError::Level(text.into());
        let target = |text: &str| FilterError::Target(text.into());
        let twice = |text: &str| FilterError::Twice(text.into());
        for (text, error) in [
            ("", level("")),
            ("verbose", level("verbose")),
            ("INFO", level("INFO")),
            ("off", level("off")),
            ("info,", level("")),
            ("info,clarion::redis=loud", level("loud")),
            ("info,clarion::redis", level("clarion::redis")),
            ("hyper=trace", target("hyper")),
            ("clarion_other=debug", target("clarion_other")),
            ("clarion::=debug", target("clarion::")),
            ("clarion::redis[request]=debug", target("clarion::redis[request]")),
            ("=debug", target("")),
            ("info,debug", twice("clarion")),
            ("clarion::a=debug,clarion::a=info", twice("clarion::a")),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
        assert_eq!(parse(&format!("info,{}", "x".repeat(2_000))), Err(FilterError::TooLong));
        assert_eq!(parse(&"é".repeat(100)), Err(level(&"é".repeat(64))));
    }

    #[test]
    fn libraries_say_nothing_below_warn_whatever_is_asked_for() {
        for level in LogLevel::ALL {
            let targets = LogFilter::from(level).targets();
            assert!(targets.would_enable("clarion::shard", &Level::ERROR), "{level}");
            assert!(!targets.would_enable("hyper::proto", &Level::INFO), "{level}");
            assert_eq!(
                targets.would_enable("hyper::proto", &Level::WARN),
                level != LogLevel::Error,
                "{level}"
            );
            assert_eq!(targets.would_enable("clarion", &Level::TRACE), level == LogLevel::Trace, "{level}");
        }
    }

    #[test]
    fn a_part_has_its_own_level() {
        let targets = parse("warn,clarion::redis=debug").unwrap().targets();
        assert!(targets.would_enable("clarion::redis::subscriptions", &Level::DEBUG));
        assert!(!targets.would_enable("clarion::redis::subscriptions", &Level::TRACE));
        assert!(!targets.would_enable("clarion::shard", &Level::INFO));
    }
}
