use ::redis::{ErrorKind, RedisError, ServerErrorKind};

/// What was asked of Redis was not done, or is not known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No answer in time, or nobody to ask: it may have been done.
    #[error("redis does not answer")]
    Unavailable,
    /// It was not done.
    #[error("redis refuses: {0}")]
    Refused(Refusal),
    /// It was not done: there is no memory for it.
    #[error("redis is full")]
    Full,
}

/// Why Redis refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The user or the password is wrong or missing.
    #[error("user or password is wrong")]
    Credentials,
    /// The user lacks a right.
    #[error("the user lacks a right")]
    Permission,
    /// It is a replica.
    #[error("it is a replica")]
    ReadOnly,
    /// It reads its data from disk.
    #[error("it is loading its data")]
    Loading,
    /// A script keeps it.
    #[error("a script keeps it busy")]
    Busy,
    /// A key holds something of another type.
    #[error("a key holds something else")]
    WrongType,
    /// It cannot write to its disk, or lacks replicas.
    #[error("it takes no writes")]
    NoWrites,
    /// Anything else that it says.
    #[error("it answers with an error")]
    Other,
}

impl Failure {
    /// Every [label](Self::label).
    pub(super) const LABELS: [&str; 10] = [
        "unavailable",
        "full",
        "credentials",
        "permission",
        "read_only",
        "loading",
        "busy",
        "wrong_type",
        "no_writes",
        "other",
    ];

    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::Refused(Refusal::Credentials) => "credentials",
            Self::Refused(Refusal::Permission) => "permission",
            Self::Refused(Refusal::ReadOnly) => "read_only",
            Self::Refused(Refusal::Loading) => "loading",
            Self::Refused(Refusal::Busy) => "busy",
            Self::Refused(Refusal::WrongType) => "wrong_type",
            Self::Refused(Refusal::NoWrites) => "no_writes",
            Self::Refused(Refusal::Other) => "other",
        }
    }

    /// Whether an operator has to act before it can get better.
    pub(super) fn is_for_an_operator(self) -> bool {
        matches!(self, Self::Refused(Refusal::Credentials | Refusal::Permission | Refusal::ReadOnly))
    }
}

impl From<&RedisError> for Failure {
    fn from(error: &RedisError) -> Self {
        let refusal = match error.kind() {
            ErrorKind::AuthenticationFailed => Refusal::Credentials,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Refusal::Permission,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Refusal::ReadOnly,
            ErrorKind::Server(ServerErrorKind::BusyLoading) => Refusal::Loading,
            _ => match error.code() {
                Some("OOM") => return Self::Full,
                Some("NOAUTH" | "WRONGPASS") => Refusal::Credentials,
                Some("BUSY") => Refusal::Busy,
                Some("WRONGTYPE") => Refusal::WrongType,
                Some("MISCONF" | "NOREPLICAS") => Refusal::NoWrites,
                Some("ERR") if is_refused_in_script(error) => Refusal::Permission,
                Some(_) => Refusal::Other,
                // Of our side, as time-outs and broken connections: what was sent may have been done.
                None => return Self::Unavailable,
            },
        };
        Self::Refused(refusal)
    }
}

/// Whether a script did what its user may not do, in the words of Redis 7.0 or of later ones.
fn is_refused_in_script(error: &RedisError) -> bool {
    let said = error.detail().unwrap_or_default();
    said.starts_with("The user executing the script") || said.starts_with("ACL failure in script")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_that_is_missing_is_known_in_the_words_of_every_version() {
        for said in [
            "-NOPERM this user has no permissions to run the 'publish' command\r\n",
            "-ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.\r\n",
            "-ERR ACL failure in script: User clarion has no permissions to run the 'publish' command\r\n",
        ] {
            let answer = ::redis::parse_redis_value(said.as_bytes()).expect("it is an answer");
            let error = answer.extract_error().expect_err("it is a refusal");
            assert_eq!(Failure::from(&error), Failure::Refused(Refusal::Permission), "{said}");
        }
    }
}
