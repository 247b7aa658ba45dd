use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;

use super::{Failure, output};

/// The documented example, which is complete and holds the defaults.
const EXAMPLE: &str = include_str!("../../../deploy/clarion.yaml");
const HEADER: &str = "# Written by `clarion genconfig`. Holds secrets: keep it from others.\n#\n";
/// Where the secrets go; a test loads the result.
const HMAC_KEY: &str = "\n    hmac_secret_key:           #";
const API_KEYS: &str = "\n  keys: []                     #";
const SECRET_BYTES: usize = 32;

/// Print a documented configuration with fresh secrets, ready to use
#[derive(Args)]
#[command(after_help = "Example:\n  (umask 077; clarion genconfig > clarion.yaml)\n  \
    clarion checkconfig --config clarion.yaml")]
pub(super) struct Genconfig {}

impl Genconfig {
    pub(super) fn run(self) -> Result<(), Failure> {
        output::print(generate()?.trim_end())
    }
}

fn generate() -> Result<String, Failure> {
    let hmac_key = format!("\n    hmac_secret_key: \"{}\" #", secret()?);
    let api_keys = format!("\n  keys: [\"{}\"] #", secret()?);
    let example = EXAMPLE.replacen(HMAC_KEY, &hmac_key, 1).replacen(API_KEYS, &api_keys, 1);
    Ok(format!("{HEADER}{example}"))
}

/// 256 random bits, as text that needs no escaping anywhere.
pub(super) fn secret() -> Result<String, Failure> {
    let mut bytes = [0; SECRET_BYTES];
    rand::fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_generated_can_be_used_and_is_new_each_time() {
        let path = std::env::temp_dir().join(format!("clarion-genconfig-{}.yaml", uuid::Uuid::new_v4()));
        std::fs::write(&path, generate().unwrap()).unwrap();
        let config = Config::load(Some(&path), std::iter::empty());
        std::fs::remove_file(&path).unwrap();
        let config = config.unwrap();
        assert_eq!(config.client.token.hmac_secret_key.expose().len(), 43);
        assert_eq!(config.api.keys.len(), 1);
        assert!(!config.client.token.hmac_secret_key.matches(config.api.keys[0].key.expose()));
        assert_ne!(generate().unwrap(), generate().unwrap());
    }
}
