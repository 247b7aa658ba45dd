//! Settings that may be given as a file, so that they are in no argument, variable or template.

use std::fs;
use std::path::Path;

use super::{Config, ConfigError, Problem, Token};
use crate::model::Secret;

/// Reads every `x_file` into its `x`.
///
/// Paths are relative to the working directory. White space at the end of a file is not part of it.
///
/// # Errors
/// [`ConfigError`] when a file cannot be read, holds nothing, or the setting is given as well.
pub(super) fn read_all(config: &mut Config) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    read_token(&mut config.client.token, "client.token", &mut problems);
    read_token(&mut config.client.subscription_token, "client.subscription_token", &mut problems);
    for (index, key) in config.api.keys.iter_mut().enumerate() {
        if let Some(file) = &key.key_file {
            let path = format!("api.keys[{index}].key");
            problems.extend(read(file, &path, !key.key.is_empty(), |text| key.key = Secret::new(text)));
        }
    }
    let redis = &config.broker.redis;
    if let Some(file) = &redis.password_file {
        // Read again for each connection: here it is only looked at.
        problems.extend(read(file, "broker.redis.password", !redis.password.is_empty(), |_| {}));
    }
    if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
}

fn read_token(token: &mut Token, at: &str, problems: &mut Vec<Problem>) {
    if let Some(file) = &token.hmac_secret_key_file {
        let given = !token.hmac_secret_key.is_empty();
        let set = |text: &str| token.hmac_secret_key = Secret::new(text);
        problems.extend(read(file, &format!("{at}.hmac_secret_key"), given, set));
    }
    if let Some(file) = &token.hmac_previous_secret_keys_file {
        let keys = &mut token.hmac_previous_secret_keys;
        let given = !keys.is_empty();
        let set = |text: &str| keys.extend(text.lines().map(str::trim_end).map(Secret::new));
        problems.extend(read(file, &format!("{at}.hmac_previous_secret_keys"), given, set));
    }
    for (index, key) in token.public_keys.iter_mut().enumerate() {
        if let Some(file) = &key.pem_file {
            let path = format!("{at}.public_keys[{index}].pem");
            problems.extend(read(file, &path, !key.pem.is_empty(), |text| key.pem = text.into()));
        }
    }
}

/// Hands the content of `file` to `set`, or says why not.
fn read(file: &Path, path: &str, given: bool, set: impl FnOnce(&str)) -> Option<Problem> {
    let problem = |path: String, message: String| Some(Problem::new(path, message));
    if given {
        return problem(path.into(), format!("is given, and so is `{path}_file`: keep one of them"));
    }
    match fs::read_to_string(file) {
        Ok(text) if text.trim_end().is_empty() => problem(format!("{path}_file"), "the file is empty".into()),
        Ok(text) => {
            set(text.trim_end());
            None
        }
        Err(error) => problem(format!("{path}_file"), format!("{} cannot be read: {error}", file.display())),
    }
}
