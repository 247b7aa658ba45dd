use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Auto, PublicKey, hide_secret, hide_secrets};
use crate::model::Secret;

/// Client connections: who may connect, and what one connection may cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    /// Origins that a browser may connect from: exact (`https://app.example.com`), `*.example.com`
    /// for every subdomain, or `*` alone for all. Empty: only requests without `Origin`.
    pub allowed_origins: Vec<String>,
    /// Accept requests without `Origin`, as native apps and servers send them.
    pub allow_no_origin: bool,
    /// Accept connections without a token, as the empty user.
    pub anonymous: bool,
    /// Every permission to every client: development only.
    pub insecure: bool,
    /// How connection tokens are verified.
    pub token: Token,
    /// How subscription tokens are verified. Without a key, as connection tokens are, and then nothing else of
    /// it may be set; with one, by this alone.
    pub subscription_token: Token,
    /// Subscribes each user to a channel of its own.
    pub subscribe_to_user_personal_channel: PersonalChannel,
    /// Time between two pings; above 0.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long to wait for the pong; above 0 and below `ping_interval`.
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// How long a connection may stay without authenticating; above 0.
    #[serde(with = "humantime_serde")]
    pub stale_close_delay: Duration,
    /// How long a connection outlives its token, so that it can bring a fresh one; 0 = not at all.
    #[serde(with = "humantime_serde")]
    pub expired_close_delay: Duration,
    /// How long a subscription outlives its token, so that a fresh one can be brought; 0 = not at all.
    #[serde(with = "humantime_serde")]
    pub expired_sub_close_delay: Duration,
    /// How often it is said of a client that it is still present; above 0.
    #[serde(with = "humantime_serde")]
    pub presence_update_interval: Duration,
    /// Most channels that one connection may be subscribed to; at least 1.
    pub channels_max: usize,
    /// Largest message from a client, in bytes; at least 1.
    pub message_bytes_max: usize,
    /// Most frames of a client in a second, fragments, pings and pongs included; 0 = unlimited.
    pub frames_per_second_max: usize,
    /// Most bytes queued for one connection, then the slow-consumer policy; at least 1.
    pub outbox_bytes_max: usize,
    /// Most bytes queued on the node; at least 1. Auto = an eighth of the memory this process may use.
    pub outbox_bytes_total_max: Auto<usize>,
    /// Send buffer of a socket (`SO_SNDBUF`), in bytes; at least 1.
    pub send_buffer_bytes: usize,
    /// A socket that takes nothing for longer is closed; above 0.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// A connection is asked to come again after so long, or up to a quarter earlier; 0 = never.
    #[serde(with = "humantime_serde")]
    pub connection_lifetime_max: Duration,
    /// Most connections of the node; at least 1. Auto = what the open-file limit allows, less a reserve.
    pub connections_max: Auto<usize>,
    /// With more connections the node is not ready: it keeps those it has, and others are sent elsewhere. 0 = it is.
    pub connections_soft_max: usize,
    /// Most connections of one user on the node; 0 = unlimited. Anonymous clients are not counted.
    pub user_connections_max: usize,
    /// Most connections from one address on the node; 0 = unlimited.
    pub address_connections_max: usize,
    /// Most publications that a subscriber catches up with at once; what missed more is not recovered. At least 1.
    pub recovery_publications_max: usize,
    /// Most publications that a client gets of a history at once. At least 1.
    pub history_publications_max: usize,
    /// How long a subscriber that missed something may not know it; 0 = it is not looked for.
    #[serde(with = "humantime_serde")]
    pub position_check_interval: Duration,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            allow_no_origin: true,
            anonymous: false,
            insecure: false,
            token: Token::default(),
            subscription_token: Token::default(),
            subscribe_to_user_personal_channel: PersonalChannel::default(),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            stale_close_delay: Duration::from_secs(10),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            presence_update_interval: Duration::from_secs(27),
            channels_max: 128,
            message_bytes_max: 64 * 1024,
            frames_per_second_max: 0,
            outbox_bytes_max: 1024 * 1024,
            outbox_bytes_total_max: Auto::Auto,
            send_buffer_bytes: 64 * 1024,
            write_timeout: Duration::from_secs(5),
            connection_lifetime_max: Duration::ZERO,
            connections_max: Auto::Auto,
            connections_soft_max: 0,
            user_connections_max: 0,
            address_connections_max: 0,
            recovery_publications_max: 300,
            history_publications_max: 300,
            position_check_interval: Duration::from_secs(40),
        }
    }
}

impl Client {
    /// The keys and rules of subscription tokens: their own, or those of connection tokens.
    pub fn subscription_token_rules(&self) -> &Token {
        if self.subscription_token.has_keys() { &self.subscription_token } else { &self.token }
    }
}

/// The channel that each user is subscribed to without asking: `#USER`, or `NAMESPACE:#USER`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersonalChannel {
    /// Whether there is one. Anonymous clients have none.
    pub enabled: bool,
    /// The namespace it is in, which must be configured; empty for none.
    pub namespace: String,
}

/// Keys and rules by which a JWT is verified (RFC 7519, RFC 8725).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// Key of HS256, HS384 and HS512; at least 32 bytes. Empty = none.
    #[serde(serialize_with = "hide_secret")]
    pub hmac_secret_key: Secret,
    /// File that holds it, instead of `hmac_secret_key`.
    pub hmac_secret_key_file: Option<PathBuf>,
    /// Keys that still verify while tokens of the key before are in use.
    #[serde(serialize_with = "hide_secrets")]
    pub hmac_previous_secret_keys: Vec<Secret>,
    /// File that holds them, one in a line, instead of `hmac_previous_secret_keys`.
    pub hmac_previous_secret_keys_file: Option<PathBuf>,
    /// Public keys in PEM: RSA (RS*, PS*), EC (ES256, ES384), Ed25519 (EdDSA).
    pub public_keys: Vec<PublicKey>,
    /// Algorithms that are accepted; at least one, and each with a key.
    pub algorithms: Vec<Algorithm>,
    /// What the `aud` claim must be or contain. `None` = not looked at.
    pub audience: Option<String>,
    /// What the `iss` claim must be. `None` = not looked at.
    pub issuer: Option<String>,
    /// How far clocks may differ; at most 5 minutes.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Refuse tokens without `exp`.
    pub require_exp: bool,
    /// How far ahead `exp` may lie; 0 = unlimited.
    #[serde(with = "humantime_serde")]
    pub lifetime_max: Duration,
    /// How a client with a bad token hears of it.
    pub reject: Reject,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            hmac_secret_key: Secret::default(),
            hmac_secret_key_file: None,
            hmac_previous_secret_keys: Vec::new(),
            hmac_previous_secret_keys_file: None,
            public_keys: Vec::new(),
            algorithms: vec![Algorithm::Hs256],
            audience: None,
            issuer: None,
            leeway: Duration::from_secs(5),
            require_exp: true,
            lifetime_max: Duration::from_secs(24 * 60 * 60),
            reject: Reject::Status,
        }
    }
}

impl Token {
    /// Whether there is any key to verify a token with.
    pub fn has_keys(&self) -> bool {
        !self.hmac_secret_key.is_empty() || !self.public_keys.is_empty()
    }

    /// Whether everything is as it is by default.
    pub fn is_unset(&self) -> bool {
        // Secrets cannot be compared, nor need they be: the tree says whether there are any.
        serde_json::to_value(self).ok() == serde_json::to_value(Self::default()).ok()
    }
}

/// How a client with a bad token hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reject {
    /// HTTP 401 before the upgrade. A browser sees only that the connection failed.
    #[default]
    Status,
    /// The upgrade, then a close code, which a browser can read.
    Close,
}

/// A signature algorithm of RFC 7518 §3.1 and RFC 8037 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm that can be allowed.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in the `alg` header of a token; compared exactly.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether its key is a shared secret.
    pub fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}
