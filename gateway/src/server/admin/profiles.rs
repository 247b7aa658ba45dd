//! `/debug/pprof/profile`: where the time of the processors goes.

use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use axum::response::IntoResponse;

use super::Admin;
use crate::config::Scope;
use crate::server::problem::Problem;
use crate::telemetry::{ProfileError, profile};

/// What is taken if the request does not say, as programs that ask for profiles expect.
const SECONDS: u64 = 30;
/// Longest profile, in seconds.
const SECONDS_MAX: u64 = 60;

impl Admin {
    /// `GET /debug/pprof/profile?seconds=`
    pub(super) async fn profile(&self, request: Request) -> Result<impl IntoResponse + use<>, Problem> {
        let (head, _) = request.into_parts();
        self.door.caller(Scope::Control, &head)?;
        let seconds = seconds(head.uri.query().unwrap_or_default())?;
        let profile = profile(Duration::from_secs(seconds)).await.map_err(|error| match error {
            ProfileError::Busy => Problem::Busy,
            ProfileError::Unable => Problem::NoProfile,
        })?;
        Ok(([(header::CONTENT_TYPE, "application/octet-stream")], profile))
    }
}

fn seconds(query: &str) -> Result<u64, Problem> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let Some((_, text)) = pairs.find(|(name, _)| name == "seconds") else { return Ok(SECONDS) };
    let seconds = text.parse().ok().filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| {
        Problem::Malformed(format!("`seconds` must be a whole number from 1 to {SECONDS_MAX}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_whole_seconds_within_bounds() {
        for (query, expected) in [("", 30), ("debug=0", 30), ("seconds=1", 1), ("a=b&seconds=60", 60)] {
            assert_eq!(seconds(query), Ok(expected), "{query}");
        }
        for bad in ["seconds=", "seconds=0", "seconds=61", "seconds=1.5", "seconds=-1", "seconds=x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
