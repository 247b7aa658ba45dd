use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, crypto};
use serde::{Deserialize, Serialize};

use super::claims::{self, SubscriptionClaims, read};
use super::members::Members;
use crate::config::{Algorithm, Client, KeyKind, PublicKeyError, Token};
use crate::model::{Identity, Secret, TokenMark, UserId};

/// Longest token, in bytes, looked at before anything is decoded.
const TOKEN_BYTES_MAX: usize = 4096;
/// Longest `kid` header, in bytes.
const KID_BYTES_MAX: usize = 128;

/// Verifies tokens (RFC 7519) with the keys and rules of one configuration.
pub struct TokenVerifier {
    keys: Vec<Key>,
    algorithms: Vec<Algorithm>,
    audience: Option<String>,
    issuer: Option<String>,
    leeway: Duration,
    require_exp: bool,
    lifetime_max: Option<Duration>,
    limits_lifetime: bool,
}

/// A key and the algorithms it may be used with, which a token has no say in (RFC 8725 §3.1).
struct Key {
    kind: Kind,
    kid: Option<String>,
    key: DecodingKey,
}

#[derive(Clone, Copy)]
enum Kind {
    Hmac,
    Public(KeyKind),
}

/// A configured key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A public key that is none.
    #[error("public_keys[{index}] {source}")]
    PublicKey {
        /// Its place in the list, from 0.
        index: usize,
        /// What is wrong with it.
        source: PublicKeyError,
    },
    /// Signing needs an HMAC key, and its algorithm among the allowed ones.
    #[error("signing needs an hmac_secret_key, and HS256, HS384 or HS512 in its algorithms")]
    NothingToSignWith,
    /// The library refused.
    #[error("signing failed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// Why a token is refused. No variant holds anything of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than 4 KiB.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    /// Not three parts of base64url, or header or claims are no JSON object with unique names.
    #[error("the token is malformed: it must be header.claims.signature in base64url without padding")]
    Malformed,
    /// No known algorithm: `none`, for example.
    #[error("the token names no known signature algorithm")]
    UnknownAlgorithm,
    /// A known algorithm that the configuration does not allow.
    #[error("the token's algorithm is not among the allowed ones")]
    Algorithm,
    /// A header that must not be there, or not with this value.
    #[error("the token's header `{0}` is not accepted")]
    Header(&'static str),
    /// No key verifies the signature.
    #[error("the token's signature does not match any key")]
    Signature,
    /// Good once.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the token is not valid yet: `nbf` or `iat` lies in the future")]
    NotYetValid,
    /// `exp` lies too far in the future.
    #[error("the token lives too long: `exp` lies further ahead than lifetime_max")]
    Lifetime,
    /// A claim that is missing, of the wrong type, or not what it must be.
    #[error("the token's claim `{0}` is missing or not acceptable")]
    Claim(&'static str),
    /// Good, had it not been revoked.
    #[error("the token has been revoked")]
    Revoked,
}

impl TokenError {
    /// Every [label](Self::label).
    pub const LABELS: [&str; 8] =
        ["too_large", "bad_token", "algorithm", "expired", "clock", "lifetime", "claims", "revoked"];

    /// The machine-readable answer; one of few.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed | Self::UnknownAlgorithm | Self::Header(_) | Self::Signature => "bad_token",
            Self::Algorithm => "algorithm",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::Claim(_) => "claims",
            Self::Revoked => "revoked",
        }
    }

    /// The label for metrics: the [`reason`](Self::reason), but `clock` for a token from the future. Its maker and this
    /// node do not agree on the time, and one of them has to be set right.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotYetValid => "clock",
            other => other.reason(),
        }
    }

    /// Whether the signature was good, so that the claims are at least whose they say they are.
    pub fn is_authentic(&self) -> bool {
        matches!(self, Self::Expired | Self::NotYetValid | Self::Lifetime | Self::Claim(_) | Self::Revoked)
    }
}

impl TokenVerifier {
    /// A verifier with the keys and rules of `config`. Without a key it refuses every token.
    ///
    /// # Errors
    /// [`KeyError`] for a public key that cannot be used.
    pub fn new(config: &Token) -> Result<Self, KeyError> {
        Ok(Self {
            keys: keys(config)?,
            algorithms: config.algorithms.clone(),
            audience: config.audience.clone(),
            issuer: config.issuer.clone(),
            leeway: config.leeway,
            require_exp: config.require_exp,
            lifetime_max: Some(config.lifetime_max).filter(|limit| !limit.is_zero()),
            limits_lifetime: true,
        })
    }

    /// The verifier of connection tokens: with `client.insecure` a token must still be good, but its
    /// expiration does not limit the connection.
    ///
    /// # Errors
    /// [`KeyError`] for a public key that cannot be used.
    pub fn for_connections(client: &Client) -> Result<Self, KeyError> {
        Ok(Self { limits_lifetime: !client.insecure, ..Self::new(&client.token)? })
    }

    /// The verifier of subscription tokens; `client.insecure` means the same for the subscription.
    ///
    /// # Errors
    /// [`KeyError`] for a public key that cannot be used.
    pub fn for_subscriptions(client: &Client) -> Result<Self, KeyError> {
        Ok(Self { limits_lifetime: !client.insecure, ..Self::new(client.subscription_token_rules())? })
    }

    /// Who the connection `token` says the client is, at the time `now`.
    ///
    /// # Errors
    /// [`TokenError`]; [`TokenError::Expired`] only for a token with nothing else wrong, so that the
    /// client may be told to bring a fresh one.
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Identity, TokenError> {
        let claims = self.signed_claims(token)?;
        let claims = Members::parse(&claims).ok_or(TokenError::Malformed)?;
        if claims.raw("channel").is_some() {
            // A subscription token is not for connecting (RFC 8725 §3.12).
            return Err(TokenError::Claim("channel"));
        }
        let user = self.check_subject(&claims)?;
        let mark = mark(&claims)?;
        let info = claims::info(&claims)?;
        let grants = claims::grants(&claims)?;
        let expires_at = self.check_times(&claims, now)?;
        Ok(Identity { user, info, expires_at, grants, mark })
    }

    /// What the subscription `token` says, at the time `now`. Whether it is for this client and this channel is
    /// for the caller to see.
    ///
    /// # Errors
    /// As of [`verify`](Self::verify).
    pub fn verify_subscription(
        &self,
        token: &str,
        now: SystemTime,
    ) -> Result<SubscriptionClaims, TokenError> {
        let claims = self.signed_claims(token)?;
        let claims = Members::parse(&claims).ok_or(TokenError::Malformed)?;
        // A connection token is not for subscribing.
        let channel = read::<String>(&claims, "channel")?.ok_or(TokenError::Claim("channel"))?;
        let user = self.check_subject(&claims)?;
        let client = read::<String>(&claims, "client")?.filter(|client| !client.is_empty());
        let mark = mark(&claims)?;
        let mut grant = claims::subscription_grant(&claims)?;
        grant.expires_at = self.check_times(&claims, now)?;
        Ok(SubscriptionClaims { user, channel, client, grant, mark })
    }

    /// The claims of a token whose signature is good, as JSON text.
    fn signed_claims(&self, token: &str) -> Result<Vec<u8>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        self.verify_signature(&decode(header)?, message, signature)?;
        decode(claims)
    }

    /// Reads from the header only what selects the key, and refuses what it would not understand.
    fn verify_signature(&self, header: &[u8], message: &str, signature: &str) -> Result<(), TokenError> {
        let header = Members::parse(header).ok_or(TokenError::Malformed)?;
        let algorithm = header.read::<String>("alg").ok().flatten();
        let algorithm = Algorithm::ALL.into_iter().find(|known| Some(known.name()) == algorithm.as_deref());
        let algorithm = algorithm.ok_or(TokenError::UnknownAlgorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        check_header(&header)?;
        let kid = header.read::<String>("kid").map_err(|_| TokenError::Header("kid"))?;
        if kid.as_deref().is_some_and(|kid| !is_kid(kid)) {
            return Err(TokenError::Header("kid"));
        }
        let mut candidates = self.keys.iter().filter(|key| key.may_verify(algorithm, kid.as_deref()));
        let algorithm = library_name(algorithm);
        let verifies =
            |key: &Key| crypto::verify(signature, message.as_bytes(), &key.key, algorithm).unwrap_or(false);
        if candidates.any(verifies) { Ok(()) } else { Err(TokenError::Signature) }
    }

    /// Checks who the token is of, by whom and for whom it was made; whose times are for the caller to check last.
    fn check_subject(&self, claims: &Members<'_>) -> Result<UserId, TokenError> {
        let user = read::<String>(claims, "sub")?.unwrap_or_default();
        let user = UserId::parse(&user).map_err(|_| TokenError::Claim("sub"))?;
        self.check_audience_and_issuer(claims)?;
        Ok(user)
    }

    fn check_audience_and_issuer(&self, claims: &Members<'_>) -> Result<(), TokenError> {
        if let Some(expected) = &self.audience {
            let audience = read::<OneOrMany>(claims, "aud")?;
            if !audience.is_some_and(|audience| audience.contains(expected)) {
                return Err(TokenError::Claim("aud"));
            }
        }
        if self.issuer.is_some() && read::<String>(claims, "iss")? != self.issuer {
            return Err(TokenError::Claim("iss"));
        }
        Ok(())
    }

    /// When what the token is for ends; `None` if never.
    fn check_times(&self, claims: &Members<'_>, now: SystemTime) -> Result<Option<SystemTime>, TokenError> {
        let expires = claims::date(claims, "exp")?;
        let granted_until = claims::date(claims, "expire_at")?;
        if expires.is_none() && self.require_exp {
            return Err(TokenError::Claim("exp"));
        }
        for start in [claims::date(claims, "nbf")?, claims::date(claims, "iat")?].into_iter().flatten() {
            if start > now + self.leeway {
                return Err(TokenError::NotYetValid);
            }
        }
        if let (Some(expires), Some(limit)) = (expires, self.lifetime_max)
            && now.checked_add(limit.saturating_add(self.leeway)).is_some_and(|latest| expires > latest)
        {
            return Err(TokenError::Lifetime);
        }
        let granted_until = match granted_until {
            Some(SystemTime::UNIX_EPOCH) => None,
            Some(time) => Some(time),
            None => expires,
        };
        if [expires, granted_until].into_iter().flatten().any(|end| end + self.leeway <= now) {
            return Err(TokenError::Expired);
        }
        Ok(granted_until.filter(|_| self.limits_lifetime))
    }
}

impl Key {
    /// A key is tried only within its family; a `kid` on both sides must be the same.
    fn may_verify(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let serves = match self.kind {
            Kind::Hmac => algorithm.is_hmac(),
            Kind::Public(kind) => kind.serves(algorithm),
        };
        serves && (kid.is_none() || self.kid.is_none() || kid == self.kid.as_deref())
    }
}

fn keys(config: &Token) -> Result<Vec<Key>, KeyError> {
    let secrets = [&config.hmac_secret_key].into_iter().chain(&config.hmac_previous_secret_keys);
    let hmac = |secret: &Secret| Key {
        kind: Kind::Hmac,
        kid: None,
        key: DecodingKey::from_secret(secret.expose().as_bytes()),
    };
    // With the empty key anyone could sign.
    let mut keys: Vec<_> = secrets.filter(|secret| !secret.is_empty()).map(hmac).collect();
    for (index, public) in config.public_keys.iter().enumerate() {
        let material = public.material().map_err(|source| KeyError::PublicKey { index, source })?;
        let key = match material.kind {
            KeyKind::Rsa => DecodingKey::from_rsa_der(&material.bytes),
            KeyKind::P256 | KeyKind::P384 => DecodingKey::from_ec_der(&material.bytes),
            KeyKind::Ed25519 => DecodingKey::from_ed_der(&material.bytes),
        };
        keys.push(Key { kind: Kind::Public(material.kind), kid: public.kid.clone(), key });
    }
    Ok(keys)
}

/// What the token can be revoked by.
fn mark(claims: &Members<'_>) -> Result<TokenMark, TokenError> {
    let id = read::<String>(claims, "jti")?;
    Ok(TokenMark::new(id.as_deref(), claims::date(claims, "iat")?))
}

/// Refuses a header that changes what the token means.
fn check_header(header: &Members<'_>) -> Result<(), TokenError> {
    for name in ["crit", "b64"] {
        // RFC 7515 §4.1.11: what is critical and not understood must be refused, and nothing is.
        if header.raw(name).is_some() {
            return Err(TokenError::Header(name));
        }
    }
    let kind = header.read::<String>("typ").map_err(|_| TokenError::Header("typ"))?;
    match kind {
        Some(kind) if !kind.eq_ignore_ascii_case("JWT") => Err(TokenError::Header("typ")),
        _ => Ok(()),
    }
}

fn is_kid(kid: &str) -> bool {
    (1..=KID_BYTES_MAX).contains(&kid.len())
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

/// The `aud` claim (RFC 7519 §4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn contains(&self, expected: &String) -> bool {
        match self {
            Self::One(one) => one == expected,
            Self::Many(many) => many.contains(expected),
        }
    }
}

/// Signs `claims` with the HMAC key and the first HMAC algorithm of `config`, for tools and tests: in
/// production the application's back end signs.
///
/// # Errors
/// [`KeyError::NothingToSignWith`] without an HMAC key or algorithm; [`KeyError::Sign`] for claims that
/// are no JSON object.
pub fn sign(config: &Token, claims: &impl Serialize) -> Result<Secret, KeyError> {
    let algorithm = config.algorithms.iter().find(|algorithm| algorithm.is_hmac());
    let algorithm =
        algorithm.filter(|_| !config.hmac_secret_key.is_empty()).ok_or(KeyError::NothingToSignWith)?;
    let key = EncodingKey::from_secret(config.hmac_secret_key.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(library_name(*algorithm)), claims, &key);
    token.map(Secret::new).map_err(KeyError::Sign)
}

fn library_name(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests;
