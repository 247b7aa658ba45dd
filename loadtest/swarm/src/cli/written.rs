//! A command as it could be written in a shell again, without secrets.

use std::ffi::OsString;

/// What stands where a secret was.
const MASK: &str = "***";
/// Flags whose value is a secret.
const SECRET_FLAGS: [&str; 2] = ["--secret", "--api-key"];

/// The command; of the program only its name.
pub(super) fn written(arguments: &[OsString]) -> String {
    let mut words = vec!["swarm".to_owned()];
    let mut is_secret = false;
    for argument in arguments.iter().skip(1) {
        let word = argument.to_string_lossy();
        let flag = word.split_once('=').map(|(flag, _)| flag).filter(|flag| SECRET_FLAGS.contains(flag));
        words.push(quoted(&match flag {
            _ if is_secret => MASK.to_owned(),
            Some(flag) => format!("{flag}={MASK}"),
            None => masked(&word),
        }));
        is_secret = !is_secret && SECRET_FLAGS.contains(&&*word);
    }
    words.join(" ")
}

/// A word without the password and the query of a URL, if it is one: servers are given tokens there. Of a URL whose scheme
/// was forgotten the query is left out as well.
pub(super) fn masked(word: &str) -> String {
    let (word, query) = word.split_once('?').map_or((word, ""), |(word, _)| (word, "?***"));
    let Some((scheme, rest)) = word.split_once("://") else { return format!("{word}{query}") };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit_once('@').map(|(_, host)| format!("{MASK}@{host}"));
    format!("{scheme}://{}{path}{query}", host.as_deref().unwrap_or(authority))
}

fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=./,:+@".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> String {
        written(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_is_written_as_a_shell_reads_it() {
        let words = ["/usr/bin/swarm", "noon", "--report", "it's a file.html", ""];
        assert_eq!(of(&words), r"swarm noon --report 'it'\''s a file.html' ''");
    }

    #[test]
    fn no_secret_is_written() {
        let words =
            ["swarm", "fan", "--secret", "s3cret", "--api-key=s3cret", "--secret", "--secret", "--size", "9"];
        assert_eq!(of(&words), "swarm fan --secret '***' '--api-key=***' --secret '***' --size 9");
        let url = "wss://user:s3cret@example.com:8000/connection/websocket?token=s3cret";
        let expected = "swarm idle --url 'wss://***@example.com:8000/connection/websocket?***'";
        assert_eq!(of(&["swarm", "idle", "--url", url]), expected);
        let expected = "swarm idle --url '127.0.0.1:8000/c?***'";
        assert_eq!(of(&["swarm", "idle", "--url", "127.0.0.1:8000/c?token=s3cret&to=ws://host"]), expected);
        assert_eq!(of(&["swarm", "idle", "--url=ws://s3cret@host"]), "swarm idle '--url=ws://***@host'");
        assert_eq!(of(&["swarm", "idle", "--url", "ws://host/a@b"]), "swarm idle --url ws://host/a@b");
    }

    #[test]
    fn a_secret_at_the_end_is_masked_too() {
        assert_eq!(of(&["swarm", "fan", "--secret"]), "swarm fan --secret");
        assert_eq!(of(&["swarm", "fan", "--secret", "s3cret"]), "swarm fan --secret '***'");
    }
}
