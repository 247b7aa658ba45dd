use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::*;

const KEY: &str = "CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY";
const GOOD_KEY: &str = "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OUFC";
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9\n\
    q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==\n-----END PUBLIC KEY-----\n";

/// A file that lives as long as the test.
struct TempFile(PathBuf);

impl TempFile {
    fn new(extension: &str, text: &str) -> Self {
        let name = format!("clarion-config-{}.{extension}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    variables.iter().map(owned).collect::<Vec<_>>().into_iter()
}

fn load_with(extension: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = TempFile::new(extension, text);
    Config::load(Some(&file.0), environment(variables))
}

fn load(yaml: &str) -> Result<Config, ConfigError> {
    load_with("yaml", yaml, &[(KEY, GOOD_KEY)])
}

fn load_env(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, environment(variables))
}

/// The one problem of `result`, as it is printed.
#[track_caller]
fn problem(result: Result<Config, ConfigError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

fn example() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/clarion.yaml"))
}

fn paths(tree: &Json, at: &str, found: &mut BTreeSet<String>) {
    let Some(level) = tree.as_object() else { return };
    for (key, value) in level {
        let path = format!("{at}.{key}");
        paths(value, &path, found);
        found.insert(path);
    }
}

#[test]
fn the_documented_example_is_the_defaults() {
    let config = source::read(Some(&example()), Vec::new()).unwrap();
    let tree = |config: &Config| serde_json::to_value(config).unwrap();
    assert_eq!(tree(&config), tree(&Config::default()));
    assert!(config.client.token.hmac_secret_key.is_empty());
}

#[test]
fn the_documented_example_has_every_key() {
    let text =
        ::config::File::from_str(&std::fs::read_to_string(example()).unwrap(), ::config::FileFormat::Yaml);
    let tree: Json = ::config::Config::builder().add_source(text).build().unwrap().try_deserialize().unwrap();
    let (mut documented, mut known) = (BTreeSet::new(), BTreeSet::new());
    paths(&tree, "", &mut documented);
    paths(&serde_json::to_value(Config::default()).unwrap(), "", &mut known);
    assert_eq!(documented, known);
}

#[test]
fn the_three_formats_say_the_same() {
    let yaml = load("public: {port: 8001}\nchannel: {namespaces: [{name: chat}]}").unwrap();
    let toml = load_with(
        "toml",
        "[public]\nport = 8001\n[[channel.namespaces]]\nname = \"chat\"",
        &[(KEY, GOOD_KEY)],
    );
    let json = r#"{"public": {"port": 8001}, "channel": {"namespaces": [{"name": "chat"}]}}"#;
    let json = load_with("json", json, &[(KEY, GOOD_KEY)]);
    let tree = |config: &Config| serde_json::to_value(config).unwrap();
    assert_eq!(tree(&yaml), tree(&toml.unwrap()));
    assert_eq!(tree(&yaml), tree(&json.unwrap()));
    assert_eq!(yaml.public.port, 8001);
    assert_eq!(yaml.channel.namespaces[0].name, "chat");
}

#[test]
fn the_environment_wins_over_the_file() {
    let yaml = "public: {port: 1}\nclient: {anonymous: false, ping_interval: 20s, allowed_origins: [\"*\"]}";
    let config = load_with(
        "yaml",
        yaml,
        &[
            ("CLARION__PUBLIC__PORT", "8002"),
            ("CLARION__PUBLIC__ADDRESS", "::1"),
            ("CLARION__CLIENT__ANONYMOUS", "true"),
            ("CLARION__CLIENT__ALLOWED_ORIGINS", r#"["https://a.example"]"#),
            ("CLARION__CLIENT__CONNECTIONS_MAX", "10"),
            ("CLARION__SHARDS", "auto"),
            ("CLARION__CHANNEL", r#"{"channel_bytes_max": 99, "namespaces": [{"name": "chat"}]}"#),
            ("CLARION__CHANNEL__CHANNEL_BYTES_MAX", "100"),
            ("CLARION_PORT", "tcp://10.0.0.1:8000"),
        ],
    )
    .unwrap();
    assert_eq!((config.public.port, config.public.address.to_string()), (8002, "::1".into()));
    assert!(config.client.anonymous);
    assert_eq!(config.client.ping_interval, Duration::from_secs(20));
    assert_eq!(config.client.allowed_origins, ["https://a.example"]);
    assert_eq!((config.client.connections_max, config.shards), (Auto::Fixed(10), Auto::Auto));
    assert_eq!((config.channel.channel_bytes_max, config.channel.namespaces.len()), (100, 1));
}

#[test]
fn a_secret_of_the_environment_stays_as_it_is() {
    for key in ["007", "1e5", "TRUE", "null", "[1]", " a", "0x10"] {
        let config = load_env(&[
            (KEY, key),
            ("CLARION__CLIENT__INSECURE", "true"),
            ("CLARION__API__KEYS", r#"["007"]"#),
        ])
        .unwrap();
        assert!(config.client.token.hmac_secret_key.matches(key), "{key}");
        assert!(config.api.keys[0].key.matches("007"));
    }
}

#[test]
fn a_secret_that_is_no_string_in_the_file_is_refused_and_not_shown() {
    for value in ["8675309", "8675309.5", "[8675309]", "{a: 8675309}"] {
        for (yaml, path) in [
            (format!("client: {{token: {{hmac_secret_key: {value}}}}}"), "client.token.hmac_secret_key"),
            (format!("api: {{keys: [{{key: {value}}}]}}"), "api.keys[0].key"),
            (format!("api: {{keys: [{value}]}}"), "api.keys[0]"),
            (format!("api: {{keys: {value}}}"), "api.keys"),
            (format!("client: {{token: {value}}}"), "client.token"),
        ] {
            let Err(error) = load_with("yaml", &yaml, &[]) else { continue };
            let error = error.to_string();
            assert!(error.starts_with(path) || value.starts_with('{'), "{yaml}: {error}");
            assert!(!error.contains("8675309"), "{error}");
        }
    }
    let error = problem(load_with("yaml", "client: {token: {hmac_secret_key: 007}}", &[]));
    assert!(
        error.starts_with("client.token.hmac_secret_key: must be a string: put it in quotes ("),
        "{error}"
    );
}

#[test]
fn no_error_shows_a_secret() {
    let canary = "LEAKCANARYLEAKCANARYLEAKCANARY";
    for (extension, text) in [
        ("yaml", format!("client: {{token: {canary}}}")),
        ("yaml", format!("api: {{keys: {canary}}}")),
        ("yaml", format!("client:\n  token:\n    hmac_secret_key: {canary}\n   x: {canary}")),
        ("yaml", canary.to_owned()),
        ("yaml", format!("client: {{token: {{{{ {canary} }}}}}}")),
        ("yaml", format!("client: {{token: {{hmac_secret_key: {canary}, public_keys: [{canary}]}}}}")),
        ("toml", format!("[client.token]\nhmac_secret_key = {canary}\n")),
        ("toml", format!("[client.token]\nhmac_secret_key = \"{canary}\n")),
        ("json", format!("{{\"client\": {{\"token\": {{\"hmac_secret_key\": {canary}}}}}}}")),
        ("json", format!("\"{canary}\"")),
    ] {
        let error = load_with(extension, &text, &[]).unwrap_err().to_string();
        assert!(!error.contains("LEAKCANARY"), "{text}\n{error}");
    }
    let error = load_env(&[("CLARION__API__KEYS", canary), ("CLARION__CLIENT__TOKEN", canary)]).unwrap_err();
    assert!(!error.to_string().contains("LEAKCANARY"), "{error}");
    let subscription_key = "CLARION__CLIENT__SUBSCRIPTION_TOKEN__HMAC_SECRET_KEY";
    let key = "LEAKCANARYLEAKCANARYleakcanary0123456789";
    let config = load_env(&[(KEY, key), (subscription_key, key)]).unwrap();
    assert!(!format!("{config:?}{}", serde_json::to_string(&config).unwrap()).contains("LEAKCANARY"));
}

#[test]
fn an_unknown_key_is_named_with_its_path_and_the_nearest_name() {
    for (yaml, expected) in [
        (
            "client: {ping_intervall: 1s}",
            "client.ping_intervall: unknown key; did you mean `client.ping_interval`?",
        ),
        ("clients: {}", "clients: unknown key; did you mean `client`?"),
        ("ping_interval: 1s", "ping_interval: unknown key; did you mean `client.ping_interval`?"),
        ("log: {zzzzzz: 1}", "log.zzzzzz: unknown key; known here: burst, format, level"),
        (
            "channel: {namespaces: [{name: chat, chanel_regex: x}]}",
            "channel.namespaces[0].chanel_regex: unknown key; did you mean `channel.namespaces[0].channel_regex`?",
        ),
        ("channel: {without_namespace: {name: x}}", "channel.without_namespace.name: unknown key"),
        (
            "api: {keys: [{key: x, scope: [info]}]}",
            "api.keys[0].scope: unknown key; did you mean `api.keys[0].scopes`?",
        ),
        (
            "channel: {namespaces: [{name: chat, max_delay: 5s}]}",
            "channel.namespaces[0].max_delay: unknown key",
        ),
    ] {
        let error = problem(load(yaml));
        assert!(error.starts_with(expected), "{error}");
    }
    let error = problem(load_env(&[("CLARION__CLIENT__PING_INTERVALL", "1s")]));
    assert_eq!(
        error,
        "client.ping_intervall: unknown key; did you mean `client.ping_interval`? (CLARION__CLIENT__PING_INTERVALL)"
    );
    for name in ["CLARION__", "CLARION__X__", "CLARION__A[0", "CLARION__CHANNEL__NAMESPACES__0__NAME"] {
        assert!(load_env(&[(name, "1"), (KEY, GOOD_KEY)]).is_err(), "{name}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_in_words() {
    for (yaml, expected) in [
        ("public: {port: 70000}", "public.port: must be a whole number from 0 to 65535, not integer `70000`"),
        ("public: {port: -1}", "public.port: must be a whole number from 0 to 65535, not integer `-1`"),
        ("public: {port: x}", "public.port: must be a whole number from 0 to 65535, not string"),
        ("public: {port: 8000.5}", "public.port: must be a whole number from 0 to 65535, not a fraction"),
        ("public: {address: localhost}", "public.address: "),
        ("public: [1]", "public: must be a table, not a list"),
        ("client: {ping_interval: -5s}", "client.ping_interval: must be a duration such as"),
        (
            "client: {ping_interval: 25}",
            "client.ping_interval: must be a duration such as \"25s\" or \"300ms\", not integer",
        ),
        ("client: {anonymous: yes}", "client.anonymous: must be true or false, not string"),
        ("client: {anonymous: 1}", "client.anonymous: must be true or false, not integer"),
        ("client: {channels_max: -1}", "client.channels_max: must be a whole number, 0 or above"),
        ("client: {allowed_origins: x}", "client.allowed_origins: must be a list, not string"),
        ("client: {connections_max: many}", "client.connections_max: must be `auto` or a whole number"),
        ("client: {connections_max: -1}", "client.connections_max: must be `auto` or a whole number"),
        ("client: {token: {algorithms: [none]}}", "client.token.algorithms[0]: unknown value `none`"),
        ("client: {token: {reject: maybe}}", "client.token.reject: unknown value `maybe`"),
        (
            "channel: {without_namespace: {channel_regex: \"(\"}}",
            "channel.without_namespace.channel_regex: is not a regular expression: unclosed group",
        ),
        ("channel: {publication_data_format: xml}", "channel.publication_data_format: unknown value `xml`"),
        (
            "channel: {without_namespace: {slow_consumer: wait}}",
            "channel.without_namespace.slow_consumer: unknown value `wait`",
        ),
        ("log: {level: loud}", "log.level: unknown value `loud`"),
    ] {
        let error = problem(load(yaml));
        assert!(error.starts_with(expected), "{error}");
    }
    let error = problem(load_env(&[("CLARION__PUBLIC__PORT", "eight"), (KEY, GOOD_KEY)]));
    assert!(error.starts_with("public.port: must be a whole number"), "{error}");
    let error = problem(load_env(&[("CLARION__API__KEYS", "a,b"), (KEY, GOOD_KEY)]));
    assert!(error.starts_with("CLARION__API__KEYS: must be a list as JSON text"), "{error}");
}

#[test]
fn a_value_out_of_range_is_refused_with_its_path() {
    for (yaml, path) in [
        ("shards: 0", "shards"),
        ("shards: 1025", "shards"),
        ("node: {name: \"\"}", "node.name"),
        ("public: {header_timeout: 0s}", "public.header_timeout"),
        ("client: {ping_interval: 5s, pong_timeout: 5s}", "client.pong_timeout"),
        ("client: {pong_timeout: 0s}", "client.pong_timeout"),
        ("client: {stale_close_delay: 0s}", "client.stale_close_delay"),
        ("client: {write_timeout: 0s}", "client.write_timeout"),
        ("client: {channels_max: 0}", "client.channels_max"),
        ("client: {message_bytes_max: 0}", "client.message_bytes_max"),
        ("client: {outbox_bytes_max: 0}", "client.outbox_bytes_max"),
        ("client: {outbox_bytes_total_max: 0}", "client.outbox_bytes_total_max"),
        ("client: {send_buffer_bytes: 0}", "client.send_buffer_bytes"),
        ("client: {connections_max: 0}", "client.connections_max"),
        ("client: {connections_max: 9, connections_soft_max: 10}", "client.connections_soft_max"),
        ("public: {trusted_proxies: [10.0.0.0/8, 10.0.0.0/33]}", "public.trusted_proxies[1]"),
        ("public: {trusted_proxies: [example.com]}", "public.trusted_proxies[0]"),
        ("admission: {handshakes_per_second: 0}", "admission.handshakes_per_second"),
        ("client: {token: {leeway: 6m}}", "client.token.leeway"),
        ("client: {token: {audience: \"\"}}", "client.token.audience"),
        ("client: {token: {issuer: \"\"}}", "client.token.issuer"),
        ("channel: {channel_bytes_max: 0}", "channel.channel_bytes_max"),
        ("channel: {namespaces: [{}]}", "channel.namespaces[0].name"),
        ("channel: {namespaces: [{name: a}]}", "channel.namespaces[0].name"),
        ("channel: {namespaces: [{name: \"a:b\"}]}", "channel.namespaces[0].name"),
        ("channel: {namespaces: [{name: ab}, {name: ab}]}", "channel.namespaces[1].name"),
        ("channel: {history_meta_ttl: 0s}", "channel.history_meta_ttl"),
        ("channel: {idempotency_ttl: 0s}", "channel.idempotency_ttl"),
        ("channel: {without_namespace: {history_size: 1}}", "channel.without_namespace.history_ttl"),
        ("channel: {without_namespace: {history_ttl: 1s}}", "channel.without_namespace.history_size"),
        ("channel: {namespaces: [{name: ab, history_size: 1}]}", "channel.namespaces[0].history_ttl"),
        (
            "channel: {namespaces: [{name: ab, history_size: 1, history_ttl: 2s, history_meta_ttl: 1s}]}",
            "channel.namespaces[0].history_meta_ttl",
        ),
        (
            "channel: {history_meta_ttl: 1s, without_namespace: {history_size: 1, history_ttl: 2s}}",
            "channel.history_meta_ttl",
        ),
        ("api: {body_bytes_max: 0}", "api.body_bytes_max"),
        ("api: {batch_max: 0}", "api.batch_max"),
        ("api: {timeout: 0s}", "api.timeout"),
        ("api: {keys: [\"\"]}", "api.keys[0]"),
        ("api: {keys: [{name: a}]}", "api.keys[0]"),
        ("api: {keys: [{key: a, scopes: []}]}", "api.keys[0]"),
        ("api: {keys: [a, b, a]}", "api.keys[2]"),
        ("api: {keys: [{name: n, key: a}, {name: n, key: b}]}", "api.keys[1]"),
        ("broker: {redis: {address: 'localhost:6379'}}", "broker.redis.address"),
        ("broker: {redis: {tls: {ca_file: a.pem}}}", "broker.redis.tls.ca_file"),
        ("broker: {redis: {address: 'rediss://a', tls: {cert_file: a.pem}}}", "broker.redis.tls.key_file"),
        ("broker: {redis: {address: 'rediss://a', tls: {key_file: a.pem}}}", "broker.redis.tls.cert_file"),
        ("broker: {redis: {prefix: ''}}", "broker.redis.prefix"),
        ("broker: {redis: {connect_timeout: 0s}}", "broker.redis.connect_timeout"),
        ("broker: {redis: {command_timeout: 0s}}", "broker.redis.command_timeout"),
        ("broker: {redis: {probe_interval: 0s}}", "broker.redis.probe_interval"),
        ("broker: {redis: {inbox_bytes_max: 65535}}", "broker.redis.inbox_bytes_max"),
        ("cluster: {heartbeat_interval: 0s}", "cluster.heartbeat_interval"),
        ("cluster: {node_ttl: 5999ms}", "cluster.node_ttl"),
    ] {
        let error = problem(load(yaml));
        assert!(error.starts_with(&format!("{path}: ")), "{yaml}: {error}");
    }
    let error = load("shards: 0\napi: {batch_max: 0}").unwrap_err();
    assert_eq!(error.problems.len(), 2, "all problems are told at once: {error}");
}

#[test]
fn a_history_may_last_as_long_as_its_metadata() {
    for yaml in [
        "channel: {history_meta_ttl: 2s, without_namespace: {history_size: 1, history_ttl: 2s}}",
        "channel: {history_meta_ttl: 1s, namespaces: [{name: ab, history_size: 1, history_ttl: 2s, history_meta_ttl: 2s}]}",
    ] {
        load(yaml).unwrap();
    }
}

#[test]
fn an_origin_that_no_browser_sends_is_refused() {
    let load = |origins: &str| load(&format!("client: {{allowed_origins: {origins}}}"));
    for good in [
        r#"["*"]"#,
        r#"["https://app.example.com", "http://localhost:3000", "*.example.com", "null"]"#,
        r#"["http://[::1]:8000", "http://127.0.0.1", "capacitor://localhost", "https://xn--bcher-kva.example"]"#,
    ] {
        assert!(load(good).is_ok(), "{good}");
    }
    for bad in [
        "https://app.example.com/",
        "https://app.example.com/path",
        "app.example.com",
        "https://",
        "HTTPS://app.example.com",
        "https://App.example.com",
        "https://bücher.example",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://app.example.com:70000",
        "https://user@app.example.com",
        "https://*.example.com",
        "*.com",
        "*",
        "**",
        "",
    ] {
        let error = problem(load(&format!(r#"["https://ok.example", "{bad}"]"#)));
        assert!(error.starts_with("client.allowed_origins[1]: "), "{bad}: {error}");
    }
}

#[test]
fn without_a_key_nobody_could_connect() {
    assert!(problem(load_env(&[])).starts_with("client.token.hmac_secret_key: is missing"));
    assert!(load_env(&[("CLARION__CLIENT__ANONYMOUS", "true")]).is_ok());
    assert!(load_env(&[("CLARION__CLIENT__INSECURE", "true")]).is_ok());
    assert!(load_env(&[(KEY, GOOD_KEY)]).is_ok());
}

#[test]
fn a_weak_key_is_refused_unless_insecure() {
    let path = "client.token.hmac_secret_key";
    for weak in ["secret", "0123456789abcdefghijklmnopqrstu", "A-string-secret-at-least-256-bits-long"] {
        let error = problem(load_env(&[(KEY, weak)]));
        assert!(error.starts_with(path) && (weak == "secret" || !error.contains(weak)), "{error}");
        let config = load_env(&[(KEY, weak), ("CLARION__CLIENT__INSECURE", "true")]).unwrap();
        assert!(config.warnings().iter().any(|warning| warning.starts_with(path)));
    }
    assert!(load_env(&[(KEY, &"ab".repeat(40))]).is_err());
    let previous = ("CLARION__CLIENT__TOKEN__HMAC_PREVIOUS_SECRET_KEYS", r#"["short"]"#);
    let error = problem(load_env(&[(KEY, GOOD_KEY), previous]));
    assert!(error.starts_with("client.token.hmac_previous_secret_keys[0]: "), "{error}");
}

#[test]
fn what_presence_and_caches_need_is_looked_for() {
    let cached = "history_size: 1, history_ttl: 1s, auto_cache_recover: true";
    let namespace = |more: &str| format!("channel: {{namespaces: [{{name: ab, {cached}, {more}}}]}}");
    let path = "channel.namespaces[0].auto_cache_recover";
    let personal = "client: {subscribe_to_user_personal_channel: {enabled: true, namespace: own}}";
    for (yaml, path) in [
        ("client: {presence_update_interval: 0s}", "client.presence_update_interval"),
        ("client: {presence_update_interval: 30s}", "channel.presence_ttl"),
        ("channel: {presence_ttl: 27s}", "channel.presence_ttl"),
        ("channel: {without_namespace: {leave_grace: 61m}}", "channel.without_namespace.leave_grace"),
        (personal, "client.subscribe_to_user_personal_channel.namespace"),
        (&namespace("force_recovery: true"), path),
        (&namespace("allow_recovery: true, force_recovery_mode: cache"), path),
    ] {
        let error = problem(load(yaml));
        assert!(error.starts_with(&format!("{path}: ")), "{yaml}: {error}");
    }
    load(&namespace("force_recovery: true, force_recovery_mode: cache")).unwrap();
    load("channel: {presence_ttl: 2s}\nclient: {presence_update_interval: 1s}").unwrap();
    load("client: {subscribe_to_user_personal_channel: {enabled: true}}").unwrap();
    load(&format!("{personal}\nchannel: {{namespaces: [{{name: own}}]}}")).unwrap();
}

#[test]
fn a_subscription_token_has_rules_of_its_own_or_none() {
    let rules = |yaml: &str| load(&format!("client: {{subscription_token: {{{yaml}}}}}"));
    let shared = rules("").unwrap();
    assert!(shared.client.subscription_token_rules().hmac_secret_key.matches(GOOD_KEY));
    let own = rules("hmac_secret_key: Previous0123456789abcdefghijklmnop, audience: chat").unwrap();
    let own = own.client.subscription_token_rules();
    assert!(own.hmac_secret_key.matches("Previous0123456789abcdefghijklmnop"));
    assert_eq!(own.audience.as_deref(), Some("chat"));
    for unused in ["audience: chat", "hmac_previous_secret_keys: [abc]", "require_exp: false"] {
        let error = problem(rules(unused));
        assert!(error.starts_with("client.subscription_token: has no key"), "{unused}: {error}");
    }
    for (wrong, path) in [
        ("hmac_secret_key: short", "hmac_secret_key: is shorter"),
        ("hmac_secret_key: Previous0123456789abcdefghijklmnop, leeway: 6m", "leeway: must be"),
        ("hmac_secret_key: Previous0123456789abcdefghijklmnop, reject: close", "reject: is for connections"),
        ("hmac_secret_key_file: /nonexistent/key", "hmac_secret_key_file: /nonexistent/key cannot be read"),
    ] {
        let error = problem(rules(wrong));
        assert!(error.starts_with(&format!("client.subscription_token.{path}")), "{wrong}: {error}");
    }
    let debug = format!("{shared:?}");
    assert!(!debug.contains(GOOD_KEY));
}

#[test]
fn each_algorithm_has_a_key_and_each_key_an_algorithm() {
    let load = |keys: &[&str], algorithms: &str, hmac: &str| {
        load_env(&[
            ("CLARION__CLIENT__TOKEN__PUBLIC_KEYS", &serde_json::to_string(keys).unwrap()),
            ("CLARION__CLIENT__TOKEN__ALGORITHMS", algorithms),
            (KEY, hmac),
        ])
    };
    assert!(load(&[P256_PEM], r#"["ES256"]"#, "").is_ok());
    assert!(load(&[P256_PEM], r#"["ES256", "HS512"]"#, GOOD_KEY).is_ok());
    let error = problem(load(&[P256_PEM], r#"["HS256"]"#, GOOD_KEY));
    assert!(error.starts_with("client.token.public_keys[0]: is used by none"), "{error}");
    let error = problem(load(&[P256_PEM], r#"["ES256", "RS256"]"#, ""));
    let expected =
        "client.token.algorithms[1]: there is no key for RS256 (CLARION__CLIENT__TOKEN__ALGORITHMS)";
    assert_eq!(error, expected);
    let error = problem(load(&[P256_PEM], r#"["ES256"]"#, GOOD_KEY));
    assert!(error.starts_with("client.token.hmac_secret_key: is used by none"), "{error}");
    let error = load(&[], "[]", GOOD_KEY).unwrap_err().to_string();
    assert!(error.contains("client.token.algorithms: must not be empty"), "{error}");
    let error = load(&["-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----"], r#"["ES256"]"#, "");
    assert!(error.unwrap_err().to_string().contains("is a private key"));
}

#[test]
fn a_secret_may_be_in_a_file_but_not_in_both() {
    let secret = TempFile::new("key", &format!("{GOOD_KEY}\n"));
    let previous =
        TempFile::new("keys", "Previous0123456789abcdefghijklmnop\r\nEarlier0123456789abcdefghijklmnopq\n");
    let yaml = format!(
        "client: {{token: {{hmac_secret_key_file: {0}, hmac_previous_secret_keys_file: {1}}}}}\n\
         api: {{keys: [{{key_file: {0}, scopes: [publish]}}]}}",
        secret.0.display(),
        previous.0.display()
    );
    let config = load_with("yaml", &yaml, &[]).unwrap();
    assert!(config.client.token.hmac_secret_key.matches(GOOD_KEY));
    assert!(config.client.token.hmac_previous_secret_keys[1].matches("Earlier0123456789abcdefghijklmnopq"));
    assert!(config.api.keys[0].key.matches(GOOD_KEY));
    assert_eq!(config.api.keys[0].scopes, [Scope::Publish]);

    let error = problem(load_with("yaml", &yaml, &[(KEY, GOOD_KEY)]));
    assert!(error.starts_with("client.token.hmac_secret_key: is given, and so is"), "{error}");
    let error = problem(load(&format!("api: {{keys: [{{key: a, key_file: {}}}]}}", secret.0.display())));
    assert!(error.starts_with("api.keys[0].key: is given"), "{error}");
    let missing = ("CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY_FILE", "/nonexistent/key");
    let error = problem(load_env(&[missing]));
    assert!(
        error.starts_with("client.token.hmac_secret_key_file: /nonexistent/key cannot be read"),
        "{error}"
    );
}

#[test]
fn redis_is_reached_by_host_port_and_database_alone() {
    let load = |address: &str| load(&format!("broker: {{redis: {{address: '{address}'}}}}"));
    for good in [
        "redis://localhost",
        "redis://127.0.0.1:6379",
        "rediss://redis.example.com:6380/3",
        "redis://[::1]:6379/0",
        "redis://Redis_1/",
    ] {
        assert!(load(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "http://localhost",
        "redis+unix:///run/redis.sock",
        "redis://",
        "redis://:6379",
        "redis://a b",
        "redis://a:0",
        "redis://a:65536",
        "redis://a:",
        "redis://a/x",
        "redis://a/-1",
        "redis://a/1/2",
        "redis://[::g]",
        "redis://[::1]6379",
        "redis://a?protocol=resp3",
        "rediss://a/#insecure",
    ] {
        let error = problem(load(bad));
        assert!(error.starts_with("broker.redis.address: "), "{bad}: {error}");
    }
    for bad in ["redis://user:canary@a", "redis://:canary@a", "redis://canary@a:6379/0"] {
        let error = problem(load(bad));
        assert!(error.contains("broker.redis.username and broker.redis.password"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn the_password_of_redis_is_in_the_configuration_or_in_a_file_that_is_there() {
    let secret = TempFile::new("redis", "canary-password\n");
    let file = format!("password_file: {}", secret.0.display());
    let load = |more: &str| load(&format!("broker: {{redis: {{{more}}}}}"));
    assert!(load("password: canary-password").is_ok());
    assert!(load(&file).is_ok());
    let error = problem(load("password_file: /nonexistent/password"));
    assert!(error.starts_with("broker.redis.password_file: /nonexistent/password cannot be read"), "{error}");
    let error = problem(load(&format!("{file}, password: canary-password")));
    assert!(error.starts_with("broker.redis.password: is given, and so is"), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let absent = Path::new("/nonexistent/clarion.yaml");
    let error = problem(Config::load(Some(absent), environment(&[])));
    assert!(error.starts_with("/nonexistent/clarion.yaml: cannot be read"), "{error}");
    assert!(problem(load_with("ini", "x", &[])).contains("must end in .yaml, .toml or .json"));
    assert!(problem(load("client: {")).contains(".yaml: "));
}

#[test]
fn limits_of_clients_that_go_together_are_taken() {
    for yaml in [
        "client: {connections_max: 9, connections_soft_max: 9}",
        "client: {connections_soft_max: 10000000}",
        "client: {address_connections_max: 5}\nadmission: {address_handshakes_per_second: 5}",
    ] {
        assert!(load(yaml).is_ok(), "{yaml}");
    }
    let networks = |yaml| load(yaml).unwrap().public.trusted_networks();
    let trusted = networks("public: {trusted_proxies: [10.0.0.0/8, \"fd00::/8\", 192.0.2.1]}");
    assert_eq!(trusted, ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"].map(|text| text.parse().unwrap()));
}

#[test]
fn what_should_be_known_is_warned_about() {
    let warnings = load("{}").unwrap().warnings().join("\n");
    assert!(
        warnings.contains("browsers will be refused") && warnings.contains("api.keys is empty"),
        "{warnings}"
    );
    let quiet = load("client: {allowed_origins: [\"https://a.example\"]}\napi: {keys: [0123456789abcdefg]}");
    assert_eq!(quiet.unwrap().warnings(), Vec::<String>::new());
    let loud = "client: {insecure: true, allowed_origins: [\"*\"], token: {require_exp: false}}\n\
        api: {insecure: true, keys: [short]}\ninternal: {address: 0.0.0.0, port: 8000}\n\
        public: {trusted_proxies: [0.0.0.0/0]}";
    assert_eq!(load(loud).unwrap().warnings().len(), 7);
}

#[test]
fn f44_a_problem_says_where_its_setting_was_given() {
    let yaml = "public:\n  port: 8000\nclient:\n  token:\n    leeway: 6m\nchannel:\n  namespaces:\n    - name: ab\n    \
        - {name: cd, history_size: 1,\n       history_ttl: 1s}\n    - name: x\napi: {keys: [\n  a,\n  {key: b, scopes: []}]}\n";
    let toml = "[public]\nport = 8000\n[client.token]\n\nleeway = \"6m\"\n[[channel.namespaces]]\nname = \"ab\"\n\
        [[channel.namespaces]]\nname = \"cd\"\n[[channel.namespaces]]\nname = \"x\"\n[api]\nkeys = [\n\"a\", {key = \"b\", scopes = []}]\n";
    let json = "{\n\"client\": {\"token\":\n{\"leeway\": \"6m\"}},\n\"channel\": {\"namespaces\": [{\"name\": \"ab\"}, {\"name\": \"cd\"},\n\
        {\"name\": \"x\"}]},\n\"api\": {\"keys\": [\"a\",\n{\"key\": \"b\", \"scopes\": []}]}}";
    for (extension, text, lines) in
        [("yaml", yaml, [5, 11, 14]), ("toml", toml, [5, 11, 14]), ("json", json, [3, 5, 7])]
    {
        let error = load_with(extension, text, &[(KEY, GOOD_KEY)]).unwrap_err();
        let places: Vec<_> =
            error.problems.iter().map(|problem| problem.place.clone().unwrap_or_default()).collect();
        assert_eq!(places.len(), 3, "{error}");
        for (place, line) in places.iter().zip(lines) {
            assert!(place.ends_with(&format!(".{extension}, line {line}")), "{extension}: {error}");
        }
    }
    // What a variable gives is not in the file, even where the file has it too.
    let variables = [(KEY, GOOD_KEY), ("CLARION__CLIENT__TOKEN", r#"{"leeway": "7m"}"#)];
    let error = problem(load_with("yaml", "client: {token: {leeway: 6m}}", &variables));
    assert!(error.ends_with(" (CLARION__CLIENT__TOKEN)"), "{error}");
    // What is nowhere has no place.
    assert!(problem(load_env(&[])).ends_with("`client.anonymous`)"));
}

#[test]
fn f44_a_file_without_a_setting_is_told_from_one_that_is_empty() {
    for (extension, text) in [("yaml", ""), ("yaml", "\n \n"), ("toml", "\n"), ("json", "")] {
        let error = problem(load_with(extension, text, &[(KEY, GOOD_KEY)]));
        assert!(error.contains("is empty: give the file that was meant, or none"), "{error}");
    }
    for (extension, text) in [("yaml", "# a\n---\n  # b\n"), ("toml", "# a\n")] {
        let config = load_with(extension, text, &[(KEY, GOOD_KEY)]).unwrap();
        let warning = &config.warnings()[0];
        assert!(warning.contains("holds no setting: everything is as by default"), "{warning}");
    }
    for (extension, text) in [("yaml", "{}"), ("json", "{}"), ("yaml", "# a\nlog: {level: info}")] {
        let config = load_with(extension, text, &[(KEY, GOOD_KEY)]).unwrap();
        assert!(!config.warnings()[0].contains("holds no setting"), "{text}");
    }
    let directory = std::env::temp_dir().join(format!("clarion-config-{}.yaml", uuid::Uuid::new_v4()));
    std::fs::create_dir(&directory).unwrap();
    let error = Config::load(Some(&directory), environment(&[(KEY, GOOD_KEY)]));
    std::fs::remove_dir(&directory).unwrap();
    assert!(problem(error).contains("is a directory: there may be no such file where it was mounted from"));
}

#[test]
fn f44_two_listeners_do_not_share_a_port() {
    let listeners = |public: &str, internal: &str, port: u16| {
        load(&format!(
            "public: {{address: '{public}', port: {port}}}\ninternal: {{address: '{internal}', port: {port}}}"
        ))
    };
    for (public, internal) in [
        ("0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "0.0.0.0"),
        ("::", "127.0.0.1"),
        ("::", "::1"),
        ("::", "0.0.0.0"),
    ] {
        let error = problem(listeners(public, internal, 8000));
        assert!(error.starts_with("internal.port: is that of `public.port` too"), "{error}");
        assert!(error.ends_with("line 2)"), "{error}");
        listeners(public, internal, 0).unwrap();
    }
    for (public, internal) in
        [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "127.0.0.2"), ("0.0.0.0", "::1"), ("::", "::")]
    {
        listeners(public, internal, 8000).unwrap();
    }
}

#[test]
fn s61_nothing_of_a_configuration_shows_a_secret() {
    let canary = "LEAKCANARYLEAKCANARYleakcanary0123456789";
    let other = "LEAKCANARYleakcanaryLEAKCANARY0123456789";
    let config = load_env(&[
        (KEY, canary),
        ("CLARION__CLIENT__TOKEN__HMAC_PREVIOUS_SECRET_KEYS", &format!(r#"["{other}"]"#)),
        ("CLARION__CLIENT__SUBSCRIPTION_TOKEN__HMAC_SECRET_KEY", other),
        ("CLARION__API__KEYS", &format!(r#"["{canary}", {{"name": "shop", "key": "{other}"}}]"#)),
        ("CLARION__BROKER__REDIS__PASSWORD", canary),
    ]);
    let config = config.unwrap();
    let shown = format!(
        "{config:?} {config:#?} {} {}",
        serde_json::to_string(&config).unwrap(),
        config.warnings().join("\n")
    );
    assert!(!shown.contains("LEAKCANARY"), "{shown}");
    assert!(shown.matches("***").count() >= 15, "every secret is there, and hidden: {shown}");
}

#[test]
fn where_traces_go_is_an_address_of_http_and_a_share_is_one() {
    for endpoint in ["http://a", "http://a:4318/", "https://otel.example.com/otlp", "http://[::1]:4318", ""] {
        let config = load_env(&[(KEY, GOOD_KEY), ("CLARION__OTLP__ENDPOINT", endpoint)]).unwrap();
        assert_eq!(config.otlp.endpoint, endpoint);
        assert!(!config.warnings().iter().any(|warning| warning.contains("otlp")));
    }
    for bad in [
        "a:4318",
        "grpc://a:4317",
        "http://",
        "http://:4318",
        "http://a:x",
        "http://a:4318?k=v",
        "http://a#b",
        "http://a b",
        "http://key@a",
    ] {
        let found = problem(load_env(&[(KEY, GOOD_KEY), ("CLARION__OTLP__ENDPOINT", bad)]));
        assert!(found.starts_with("otlp.endpoint: ") && !found.contains(bad), "{bad}: {found}");
    }
    for (share, is_good) in
        [("0", true), ("0.5", true), ("1", true), ("1.1", false), ("-0.1", false), ("NaN", false)]
    {
        let loaded = load_env(&[(KEY, GOOD_KEY), ("CLARION__OTLP__SAMPLE_RATIO", share)]);
        assert_eq!(loaded.is_ok(), is_good, "{share}");
    }
    let config = load("otlp: {endpoint: 'http://collector:4317'}").unwrap();
    assert!(config.warnings().iter().any(|warning| warning.contains("4318")));
}
