use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaKeyPair,
};
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::config::PublicKey;

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
/// The time of all these tests, in seconds.
const NOW: u64 = 1_790_000_000;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn now() -> SystemTime {
    at(NOW)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn config() -> Token {
    Token { hmac_secret_key: Secret::new(SECRET), ..Token::default() }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn signed(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hmac(algorithm: Algorithm, secret: &str) -> impl Fn(&[u8]) -> Vec<u8> {
    move |message| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = crypto::sign(message, &key, library_name(algorithm)).unwrap();
        URL_SAFE_NO_PAD.decode(signature).unwrap()
    }
}

/// A token signed with `SECRET`, header and claims as given.
fn token(header: &str, claims: &str) -> String {
    signed(header, claims, hmac(Algorithm::Hs256, SECRET))
}

fn verify_with(config: &Token, token: &str) -> Result<Identity, TokenError> {
    TokenVerifier::new(config).unwrap().verify(token, now())
}

fn verify(header: &str, claims: &str) -> Result<Identity, TokenError> {
    verify_with(&config(), &token(header, claims))
}

/// Verifies claims given without `exp`, which is added.
fn verify_claims(claims: &str) -> Result<Identity, TokenError> {
    let separator = if claims.is_empty() { "" } else { "," };
    verify(HS256, &format!("{{\"exp\":{}{separator}{claims}}}", NOW + 3600))
}

fn reason(result: Result<Identity, TokenError>) -> &'static str {
    result.map_or_else(|error| error.reason(), |_| "ok")
}

#[test]
fn a_good_token_says_who_it_is() {
    let identity = verify_claims(r#""sub":"42","info":{"name": "Ann"},"jti":"x","role":1"#).unwrap();
    assert_eq!(identity.user.as_str(), "42");
    assert_eq!(identity.info.unwrap().as_bytes(), br#"{"name": "Ann"}"#);
    assert_eq!(identity.expires_at, Some(at(NOW + 3600)));
}

#[test]
fn a_token_without_a_user_is_anonymous() {
    for claims in ["", r#""sub":"""#] {
        assert!(verify_claims(claims).unwrap().user.is_anonymous());
    }
}

#[test]
fn a_token_that_is_no_token_is_refused() {
    let good = token(HS256, &format!("{{\"exp\":{}}}", NOW + 60));
    assert!(verify_with(&config(), &good).is_ok());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let altered = |from: usize| {
        let mut bytes = good.clone().into_bytes();
        bytes[from] = if bytes[from] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        message.into(),
        format!("{message}."),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{good}.x"),
        format!("{good}="),
        format!("{good} "),
        format!("{good}\n"),
        format!(" {good}"),
        good.replace('.', "~"),
        altered(10),
        altered(message.len() - 3),
        altered(message.len() + 2),
        altered(good.len() - 1),
        token("[]", "{}"),
        token("", "{}"),
        token(r#"{"alg":"HS256""#, "{}"),
        token(HS256, "[]"),
        token(HS256, "\u{0}"),
    ] {
        assert_eq!(reason(verify_with(&config(), &bad)), "bad_token", "{bad}");
    }
}

#[test]
fn the_algorithm_is_the_configurations_choice() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
    ] {
        assert_eq!(verify(header, &claims).unwrap_err(), TokenError::UnknownAlgorithm, "{header}");
        let unsigned = format!("{}.{}.", encode(header), encode(&claims));
        assert!(verify_with(&config(), &unsigned).is_err(), "{header}");
    }
    let hs512 = signed(r#"{"alg":"HS512"}"#, &claims, hmac(Algorithm::Hs512, SECRET));
    assert_eq!(reason(verify_with(&config(), &hs512)), "algorithm");
    assert_eq!(reason(verify(r#"{"alg":"RS256"}"#, &claims)), "algorithm");
    let allowed = Token { algorithms: vec![Algorithm::Hs256, Algorithm::Hs512], ..config() };
    assert_eq!(reason(verify_with(&allowed, &hs512)), "ok");
    let mislabelled = signed(HS256, &claims, hmac(Algorithm::Hs512, SECRET));
    assert_eq!(reason(verify_with(&allowed, &mislabelled)), "bad_token");
}

#[test]
fn a_header_that_changes_the_meaning_is_refused() {
    for (header, name) in [
        (r#"{"alg":"HS256","crit":["exp"]}"#, "crit"),
        (r#"{"alg":"HS256","crit":[]}"#, "crit"),
        (r#"{"alg":"HS256","b64":false}"#, "b64"),
        (r#"{"alg":"HS256","b64":true}"#, "b64"),
        (r#"{"alg":"HS256","typ":"at+jwt"}"#, "typ"),
        (r#"{"alg":"HS256","typ":""}"#, "typ"),
        (r#"{"alg":"HS256","typ":1}"#, "typ"),
        (r#"{"alg":"HS256","kid":""}"#, "kid"),
        (r#"{"alg":"HS256","kid":1}"#, "kid"),
        (r#"{"alg":"HS256","kid":"../../dev/null"}"#, "kid"),
        (r#"{"alg":"HS256","kid":"a\u0000"}"#, "kid"),
        (r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#, "kid"),
        (&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(129)), "kid"),
    ] {
        let result = verify(header, &format!("{{\"exp\":{}}}", NOW + 60));
        assert_eq!(result.unwrap_err(), TokenError::Header(name), "{header}");
    }
    for header in [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"jwt"}"#,
        r#"{"alg":"HS256","kid":"any_Key-1.0"}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","jwk":{},"x5c":[]}"#,
    ] {
        assert!(verify(header, &format!("{{\"exp\":{}}}", NOW + 60)).is_ok(), "{header}");
    }
    assert_eq!(verify(r#"{"alg":"HS256","alg":"HS256"}"#, "{}").unwrap_err(), TokenError::Malformed);
}

#[test]
fn expiry_is_told_apart_and_checked_last() {
    let with_exp = |exp: u64, more: &str| verify(HS256, &format!("{{\"exp\":{exp}{more}}}"));
    assert_eq!(reason(with_exp(NOW + 1, "")), "ok");
    assert_eq!(reason(with_exp(NOW - 4, "")), "ok", "within the leeway");
    assert_eq!(reason(with_exp(NOW - 5, "")), "expired");
    assert_eq!(reason(with_exp(NOW - 30, "")), "expired");
    assert_eq!(reason(with_exp(0, "")), "expired");
    assert_eq!(reason(with_exp(NOW - 30, r#","sub":42"#)), "claims");
    assert_eq!(reason(with_exp(NOW - 30, r#","channel":"news""#)), "claims");
    let forged = signed(HS256, "{\"exp\":1}", hmac(Algorithm::Hs256, "another"));
    assert_eq!(reason(verify_with(&config(), &forged)), "bad_token", "nothing is said of a forged token");
}

#[test]
fn exp_is_required_and_a_number() {
    for claims in [
        "{}",
        r#"{"exp":null}"#,
        r#"{"exp":"1790003600"}"#,
        r#"{"exp":-1}"#,
        r#"{"exp":1e300}"#,
        r#"{"exp":[1]}"#,
    ] {
        assert_eq!(verify(HS256, claims).unwrap_err(), TokenError::Claim("exp"), "{claims}");
    }
    let fraction = verify(HS256, &format!("{{\"exp\":{NOW}.5}}")).unwrap();
    assert_eq!(fraction.expires_at, Some(now() + Duration::from_millis(500)));
    let optional = Token { require_exp: false, ..config() };
    assert_eq!(verify_with(&optional, &token(HS256, "{}")).unwrap().expires_at, None);
    assert_eq!(reason(verify_with(&optional, &token(HS256, r#"{"exp":"x"}"#))), "claims");
}

#[test]
fn a_token_may_not_live_too_long() {
    let day = 24 * 60 * 60;
    let with_exp = |exp: u64| token(HS256, &format!("{{\"exp\":{exp}}}"));
    assert_eq!(reason(verify_with(&config(), &with_exp(NOW + day))), "ok");
    for exp in [NOW + day + 6, NOW + 10 * 365 * day, u64::MAX] {
        assert_eq!(reason(verify_with(&config(), &with_exp(exp))), "lifetime", "{exp}");
    }
    for lifetime_max in [Duration::ZERO, Duration::MAX] {
        let unlimited = Token { lifetime_max, ..config() };
        assert_eq!(reason(verify_with(&unlimited, &with_exp(u64::MAX))), "ok");
    }
}

#[test]
fn a_token_is_not_good_before_its_time() {
    for name in ["nbf", "iat"] {
        assert_eq!(reason(verify_claims(&format!("\"{name}\":{}", NOW + 5))), "ok", "within the leeway");
        assert_eq!(reason(verify_claims(&format!("\"{name}\":{}", NOW + 6))), "not_yet_valid");
        assert_eq!(reason(verify_claims(&format!("\"{name}\":\"{}\"", NOW - 1))), "claims");
        assert_eq!(reason(verify_claims(&format!("\"{name}\":{}", u64::MAX))), "not_yet_valid");
    }
}

#[test]
fn audience_and_issuer_are_enforced_when_set() {
    let strict = Token { audience: Some("clarion".into()), issuer: Some("shop".into()), ..config() };
    for (claims, expected) in [
        (r#""aud":"clarion","iss":"shop""#, "ok"),
        (r#""aud":["x","clarion"],"iss":"shop""#, "ok"),
        (r#""aud":["x"],"iss":"shop""#, "claims"),
        (r#""aud":[],"iss":"shop""#, "claims"),
        (r#""aud":"Clarion","iss":"shop""#, "claims"),
        (r#""aud":{"clarion":1},"iss":"shop""#, "claims"),
        (r#""iss":"shop""#, "claims"),
        (r#""aud":"clarion""#, "claims"),
        (r#""aud":"clarion","iss":"shop2""#, "claims"),
        (r#""aud":"clarion","iss":["shop"]"#, "claims"),
    ] {
        let token = token(HS256, &format!("{{\"exp\":{},{claims}}}", NOW + 60));
        assert_eq!(reason(verify_with(&strict, &token)), expected, "{claims}");
    }
}

#[test]
fn a_claim_of_the_wrong_kind_is_refused() {
    let long = format!("\"sub\":\"{}\"", "x".repeat(256));
    for (claims, name) in [
        (r#""sub":42"#, "sub"),
        (r#""sub":null"#, "sub"),
        (r#""sub":"a\u0000b""#, "sub"),
        (r#""sub":"a\u202eb""#, "sub"),
        (r#""sub":"\ud800""#, "sub"),
        (long.as_str(), "sub"),
        (r#""jti":7"#, "jti"),
        (r#""channel":"news""#, "channel"),
        (r#""channel":null"#, "channel"),
        (r#""b64info":"*""#, "b64info"),
        (r#""b64info":"e30""#, "b64info"),
        (r#""b64info":"AAAA""#, "b64info"),
        (r#""expire_at":"never""#, "expire_at"),
    ] {
        assert_eq!(verify_claims(claims).unwrap_err(), TokenError::Claim(name), "{claims}");
    }
    for twice in [r#""sub":"a","sub":"b""#, r#""x":1,"x":1"#, r#""sub":"a","s\u0075b":"b""#] {
        assert_eq!(verify_claims(twice).unwrap_err(), TokenError::Malformed, "{twice}");
    }
    assert_eq!(verify_claims(r#""b64info":"eyJhIjoxfQ==""#).unwrap().info.unwrap().as_bytes(), br#"{"a":1}"#);
    assert!(verify_claims(r#""info":null"#).unwrap().info.is_none());
}

#[test]
fn expire_at_goes_before_exp() {
    let expires_at = |claims: &str| verify_claims(claims).map(|identity| identity.expires_at);
    assert_eq!(expires_at(r#""expire_at":0"#), Ok(None));
    assert_eq!(expires_at(&format!("\"expire_at\":{}", NOW + 10)), Ok(Some(at(NOW + 10))));
    assert_eq!(expires_at(&format!("\"expire_at\":{}", NOW - 10)), Err(TokenError::Expired));
    assert_eq!(reason(verify(HS256, &format!("{{\"exp\":{},\"expire_at\":0}}", NOW - 60))), "expired");
}

#[test]
fn in_insecure_mode_a_token_must_be_good_but_does_not_limit_the_connection() {
    let client = Client { insecure: true, token: config(), ..Client::default() };
    let verifier = TokenVerifier::for_connections(&client).unwrap();
    let with_exp = |exp: u64| verifier.verify(&token(HS256, &format!("{{\"exp\":{exp}}}")), now());
    assert_eq!(with_exp(NOW + 60).unwrap().expires_at, None);
    assert_eq!(with_exp(NOW - 60).unwrap_err(), TokenError::Expired);
}

#[test]
fn a_large_token_is_refused_before_it_is_read() {
    let claims = |length: usize| format!("{{\"exp\":{},\"x\":\"{}\"}}", NOW + 60, "x".repeat(length));
    assert_eq!(reason(verify(HS256, &claims(2900))), "ok");
    assert_eq!(reason(verify(HS256, &claims(3100))), "too_large");
    assert_eq!(reason(verify_with(&config(), &"a".repeat(1_000_000))), "too_large");
    let deep = format!("{{\"exp\":{},\"x\":{}{}}}", NOW + 60, "[".repeat(1200), "]".repeat(1200));
    assert_eq!(reason(verify(HS256, &deep)), "ok");
}

#[test]
fn tokens_of_an_earlier_secret_stay_good_while_it_is_kept() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    let old = signed(HS256, &claims, hmac(Algorithm::Hs256, "an earlier secret of 32 bytes or more"));
    assert_eq!(reason(verify_with(&config(), &old)), "bad_token");
    let rotated = Token {
        hmac_previous_secret_keys: vec![Secret::new("an earlier secret of 32 bytes or more")],
        ..config()
    };
    assert_eq!(reason(verify_with(&rotated, &old)), "ok");
    assert_eq!(reason(verify_with(&rotated, &token(HS256, &claims))), "ok");
}

#[test]
fn without_a_key_every_token_is_refused() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    let empty = signed(HS256, &claims, hmac(Algorithm::Hs256, ""));
    assert_eq!(reason(verify_with(&Token::default(), &empty)), "bad_token");
    let previous = Token { hmac_previous_secret_keys: vec![Secret::default()], ..config() };
    assert_eq!(reason(verify_with(&previous, &empty)), "bad_token");
}

fn public(kid: Option<&str>, der: &[u8]) -> PublicKey {
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
    PublicKey { kid: kid.map(str::to_owned), pem, ..PublicKey::default() }
}

fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}

fn with_keys(keys: Vec<PublicKey>, algorithms: &[Algorithm]) -> Token {
    Token { public_keys: keys, algorithms: algorithms.into(), ..Token::default() }
}

#[test]
fn elliptic_keys_verify_their_own_algorithm() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    let rng = SystemRandom::new();
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let ed25519 = Ed25519KeyPair::generate().unwrap();
    let keys = vec![
        public(None, &spki(p256.public_key())),
        public(None, &spki(p384.public_key())),
        public(None, &spki(ed25519.public_key())),
    ];
    let config = with_keys(keys, &[Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa]);
    let with_p256 = |message: &[u8]| p256.sign(&rng, message).unwrap().as_ref().to_vec();
    let with_p384 = |message: &[u8]| p384.sign(&rng, message).unwrap().as_ref().to_vec();
    let with_ed25519 = |message: &[u8]| ed25519.sign(message).as_ref().to_vec();
    let es256 = signed(r#"{"alg":"ES256"}"#, &claims, with_p256);
    assert_eq!(reason(verify_with(&config, &es256)), "ok");
    assert_eq!(reason(verify_with(&config, &signed(r#"{"alg":"ES384"}"#, &claims, with_p384))), "ok");
    assert_eq!(reason(verify_with(&config, &signed(r#"{"alg":"EdDSA"}"#, &claims, with_ed25519))), "ok");
    assert_eq!(reason(verify_with(&config, &signed(r#"{"alg":"ES384"}"#, &claims, with_p256))), "bad_token");
    assert_eq!(reason(verify_with(&config, &signed(r#"{"alg":"EdDSA"}"#, &claims, with_p256))), "bad_token");
    assert_eq!(
        reason(verify_with(&config, &es256.replace(&es256[es256.len() - 8..], "AAAAAAAA"))),
        "bad_token"
    );
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = public(None, &spki(rsa.public_key()));
    let config = with_keys(vec![key.clone()], &[Algorithm::Rs256, Algorithm::Ps384, Algorithm::Hs256]);
    let rng = SystemRandom::new();
    let sign = |encoding: &'static dyn aws_lc_rs::signature::RsaEncoding, message: &[u8]| {
        let mut signature = vec![0; rsa.public_modulus_len()];
        rsa.sign(encoding, &rng, message, &mut signature).unwrap();
        signature
    };
    let rs256 = signed(r#"{"alg":"RS256"}"#, &claims, |message| sign(&RSA_PKCS1_SHA256, message));
    let ps384 = signed(r#"{"alg":"PS384"}"#, &claims, |message| sign(&RSA_PSS_SHA384, message));
    assert_eq!(reason(verify_with(&config, &rs256)), "ok");
    assert_eq!(reason(verify_with(&config, &ps384)), "ok");
    for confused in [&key.pem, key.pem.trim()] {
        let token = signed(HS256, &claims, hmac(Algorithm::Hs256, confused));
        assert_eq!(reason(verify_with(&config, &token)), "bad_token");
    }
}

/// The library refuses a key of another family as well; the rule must hold without its help.
#[test]
fn a_key_is_tried_within_its_family_only() {
    let of = |kind: Kind| Key { kind, kid: None, key: DecodingKey::from_secret(b"x") };
    for (kind, served) in [
        (Kind::Hmac, "HS256 HS384 HS512"),
        (Kind::Public(KeyKind::Rsa), "RS256 RS384 RS512 PS256 PS384 PS512"),
        (Kind::Public(KeyKind::P256), "ES256"),
        (Kind::Public(KeyKind::P384), "ES384"),
        (Kind::Public(KeyKind::Ed25519), "EdDSA"),
    ] {
        let tried: Vec<_> =
            Algorithm::ALL.into_iter().filter(|name| of(kind).may_verify(*name, None)).collect();
        let tried: Vec<_> = tried.into_iter().map(Algorithm::name).collect();
        assert_eq!(tried.join(" "), served);
    }
}

#[test]
fn a_kid_selects_among_the_keys_that_have_one() {
    let claims = format!("{{\"exp\":{}}}", NOW + 60);
    let rng = SystemRandom::new();
    let [one, two] = [(); 2].map(|()| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let with_one = |kid: &str| {
        let header = format!("{{\"alg\":\"ES256\"{kid}}}");
        signed(&header, &claims, |message| one.sign(&rng, message).unwrap().as_ref().to_vec())
    };
    let (one_key, two_key) = (spki(one.public_key()), spki(two.public_key()));
    let named =
        with_keys(vec![public(Some("two"), &two_key), public(Some("one"), &one_key)], &[Algorithm::Es256]);
    assert_eq!(reason(verify_with(&named, &with_one(r#","kid":"one""#))), "ok");
    assert_eq!(reason(verify_with(&named, &with_one(""))), "ok");
    assert_eq!(reason(verify_with(&named, &with_one(r#","kid":"two""#))), "bad_token");
    assert_eq!(reason(verify_with(&named, &with_one(r#","kid":"three""#))), "bad_token");
    let unnamed = with_keys(vec![public(None, &two_key), public(None, &one_key)], &[Algorithm::Es256]);
    assert_eq!(reason(verify_with(&unnamed, &with_one(r#","kid":"three""#))), "ok");
}

#[test]
fn what_is_signed_here_verifies_here() {
    let claims = json!({"sub": "42", "exp": NOW + 60});
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let config = Token { algorithms: vec![Algorithm::Es256, algorithm], ..config() };
        let token = sign(&config, &claims).unwrap();
        assert_eq!(verify_with(&config, token.expose()).unwrap().user.as_str(), "42");
    }
    let public_only = Token { algorithms: vec![Algorithm::Es256], ..config() };
    assert!(sign(&public_only, &claims).is_err());
    assert!(sign(&Token::default(), &claims).is_err());
}

#[test]
fn an_error_says_nothing_of_the_token() {
    let canary = "LEAKCANARY";
    for (header, claims) in [
        (format!(r#"{{"alg":"{canary}"}}"#), "{}".to_owned()),
        (format!(r#"{{"alg":"HS256","typ":"{canary}"}}"#), "{}".to_owned()),
        (format!(r#"{{"alg":"HS256","kid":"{canary}!"}}"#), "{}".to_owned()),
        (HS256.to_owned(), format!(r#"{{"exp":"{canary}"}}"#)),
        (HS256.to_owned(), format!(r#"{{"exp":1,"channel":"{canary}"}}"#)),
    ] {
        let error = verify(&header, &claims).unwrap_err();
        assert!(!format!("{error} {error:?} {}", error.reason()).contains(canary));
    }
}
