//! `/admin/log-level`: which lines of the log are written, and for how long.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::config::Scope;
use crate::server::access::Caller;
use crate::server::door;
use crate::server::problem::Problem;
use crate::telemetry::{self, InForce, Levels, LogFilter};

/// The fields of [`Change`].
const FIELDS: &str = "`level` and `for`";
/// For how long a change can be asked for that ends by itself.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// A level, or one and those of parts of the gateway: `info,clarion::redis=debug`.
    level: String,
    /// After what time that of the configuration comes back by itself, as `10m`; without it, it does not.
    #[serde(default)]
    r#for: Option<String>,
}

/// What is in force.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    level: String,
    /// The level to which it goes back.
    configured: String,
    /// In whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#for: Option<String>,
}

impl From<InForce> for Answer {
    fn from(in_force: InForce) -> Self {
        let whole = |time: Duration| humantime::format_duration(Duration::from_secs(time.as_secs()));
        Self {
            level: in_force.filter.to_string(),
            configured: in_force.configured.to_string(),
            r#for: in_force.time_left.map(|time| whole(time).to_string()),
        }
    }
}

impl Admin {
    /// `GET /admin/log-level`
    pub(super) fn log_level(&self, request: Request) -> Result<Json<Answer>, Problem> {
        let (head, _) = request.into_parts();
        self.door.caller(Scope::Info, &head)?;
        Ok(Json(levels()?.in_force().into()))
    }

    /// `PUT /admin/log-level`
    pub(super) async fn change_log_level(&self, request: Request) -> Result<Json<Answer>, Problem> {
        let (head, body) = request.into_parts();
        let caller = self.door.caller(Scope::Control, &head)?;
        let change: Change = door::decode(&self.door.json(&head, body).await?, FIELDS)?;
        let levels = levels()?;
        let filter = LogFilter::parse(&change.level, levels.in_force().configured);
        let filter = filter.map_err(|error| Problem::Malformed(format!("`level`: {error}")))?;
        let time = change.r#for.as_deref().map(parse_time).transpose()?;
        put(levels, filter, time, caller);
        Ok(Json(levels.in_force().into()))
    }
}

fn levels() -> Result<&'static Levels, Problem> {
    telemetry::levels().ok_or(Problem::NoLog)
}

fn parse_time(text: &str) -> Result<Duration, Problem> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| (Duration::from_secs(1)..=TIME_MAX).contains(time))
        .ok_or_else(|| Problem::Malformed("`for` must be a time from 1s to 24h, such as 10m".into()))
}

/// Changes the level, and says so while, or as soon as, that is heard.
fn put(levels: &'static Levels, filter: LogFilter, time: Option<Duration>, caller: Caller<'_>) {
    let level = filter.to_string();
    let say = || tracing::info!(log.level = level, r#for = ?time, api.key = caller.name(), "the level of the log is changed");
    let is_heard = tracing::enabled!(tracing::Level::INFO);
    if is_heard {
        say();
    }
    levels.change(filter, time);
    if !is_heard {
        say();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_neither_nothing_nor_for_ever() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("24h", 86_400), ("1h 30m", 5_400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "0s", "999ms", "10", "-1s", "25h", "for ever"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
