//! What the types cannot say: ranges, and settings that contradict each other.

mod broker;
mod otlp;
mod tls;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{
    Api, ApiKey, Auto, ChannelOptions, ChannelSection, Client, Config, ConfigError, Internal, Problem,
    Public, RecoveryMode, Reject, Token,
};
use crate::model::Secret;

/// Shortest HMAC key, in bytes: the output of SHA-256 (RFC 7518 §3.2).
const HMAC_KEY_BYTES_MIN: usize = 32;
/// An API key below this many bytes is warned about.
const API_KEY_BYTES_MIN: usize = 16;
/// A key with fewer different bytes was typed, not generated.
const DISTINCT_BYTES_MIN: usize = 8;
const SHARDS_MAX: usize = 1024;
const CHANNEL_BYTES_MAX: usize = 65535;
const LEEWAY_MAX: Duration = Duration::from_secs(5 * 60);
const KID_BYTES_MAX: usize = 128;
const LEAVE_GRACE_MAX: Duration = Duration::from_secs(3600);

/// Keys of tutorials and documentation, in lower case.
const WELL_KNOWN_KEYS: [&str; 10] = [
    "secret",
    "changeme",
    "change-me",
    "password",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "bbe7d157-a253-4094-9759-06a8236543f9",
    "0123456789abcdef0123456789abcdef",
];

/// Collects problems, so that all are reported at once.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem::new(path, message));
    }

    fn require(&mut self, holds: bool, path: &str, message: &str) {
        if !holds {
            self.add(path, message);
        }
    }

    fn at_least_one(&mut self, path: &str, value: usize) {
        self.require(value > 0, path, "must be at least 1, not 0");
    }

    fn auto_at_least_one(&mut self, path: &str, value: Auto<usize>) {
        self.require(value != Auto::Fixed(0), path, "must be `auto` or at least 1, not 0");
    }

    fn above_zero(&mut self, path: &str, value: Duration) {
        self.require(!value.is_zero(), path, "must be above 0s");
    }
}

/// Refuses a configuration that could not work or would not do what it says.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let mut problems = Problems::default();
    problems.require(!config.node.name.is_empty(), "node.name", "must not be empty");
    problems.above_zero("public.header_timeout", config.public.header_timeout);
    check_proxies(&config.public.trusted_proxies, &mut problems);
    tls::check(config, &mut problems);
    let shards_fit = !matches!(config.shards, Auto::Fixed(shards) if !(1..=SHARDS_MAX).contains(&shards));
    problems.require(shards_fit, "shards", "must be `auto` or from 1 to 1024");
    check_client(&config.client, &mut problems);
    check_tokens(&config.client, &mut problems);
    check_channel(&config.channel, &mut problems);
    check_presence(config, &mut problems);
    check_api(&config.api, &mut problems);
    check_listeners(&config.public, &config.internal, &mut problems);
    broker::check_redis(&config.broker.redis, &mut problems);
    broker::check_cluster(&config.cluster, &mut problems);
    otlp::check(&config.otlp, &mut problems);
    problems.auto_at_least_one("admission.handshakes_per_second", config.admission.handshakes_per_second);
    if problems.0.is_empty() { Ok(()) } else { Err(ConfigError { problems: problems.0 }) }
}

/// Two listeners that are not one cannot share a port, if an address of one means the other's too.
fn check_listeners(public: &Public, internal: &Internal, problems: &mut Problems) {
    let means = |any: IpAddr, one: IpAddr| any.is_unspecified() && (any.is_ipv6() || one.is_ipv4());
    let (one, other) = (public.address, internal.address);
    let overlap = one != other && (means(one, other) || means(other, one));
    let clash = public.port != 0 && public.port == internal.port && overlap;
    let message = "is that of `public.port` too, and the addresses overlap: choose another port, or the same address \
        for both, which are one listener then";
    problems.require(!clash, "internal.port", message);
}

fn check_client(client: &Client, problems: &mut Problems) {
    check_origins(&client.allowed_origins, problems);
    problems.above_zero("client.ping_interval", client.ping_interval);
    problems.above_zero("client.pong_timeout", client.pong_timeout);
    let pong_first = client.pong_timeout < client.ping_interval;
    problems.require(pong_first, "client.pong_timeout", "must be below client.ping_interval");
    problems.above_zero("client.stale_close_delay", client.stale_close_delay);
    problems.at_least_one("client.channels_max", client.channels_max);
    problems.at_least_one("client.recovery_publications_max", client.recovery_publications_max);
    problems.at_least_one("client.history_publications_max", client.history_publications_max);
    let looks = client.position_check_interval;
    let is_sensible = looks.is_zero() || looks >= Duration::from_secs(1);
    problems.require(is_sensible, "client.position_check_interval", "must be 0s, or at least 1s");
    problems.at_least_one("client.message_bytes_max", client.message_bytes_max);
    problems.at_least_one("client.outbox_bytes_max", client.outbox_bytes_max);
    problems.auto_at_least_one("client.outbox_bytes_total_max", client.outbox_bytes_total_max);
    problems.at_least_one("client.send_buffer_bytes", client.send_buffer_bytes);
    problems.above_zero("client.write_timeout", client.write_timeout);
    problems.auto_at_least_one("client.connections_max", client.connections_max);
    let is_within =
        !matches!(client.connections_max, Auto::Fixed(max) if max > 0 && client.connections_soft_max > max);
    let path = "client.connections_soft_max";
    problems.require(is_within, path, "must not be above client.connections_max: it would never be reached");
}

fn check_proxies(networks: &[String], problems: &mut Problems) {
    for (index, text) in networks.iter().enumerate() {
        let path = format!("public.trusted_proxies[{index}]");
        let message = format!("`{text}` must be a network, such as `10.0.0.0/8`, or an address");
        problems.require(super::network(text).is_some(), &path, &message);
    }
}

fn check_origins(origins: &[String], problems: &mut Problems) {
    for (index, origin) in origins.iter().enumerate() {
        let path = format!("client.allowed_origins[{index}]");
        if origin == "*" {
            problems.require(origins.len() == 1, &path, "`*` allows all: it must be the only entry");
        } else if let Err(reason) = check_origin(origin) {
            problems.add(path, format!("`{origin}` {reason}"));
        }
    }
}

/// Whether a browser could ever send this origin (RFC 6454 §6.2), or it is a wildcard.
fn check_origin(origin: &str) -> Result<(), &'static str> {
    if origin == "null" {
        return Ok(());
    }
    if let Some(domain) = origin.strip_prefix("*.") {
        let holds = domain.contains('.') && is_host(domain);
        return if holds { Ok(()) } else { Err("must be `*.` and a domain, such as `*.example.com`") };
    }
    let (scheme, authority) =
        origin.split_once("://").ok_or("must be `scheme://host`, with `:port` if any")?;
    if authority.contains(['/', '?', '#', '@']) {
        return Err("must end after the host and port: no path, no slash, no user");
    }
    if origin.contains(char::is_uppercase) || !origin.is_ascii() {
        return Err("must be in lower case and ASCII, as browsers send it (`xn--` for other letters)");
    }
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    {
        return Err("has no valid scheme");
    }
    check_authority(scheme, authority)
}

fn check_authority(scheme: &str, authority: &str) -> Result<(), &'static str> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| "has no valid IPv6 address")?;
            ("", port)
        }
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    if !authority.starts_with('[') && !is_host(host) {
        return Err("has no valid host; a wildcard is written `*.example.com`, without a scheme");
    }
    match (scheme, port) {
        (_, "") => Ok(()),
        ("https", ":443") | ("http", ":80") => Err("must leave out the default port, as browsers do"),
        _ if port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()) => Ok(()),
        _ => Err("has no valid port"),
    }
}

fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    host.split('.').all(is_label)
}

fn check_tokens(client: &Client, problems: &mut Problems) {
    let token = &client.token;
    let needs_key = !client.anonymous && !client.insecure;
    let set = token.has_keys() || !needs_key;
    problems.require(set, "client.token.hmac_secret_key", NO_KEY);
    check_token("client.token", token, client.insecure, problems);
    let at = "client.subscription_token";
    let token = &client.subscription_token;
    if token.has_keys() {
        check_token(at, token, client.insecure, problems);
        let path = format!("{at}.reject");
        problems.require(
            token.reject == Reject::default(),
            &path,
            "is for connections: it would not be used",
        );
    } else {
        problems.require(token.is_unset(), at, "has no key, so that nothing of it would be used");
    }
}

fn check_token(at: &str, token: &Token, insecure: bool, problems: &mut Problems) {
    check_hmac_keys(at, token, insecure, problems);
    check_algorithms(at, token, problems);
    for (name, value) in [("audience", &token.audience), ("issuer", &token.issuer)] {
        let given = value.as_deref() != Some("");
        problems.require(given, &format!("{at}.{name}"), "must not be empty: leave it out instead");
    }
    problems.require(token.leeway <= LEEWAY_MAX, &format!("{at}.leeway"), "must be at most 5m");
}

const NO_KEY: &str = "is missing: without a key no client could connect \
    (set it, or `client.token.public_keys`, or `client.anonymous`)";

fn check_hmac_keys(at: &str, token: &Token, insecure: bool, problems: &mut Problems) {
    let path = format!("{at}.hmac_previous_secret_keys");
    let orphans = token.hmac_secret_key.is_empty() && !token.hmac_previous_secret_keys.is_empty();
    problems.require(!orphans, &path, &format!("has keys, but {at}.hmac_secret_key has none"));
    for (path, key) in hmac_keys(at, token) {
        problems.require(!key.is_empty(), &path, "must not be empty");
        if !insecure && let Some(reason) = weakness(key) {
            problems.add(path, reason);
        }
    }
}

/// The HMAC keys that are set, each with its path.
fn hmac_keys<'a>(at: &str, token: &'a Token) -> Vec<(String, &'a Secret)> {
    let current = Some(&token.hmac_secret_key).filter(|key| !key.is_empty());
    let previous = token.hmac_previous_secret_keys.iter().enumerate();
    let previous = previous.map(|(index, key)| (format!("{at}.hmac_previous_secret_keys[{index}]"), key));
    current.map(|key| (format!("{at}.hmac_secret_key"), key)).into_iter().chain(previous).collect()
}

/// Why an HMAC key could be guessed.
fn weakness(key: &Secret) -> Option<&'static str> {
    if is_well_known(key) {
        return Some("is a well-known word: generate one, with `clarion genconfig` for example");
    }
    let key = key.expose();
    if key.len() < HMAC_KEY_BYTES_MIN {
        return Some("is shorter than 32 bytes: generate one, with `clarion genconfig` for example");
    }
    let distinct = key.bytes().collect::<HashSet<_>>().len();
    (distinct < DISTINCT_BYTES_MIN).then_some("repeats the same few characters: generate a random one")
}

/// Whether everybody knows it, from tutorials and documentation.
pub fn is_well_known(secret: &Secret) -> bool {
    WELL_KNOWN_KEYS.contains(&secret.expose().to_lowercase().as_str())
}

/// Each allowed algorithm needs a key, and each key an allowed algorithm.
fn check_algorithms(at: &str, token: &Token, problems: &mut Problems) {
    let algorithms = format!("{at}.algorithms");
    let unused = format!("is used by none of {algorithms}");
    problems.require(
        !token.algorithms.is_empty(),
        &algorithms,
        "must not be empty: it would refuse every token",
    );
    let mut kinds = Vec::new();
    let mut kids = HashSet::new();
    for (index, key) in token.public_keys.iter().enumerate() {
        let path = format!("{at}.public_keys[{index}]");
        match key.material() {
            Err(error) => problems.add(&path, error.to_string()),
            Ok(material) => {
                let used = token.algorithms.iter().any(|algorithm| material.kind.serves(*algorithm));
                problems.require(used, &path, &unused);
                kinds.push(material.kind);
            }
        }
        let Some(kid) = &key.kid else { continue };
        problems.require(is_kid(kid), &path, "`kid` must be 1 to 128 of A-Z a-z 0-9 . _ -");
        problems.require(kids.insert(kid), &path, "has the `kid` of another key");
    }
    let hmac = !token.hmac_secret_key.is_empty();
    let hmac_used = token.algorithms.iter().any(|algorithm| algorithm.is_hmac());
    problems.require(!hmac || hmac_used, &format!("{at}.hmac_secret_key"), &unused);
    for (index, algorithm) in token.algorithms.iter().enumerate().filter(|_| token.has_keys()) {
        let served =
            if algorithm.is_hmac() { hmac } else { kinds.iter().any(|kind| kind.serves(*algorithm)) };
        let path = format!("{algorithms}[{index}]");
        problems.require(served, &path, &format!("there is no key for {}", algorithm.name()));
    }
}

fn is_kid(kid: &str) -> bool {
    (1..=KID_BYTES_MAX).contains(&kid.len())
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn check_channel(channel: &ChannelSection, problems: &mut Problems) {
    let fits = (1..=CHANNEL_BYTES_MAX).contains(&channel.channel_bytes_max);
    problems.require(fits, "channel.channel_bytes_max", "must be from 1 to 65535");
    problems.above_zero("channel.history_meta_ttl", channel.history_meta_ttl);
    problems.above_zero("channel.idempotency_ttl", channel.idempotency_ttl);
    check_options("channel.without_namespace", &channel.without_namespace, channel, problems);
    let mut names = HashSet::new();
    for (index, namespace) in channel.namespaces.iter().enumerate() {
        let path = format!("channel.namespaces[{index}].name");
        let name = &namespace.name;
        problems.require(is_namespace(name), &path, "must be two or more of A-Z a-z 0-9 . _ -");
        problems.require(names.insert(name), &path, &format!("`{name}` is the name of an earlier namespace"));
        check_options(&format!("channel.namespaces[{index}]"), namespace, channel, problems);
    }
}

/// The settings of presence that are in two sections, and the namespace of personal channels.
fn check_presence(config: &Config, problems: &mut Problems) {
    let (client, channel) = (&config.client, &config.channel);
    problems.above_zero("client.presence_update_interval", client.presence_update_interval);
    let outlives = channel.presence_ttl > client.presence_update_interval;
    problems.require(outlives, "channel.presence_ttl", "must be above client.presence_update_interval");
    let personal = &client.subscribe_to_user_personal_channel;
    let known = channel.namespaces.iter().any(|namespace| namespace.name == personal.namespace);
    let path = "client.subscribe_to_user_personal_channel.namespace";
    let set = known || personal.namespace.is_empty() || !personal.enabled;
    problems.require(set, path, &format!("`{}` is not among channel.namespaces", personal.namespace));
}

fn check_options(at: &str, options: &ChannelOptions, channel: &ChannelSection, problems: &mut Problems) {
    check_history(at, options, channel, problems);
    let fits = options.leave_grace.0 <= LEAVE_GRACE_MAX;
    problems.require(fits, &format!("{at}.leave_grace"), "must be at most 1h");
    let is_cached = options.force_recovery && options.force_recovery_mode == RecoveryMode::Cache;
    let path = format!("{at}.auto_cache_recover");
    let message = "needs force_recovery, and `cache` as force_recovery_mode";
    problems.require(is_cached || !options.auto_cache_recover, &path, message);
}

/// Size and lifetime of a history go together, and its metadata must not go before it.
fn check_history(at: &str, options: &ChannelOptions, channel: &ChannelSection, problems: &mut Problems) {
    let (has_size, has_ttl) = (options.history_size > 0, !options.history_ttl.is_zero());
    let (size, ttl) = (format!("{at}.history_size"), format!("{at}.history_ttl"));
    for (name, is_on) in [
        ("force_positioning", options.force_positioning),
        ("allow_positioning", options.allow_positioning),
        ("force_recovery", options.force_recovery),
        ("allow_recovery", options.allow_recovery),
    ] {
        let path = format!("{at}.{name}");
        problems.require(
            !is_on || has_size || has_ttl,
            &path,
            "needs a history: history_size and history_ttl",
        );
    }
    problems.require(has_size || !has_ttl, &size, "is missing: history_ttl alone keeps nothing");
    problems.require(has_ttl || !has_size, &ttl, "is missing: history_size alone keeps nothing");
    let (meta_ttl, path) = match options.history_meta_ttl {
        Duration::ZERO => (channel.history_meta_ttl, "channel.history_meta_ttl".to_owned()),
        meta_ttl => (meta_ttl, format!("{at}.history_meta_ttl")),
    };
    problems.require(options.history_ttl <= meta_ttl, &path, &format!("must not be below {ttl}"));
}

/// `^[-a-zA-Z0-9_.]{2,}$`
fn is_namespace(name: &str) -> bool {
    name.len() >= 2 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn check_api(api: &Api, problems: &mut Problems) {
    problems.at_least_one("api.body_bytes_max", api.body_bytes_max);
    problems.at_least_one("api.batch_max", api.batch_max);
    problems.above_zero("api.timeout", api.timeout);
    for (index, key) in api.keys.iter().enumerate() {
        check_api_key(index, key, &api.keys[..index], problems);
    }
}

fn check_api_key(index: usize, key: &ApiKey, earlier: &[ApiKey], problems: &mut Problems) {
    let path = format!("api.keys[{index}]");
    problems.require(!key.key.is_empty(), &path, "has no `key`");
    problems.require(!key.scopes.is_empty(), &path, "`scopes` must not be empty: leave it out for all");
    let twin = earlier.iter().any(|other| other.key.matches(key.key.expose()));
    problems.require(!twin || key.key.is_empty(), &path, "is the same key as an earlier one");
    let namesake = earlier.iter().any(|other| other.name == key.name);
    problems.require(key.name.is_empty() || !namesake, &path, "has the `name` of an earlier one");
}

/// What is allowed but should be known.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(file) = &config.comments_only {
        let file = file.display();
        warnings.push(format!(
            "{file} holds no setting: everything is as by default, but for CLARION__ variables"
        ));
    }
    warnings.extend(client_warnings(&config.client));
    otlp::warn(&config.otlp, &mut warnings);
    let api = &config.api;
    let mut warn = |holds: bool, sentence: &str| {
        if holds {
            warnings.push(sentence.to_owned());
        }
    };
    warn(api.insecure, "api.insecure is on: anyone who reaches the internal port may call the server API");
    warn(!api.insecure && api.keys.is_empty(), "api.keys is empty: every server API request will be refused");
    let short = api.keys.iter().any(|key| key.key.expose().len() < API_KEY_BYTES_MIN);
    warn(short, "api.keys has a key shorter than 16 bytes: it could be guessed");
    let public = &config.public;
    let trusts_all = public.trusted_networks().iter().any(|network| network.prefix_len() == 0);
    warn(trusts_all, "public.trusted_proxies has every address: any client can claim to be another one");
    warn(
        config.is_shared() && !public.address.is_loopback(),
        "public and internal share a listener: the server API is exposed",
    );
    warnings
}

fn client_warnings(client: &Client) -> Vec<String> {
    let origins = &client.allowed_origins;
    let allows = |origin: &str| origins.iter().any(|allowed| allowed == origin);
    let mut warnings = Vec::new();
    let mut warn = |holds: bool, sentence: &str| {
        if holds {
            warnings.push(sentence.to_owned());
        }
    };
    warn(origins.is_empty(), "client.allowed_origins is empty: browsers will be refused");
    warn(allows("*"), "client.allowed_origins allows every web page");
    warn(allows("null"), "client.allowed_origins allows `null`, which any web page can claim to be");
    warn(client.insecure, "client.insecure is on: every client has every permission");
    for (at, token) in
        [("client.token", &client.token), ("client.subscription_token", &client.subscription_token)]
    {
        if !token.require_exp {
            warnings.push(format!("{at}.require_exp is off: a token without `exp` is good for ever"));
        }
        let weak_keys = hmac_keys(at, token).into_iter().filter(|_| client.insecure);
        warnings.extend(weak_keys.filter_map(|(path, key)| Some(format!("{path} {}", weakness(key)?))));
    }
    warnings
}
