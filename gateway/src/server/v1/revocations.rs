//! `POST /v1/revocations`: some tokens are no longer good.

use std::time::{Duration, SystemTime};

use axum::extract::Request;
use serde::{Deserialize, Serialize};

use super::V1;
use crate::config::Scope;
use crate::model::{Revocation, UserId, Whose};
use crate::server::door;
use crate::server::problem::Problem;

/// Longest token id, in bytes.
const TOKEN_ID_BYTES_MAX: usize = 1024;
/// Longest time for which a revocation is remembered. A token that is good for longer should not be.
const REMEMBERED_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How far the clock of the caller may be ahead of ours.
const AHEAD_MAX: Duration = Duration::from_secs(300);
/// The fields of [`Body`].
const FIELDS: &str = "`token_id`, `user`, `issued_before` and `expire_at`";

/// The tokens of a user, of everybody, or one; times are in seconds since 1970.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Body {
    /// The claim `jti` of the token that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<String>,
    /// The user whose tokens are meant: all, new ones too.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Only those that were issued before, or do not say when; without a user: everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    /// When nobody has to remember it any more. By default every token that is good today has expired by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    expire_at: Option<u64>,
}

impl V1 {
    /// Answers what has been revoked, and until when.
    pub(super) async fn revoke(&self, request: Request) -> Result<Body, Problem> {
        let text = self.door.admit(Scope::Control, request).await?;
        let mut body: Body = door::decode(&text, FIELDS)?;
        let revocation = body.revocation(SystemTime::now(), self.token_lifetime_max)?;
        body.expire_at = Some(seconds(revocation.forget_at));
        let revoking = self.node.cluster().revoke(revocation);
        match tokio::time::timeout(self.door.config.timeout, revoking).await {
            Ok(revoked) => revoked?,
            Err(_) => return Err(Problem::Unavailable),
        }
        Ok(body)
    }
}

impl Body {
    /// What is meant, at the time `now`, where a token can be good for `lifetime_max`.
    fn revocation(&self, now: SystemTime, lifetime_max: Duration) -> Result<Revocation, Problem> {
        let issued_before = self.issued_before.map(|seconds| time("issued_before", seconds)).transpose()?;
        if issued_before.is_some_and(|time| time > now + AHEAD_MAX) {
            return Err(malformed("`issued_before` lies in the future"));
        }
        let forget_at = match self.expire_at {
            Some(seconds) => time("expire_at", seconds)?,
            None if lifetime_max.is_zero() => now + REMEMBERED_MAX,
            None => now + lifetime_max.min(REMEMBERED_MAX),
        };
        if forget_at <= now {
            return Err(malformed("`expire_at` has passed"));
        }
        if forget_at > now + REMEMBERED_MAX {
            return Err(malformed("`expire_at` lies more than 366 days ahead"));
        }
        Ok(Revocation { whose: self.whose(issued_before)?, forget_at })
    }

    fn whose(&self, issued_before: Option<SystemTime>) -> Result<Whose, Problem> {
        match (&self.token_id, &self.user, issued_before) {
            (Some(id), None, None) if (1..=TOKEN_ID_BYTES_MAX).contains(&id.len()) => {
                Ok(Whose::Token(id.clone()))
            }
            (Some(_), None, None) => Err(malformed("`token_id` must have 1 to 1024 bytes")),
            (Some(_), ..) => Err(malformed("`token_id` stands alone, without `user` and `issued_before`")),
            (None, Some(user), issued_before) => {
                let user = UserId::parse(user).ok().filter(|user| !user.is_anonymous());
                let user = user.ok_or_else(|| malformed("`user` is no user id"))?;
                Ok(Whose::User { user, issued_before })
            }
            (None, None, Some(issued_before)) => Ok(Whose::Everybody { issued_before }),
            (None, None, None) => {
                Err(malformed("one of `token_id`, `user` and `issued_before` says which tokens are meant"))
            }
        }
    }
}

fn malformed(detail: &str) -> Problem {
    Problem::Malformed(detail.into())
}

fn time(name: &str, seconds: u64) -> Result<SystemTime, Problem> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    time.ok_or_else(|| Problem::Malformed(format!("`{name}` is too far away")))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
