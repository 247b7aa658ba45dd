//! Secrets of the configuration: how hard they are to guess, and that none serves twice. None is ever printed.

use super::finding::Finding;
use super::strength;
use crate::config::{BrokerType, Config, is_well_known};
use crate::model::Secret;

/// With fewer bits a secret can be guessed, and with fewer than these it might be one day.
const BITS_MIN: f64 = 64.0;
const BITS_GOOD: f64 = 100.0;
const GENERATE: &str = "openssl rand -hex 32";

/// What to say of the secrets in `config`.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let redis = (config.broker.kind == BrokerType::Redis).then(|| redis_password(config));
    [token_keys(config), api_keys(config), reused_secrets(config)].into_iter().chain(redis).collect()
}

/// A secret and the setting that holds it.
type Named<'a> = (String, &'a Secret);

fn token_keys(config: &Config) -> Finding {
    let keys = hmac_keys(config);
    let public = config.client.token.public_keys.len() + config.client.subscription_token.public_keys.len();
    match (keys.is_empty(), public) {
        (true, 0) => Finding::ok("token_keys", "none: no client can bring a token")
            .warns("every client is anonymous, or may do everything")
            .remedy(format!("client.token.hmac_secret_key_file: FILE   # made by: {GENERATE} > FILE")),
        (true, count) => Finding::ok("token_keys", format!("{count} public, which need not be secret")),
        (false, _) => judged("token_keys", &keys),
    }
}

fn hmac_keys(config: &Config) -> Vec<Named<'_>> {
    let mut keys = Vec::new();
    let client = &config.client;
    for (at, token) in
        [("client.token", &client.token), ("client.subscription_token", &client.subscription_token)]
    {
        let previous = token.hmac_previous_secret_keys.iter().enumerate();
        keys.push((format!("{at}.hmac_secret_key"), &token.hmac_secret_key));
        keys.extend(previous.map(|(index, key)| (format!("{at}.hmac_previous_secret_keys[{index}]"), key)));
    }
    keys.retain(|(_, key)| !key.is_empty());
    keys
}

fn api_keys(config: &Config) -> Finding {
    let keys = named_api_keys(config);
    if keys.is_empty() && !config.api.insecure {
        return Finding::ok("api_keys", "none")
            .warns("every request to the server API is refused: nobody can publish by it")
            .remedy(format!("api.keys: [{{name: shop, key_file: FILE}}]   # made by: {GENERATE} > FILE"));
    }
    judged("api_keys", &keys)
}

fn named_api_keys(config: &Config) -> Vec<Named<'_>> {
    let keys = config.api.keys.iter().enumerate();
    keys.map(|(index, key)| (format!("api.keys[{index}]"), &key.key)).collect()
}

/// The weakest of some secrets decides, and each that is too weak is named.
fn judged(name: &'static str, secrets: &[Named<'_>]) -> Finding {
    let with_bits: Vec<_> =
        secrets.iter().map(|(setting, secret)| (setting, *secret, strength::bits(secret))).collect();
    let weakest = with_bits.iter().map(|(.., bits)| *bits).fold(f64::INFINITY, f64::min);
    let found = match secrets.len() {
        0 => "none".to_owned(),
        count => format!("{count}, the weakest with about {weakest:.0} bits of chance"),
    };
    let finding = Finding::ok(name, found);
    let named = |limit: f64| {
        let weak = with_bits.iter().filter(|(.., bits)| *bits < limit);
        let why = |secret: &Secret| {
            if is_well_known(secret) { "is known to everybody" } else { "could be guessed" }
        };
        weak.map(|(setting, secret, _)| format!("{setting} {}", why(secret))).collect::<Vec<_>>().join("; ")
    };
    if weakest < BITS_MIN {
        finding.fails(named(BITS_MIN)).remedy(GENERATE)
    } else if weakest < BITS_GOOD {
        finding.warns(named(BITS_GOOD)).remedy(GENERATE)
    } else {
        finding
    }
}

fn reused_secrets(config: &Config) -> Finding {
    // Tokens of both kinds may have one key: that is what the configuration offers by itself.
    let mut secrets = hmac_keys(config);
    let of_tokens = secrets.len();
    secrets.extend(named_api_keys(config));
    let password = &config.broker.redis.password;
    secrets.extend((!password.is_empty()).then(|| ("broker.redis.password".to_owned(), password)));
    let twin = |(index, (setting, secret)): (usize, &Named<'_>)| {
        let earlier = secrets[..index].iter().find(|(_, other)| other.matches(secret.expose()))?;
        Some((setting.clone(), format!("{setting} is the same as {}", earlier.0)))
    };
    match secrets.iter().enumerate().skip(of_tokens).find_map(twin) {
        None => Finding::ok("reused_secrets", "every secret serves one purpose"),
        Some((setting, same)) => Finding::ok("reused_secrets", same)
            .fails("who may do the one may do the other, and neither can be changed alone")
            .remedy(format!("{GENERATE}   # for {setting}")),
    }
}

fn redis_password(config: &Config) -> Finding {
    let redis = &config.broker.redis;
    let name = "redis_password";
    // It was looked at when the configuration was read.
    let text = redis.password_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
    let password = text.map_or_else(|| redis.password.clone(), |text| Secret::new(text.trim_end()));
    let is_here = ["127.", "localhost", "[::1]"].iter().any(|host| host_of(&redis.address).starts_with(host));
    match password.is_empty() {
        true if is_here => Finding::ok(name, "none, to a Redis of this machine"),
        true => Finding::ok(name, "none")
            .warns("whoever reaches Redis speaks for every node")
            .remedy("broker.redis.password_file: FILE   # and the user of docs/redis.md"),
        // Nobody can try it out as fast as a signature, which is checked at home.
        false if strength::bits(&password) < BITS_MIN => {
            Finding::ok(name, "a short one, or one that was made up")
                .warns("it could be guessed")
                .remedy(GENERATE)
        }
        false => Finding::ok(name, "a good one"),
    }
}

fn host_of(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level::{self, Ok, Problem, Warning};
    use super::*;
    use crate::config::{ApiKey, PublicKey};

    const GOOD: &str = "q83vEjRWeJq83u_8Hj9aQvTn0bcXkLmRz5yWdPiSfUg";
    const ALSO_GOOD: &str = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd6";
    const FAIR: &str = "my-super-secret-key-for-clarion-1234";

    #[track_caller]
    fn is(finding: &Finding, level: Level, words: &[&str]) {
        let text = format!("{}{}", finding.text(false), finding.json());
        assert_eq!(finding.level, level, "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{text} lacks {word}"));
        assert_eq!(finding.remedies.is_empty(), level == Ok, "what is wrong has a remedy: {text}");
        for secret in [GOOD, ALSO_GOOD, FAIR, "hunter2"] {
            assert!(!text.contains(secret), "{text}");
        }
    }

    fn config(token: &str, api: &[&str]) -> Config {
        let mut config = Config::default();
        config.client.token.hmac_secret_key = Secret::new(token);
        let key = |text: &&str| ApiKey { key: Secret::new(*text), ..ApiKey::default() };
        config.api.keys = api.iter().map(key).collect();
        config
    }

    #[test]
    fn a_key_of_tokens_cannot_be_guessed() {
        is(&token_keys(&config(GOOD, &[])), Ok, &["1, the weakest with about"]);
        is(&token_keys(&config(FAIR, &[])), Warning, &["client.token.hmac_secret_key could be guessed"]);
        is(&token_keys(&config("hunter2", &[])), Problem, &["could be guessed", "openssl rand"]);
        is(
            &token_keys(&config("secret", &[])),
            Problem,
            &["client.token.hmac_secret_key is known to everybody"],
        );
        is(&token_keys(&config("", &[])), Warning, &["none", "hmac_secret_key_file"]);
        let mut previous = config(GOOD, &[]);
        previous.client.subscription_token.hmac_previous_secret_keys.push(Secret::new("hunter2"));
        is(&token_keys(&previous), Problem, &["client.subscription_token.hmac_previous_secret_keys[0]"]);
        let mut public = config("", &[]);
        public.client.token.public_keys.push(PublicKey::default());
        is(&token_keys(&public), Ok, &["1 public"]);
    }

    #[test]
    fn a_key_of_the_api_cannot_be_guessed() {
        is(&api_keys(&config(GOOD, &[GOOD, ALSO_GOOD])), Ok, &["2, the weakest"]);
        is(&api_keys(&config(GOOD, &[GOOD, "hunter2"])), Problem, &["api.keys[1] could be guessed"]);
        is(&api_keys(&config(GOOD, &[])), Warning, &["nobody can publish"]);
        let mut insecure = config(GOOD, &[]);
        insecure.api.insecure = true;
        is(&api_keys(&insecure), Ok, &["none"]);
    }

    #[test]
    fn a_secret_serves_one_purpose() {
        is(&reused_secrets(&config(GOOD, &[ALSO_GOOD])), Ok, &[]);
        is(&reused_secrets(&config(GOOD, &[GOOD])), Problem, &["api.keys[0] is the same as client.token"]);
        let mut config = config(GOOD, &[ALSO_GOOD]);
        config.broker.redis.password = Secret::new(ALSO_GOOD);
        is(&reused_secrets(&config), Problem, &["broker.redis.password is the same as api.keys[0]"]);
        config.broker.redis.password = Secret::default();
        config.client.subscription_token.hmac_secret_key = Secret::new(GOOD);
        is(&reused_secrets(&config), Ok, &[]);
        config.client.subscription_token.hmac_secret_key = Secret::new(ALSO_GOOD);
        is(&reused_secrets(&config), Problem, &["api.keys[0] is the same as client.subscription_token"]);
    }

    #[test]
    fn redis_wants_a_password_unless_it_is_at_home() {
        let mut config = config(GOOD, &[]);
        is(&redis_password(&config), Ok, &["of this machine"]);
        config.broker.redis.address = "rediss://redis.example.com:6379".into();
        is(&redis_password(&config), Warning, &["password_file"]);
        config.broker.redis.password = Secret::new("hunter2");
        is(&redis_password(&config), Warning, &["could be guessed"]);
        config.broker.redis.password = Secret::new(GOOD);
        is(&redis_password(&config), Ok, &["a good one"]);
    }
}
