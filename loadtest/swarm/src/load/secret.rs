//! Something that is never printed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, ensure};

/// A key, or a secret that tokens are signed with. Its debug form is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What it is.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = anyhow::Error;

    fn from_str(secret: &str) -> Result<Self> {
        ensure!(!secret.is_empty(), "it is empty");
        Ok(Self(secret.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}
