//! What clients show to be let in.

use std::fmt;

use anyhow::{Result, ensure};

use super::secret::Secret;
use crate::token;

/// The tokens of all clients. What they are is never printed.
#[derive(Clone)]
pub enum Tokens {
    /// None: clients are anonymous.
    None,
    /// Signed here (HS256) with this secret: client 7 is the user `swarm-7`.
    Signed(Secret),
    /// Made elsewhere, and shown in turn. Never empty.
    Listed(Vec<String>),
}

/// Where a client shows its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenPlace {
    /// In the query of the upgrade, as `token`: a server can refuse before there is a connection.
    #[default]
    Query,
    /// In the command `connect`, as every server of the protocol understands it.
    Command,
}

impl Tokens {
    /// Reads tokens, one in a line; empty lines do not count.
    ///
    /// # Errors
    /// There is none, or a line is no token. The line is named by its number, never by what is in it.
    pub fn listed(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let mut tokens = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
            ensure!(
                line.bytes().all(is_plain),
                "line {number} is no token: it has more than letters, digits, - _ . ~"
            );
            tokens.push(line.to_owned());
        }
        ensure!(!tokens.is_empty(), "there is no token in it");
        Ok(Self::Listed(tokens))
    }

    /// The token of a client; `None` if it is anonymous.
    pub fn of(&self, client: u32) -> Option<String> {
        match self {
            Self::None => None,
            Self::Signed(secret) => Some(token::sign(&format!("swarm-{client}"), secret.expose())),
            Self::Listed(tokens) => Some(tokens[client as usize % tokens.len()].clone()),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Signed(_) => "Signed(***)",
            Self::Listed(_) => "Listed(***)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_given_in_turn_and_never_printed() {
        let tokens = Tokens::listed("one\n\n two \n").unwrap();
        let given: Vec<_> = (0..3).map(|client| tokens.of(client).unwrap()).collect();
        assert_eq!(given, ["one", "two", "one"]);
        let signed = Tokens::Signed("canary".parse().unwrap());
        assert_eq!(signed.of(3).unwrap().split('.').count(), 3);
        assert!(!format!("{tokens:?}{signed:?}").contains("one"));
        assert!(!format!("{signed:?}").contains("canary"));
    }

    #[test]
    fn a_line_that_is_no_token_is_named_by_its_number() {
        let error = Tokens::listed("good\nCANARY with blanks").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("CANARY"), "{error}");
        assert!(Tokens::listed(" \n").is_err());
    }
}
