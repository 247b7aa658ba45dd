use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Algorithm;
use super::entry::{self, Entry};

/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const RSA_BITS_MIN: usize = 2048;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A public key that verifies tokens: its PEM alone, or a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct PublicKey {
    /// The key's id: at most 128 of `A-Z a-z 0-9 . _ -`. A token that names another key is not tried
    /// with it. `None` = tried for every token of its algorithms.
    pub kid: Option<String>,
    /// The key in PEM (RFC 7468): `PUBLIC KEY`, or `RSA PUBLIC KEY`.
    pub pem: String,
    /// File that holds it, instead of `pem`.
    pub pem_file: Option<PathBuf>,
}

/// What kind of key a PEM text holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, 2048 bits or more.
    Rsa,
    /// The curve P-256.
    P256,
    /// The curve P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A public key, taken out of its PEM.
#[derive(Clone, Debug)]
pub struct KeyMaterial {
    /// Its kind, which decides the algorithms it may be used with.
    pub kind: KeyKind,
    /// RSA: the DER of `RSAPublicKey`. EC: the uncompressed point. Ed25519: the 32 bytes.
    pub bytes: Vec<u8>,
}

/// A PEM text that is no usable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Nothing that looks like PEM, or broken inside.
    #[error("is not one public key in PEM")]
    NotPem,
    /// A private key, which has no business here.
    #[error("is a private key: give the public one")]
    Private,
    /// A certificate or another kind of PEM.
    #[error("is PEM of another kind: give a `PUBLIC KEY`")]
    OtherPem,
    /// A key that no supported algorithm uses.
    #[error("is neither RSA, P-256, P-384 nor Ed25519")]
    Unsupported,
    /// An RSA key that can be broken.
    #[error("is an RSA key below {RSA_BITS_MIN} bits")]
    TooShort,
}

impl KeyKind {
    /// Whether the key may verify tokens of `algorithm`.
    pub fn serves(self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Self::P256 => algorithm == Es256,
            Self::P384 => algorithm == Es384,
            Self::Ed25519 => algorithm == EdDsa,
        }
    }
}

impl PublicKey {
    /// Takes the key out of `pem`.
    ///
    /// # Errors
    /// [`PublicKeyError`] when it is no public key that a token may be verified with.
    pub fn material(&self) -> Result<KeyMaterial, PublicKeyError> {
        let (label, der) = read_pem(&self.pem)?;
        match label {
            "PUBLIC KEY" => from_public_key_info(&der),
            "RSA PUBLIC KEY" => rsa(der),
            _ if label.contains("PRIVATE KEY") => Err(PublicKeyError::Private),
            _ => Err(PublicKeyError::OtherPem),
        }
    }
}

/// The label and the bytes of the one PEM block in `text`.
fn read_pem(text: &str) -> Result<(&str, Vec<u8>), PublicKeyError> {
    let block = || {
        let (label, rest) = text.trim().strip_prefix("-----BEGIN ")?.split_once("-----")?;
        let body = rest.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
        let body: String = body.split_ascii_whitespace().collect();
        Some((label, STANDARD.decode(body).ok()?))
    };
    block().ok_or(PublicKeyError::NotPem)
}

/// Reads `SubjectPublicKeyInfo` (RFC 5280 §4.1).
fn from_public_key_info(der: &[u8]) -> Result<KeyMaterial, PublicKeyError> {
    let parts = || {
        let (_, info, _) = read_der(der).filter(|(tag, ..)| *tag == 0x30)?;
        let (_, algorithm, rest) = read_der(info)?;
        let (_, oid, parameters) = read_der(algorithm)?;
        let curve = read_der(parameters).map(|(_, curve, _)| curve);
        let (_, key, _) = read_der(rest).filter(|(tag, ..)| *tag == 0x03)?;
        // The first byte of a bit string counts the unused bits; keys are whole bytes.
        Some((oid, curve, key.strip_prefix(&[0])?.to_vec()))
    };
    let (oid, curve, bytes) = parts().ok_or(PublicKeyError::NotPem)?;
    let (kind, length) = match (oid, curve) {
        (RSA, _) => return rsa(bytes),
        (EC, Some(P256)) => (KeyKind::P256, 65),
        (EC, Some(P384)) => (KeyKind::P384, 97),
        (ED25519, None) => (KeyKind::Ed25519, 32),
        _ => return Err(PublicKeyError::Unsupported),
    };
    if bytes.len() == length { Ok(KeyMaterial { kind, bytes }) } else { Err(PublicKeyError::Unsupported) }
}

/// Checks the length of an `RSAPublicKey` (RFC 8017 §A.1.1).
fn rsa(der: Vec<u8>) -> Result<KeyMaterial, PublicKeyError> {
    let modulus = read_der(&der).and_then(|(_, key, _)| read_der(key)).filter(|(tag, ..)| *tag == 0x02);
    let (_, modulus, _) = modulus.ok_or(PublicKeyError::NotPem)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let (_, modulus) = modulus.split_at(zeros);
    let first = modulus.first().ok_or(PublicKeyError::NotPem)?;
    let bits = modulus.len() * 8 - first.leading_zeros() as usize;
    if bits < RSA_BITS_MIN {
        return Err(PublicKeyError::TooShort);
    }
    Ok(KeyMaterial { kind: KeyKind::Rsa, bytes: der })
}

/// Splits the first DER element off: its tag, its content, and what follows (X.690 §8.1).
fn read_der(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (long, rest) =
            rest.split_at_checked(usize::from(length & 0x7f)).filter(|(long, _)| long.len() <= 4)?;
        (long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

impl Entry for PublicKey {
    const EXPECTED: &'static str = "a PEM text or a table with `pem` or `pem_file`";

    fn from_text(text: String) -> Self {
        Self { pem: text, ..Self::default() }
    }

    fn from_table<'de, D: Deserializer<'de>>(table: D) -> Result<Self, D::Error> {
        Self::deserialize(table)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entry::deserialize(deserializer)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_2048: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAzO9PqRmaXvEQUgrSWaql\n\
        nnhVzD6bTVnokbpT2yoKAaarW8pesxuFm0bWWbZda955ViJsFNyt00i40jav+NVL\n\
        J0iICKK7uKV1n45off754v+GoTIFyek5UaH5+WCUCJnPzishIC5LPagszD5D1Gpg\n\
        RxuZM4vwVprZPYrrzg7hdqQAJOL0Q2rIFRAo7ybsIqf2KgQiQhGjZM0ig1PYGETZ\n\
        4G/7ldIEN/upILgxLyT6YbWRL4t5cvGXMjRDMJ72fbxA9XhRoPQxP2IemfSsrr4y\n\
        teceuk/A/uCUd32FfMPWHuiXqtAzSbj/zLpaEoLYn0kWD0181Usg6ra8p5raz4oQ\n\
        4wIDAQAB\n\
        -----END PUBLIC KEY-----";
    const RSA_2048_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----\n\
        MIIBCgKCAQEAzO9PqRmaXvEQUgrSWaqlnnhVzD6bTVnokbpT2yoKAaarW8pesxuF\n\
        m0bWWbZda955ViJsFNyt00i40jav+NVLJ0iICKK7uKV1n45off754v+GoTIFyek5\n\
        UaH5+WCUCJnPzishIC5LPagszD5D1GpgRxuZM4vwVprZPYrrzg7hdqQAJOL0Q2rI\n\
        FRAo7ybsIqf2KgQiQhGjZM0ig1PYGETZ4G/7ldIEN/upILgxLyT6YbWRL4t5cvGX\n\
        MjRDMJ72fbxA9XhRoPQxP2IemfSsrr4yteceuk/A/uCUd32FfMPWHuiXqtAzSbj/\n\
        zLpaEoLYn0kWD0181Usg6ra8p5raz4oQ4wIDAQAB\n\
        -----END RSA PUBLIC KEY-----";
    const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDl7LxUt1uZUTjwZdQbbmd32T2/\n\
        4F+Bm/Ee0Rfez8EikboWI8ubSG2endzwkM84dsO1jJUqL+6RzYJNMZOyHSZNJxC/\n\
        FlTgGh4N40MzeInNzx8WuLQv/JIHhPetXM9yPKYpg8QUo/9CMXE4uSeEr/mwAog9\n\
        mNKUXTGwdEvalv9PhQIDAQAB\n\
        -----END PUBLIC KEY-----";
    const RSA_1024_PKCS1: &str = "-----BEGIN RSA PUBLIC KEY-----\n\
        MIGJAoGBAOXsvFS3W5lROPBl1BtuZ3fZPb/gX4Gb8R7RF97PwSKRuhYjy5tIbZ6d\n\
        3PCQzzh2w7WMlSov7pHNgk0xk7IdJk0nEL8WVOAaHg3jQzN4ic3PHxa4tC/8kgeE\n\
        961cz3I8pimDxBSj/0IxcTi5J4Sv+bACiD2Y0pRdMbB0S9qW/0+FAgMBAAE=\n\
        -----END RSA PUBLIC KEY-----";
    const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJCAj5cyJR67owuoRZz6mqOM2nq3T\n\
        Eiy6rURwLV7/hmQYUguw+bhyfZG53ca1KbFwLsx7r5NQCqPqXrjbDAaZ2g==\n\
        -----END PUBLIC KEY-----";
    const P384_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEocUNltiQEhkW4DHX19d7+labK5MPC8eU\n\
        92uu83rkB/rINDHm03fcjYJXh70vSSk7wfkp7Bdl5VWnJ21B90Vi8fdvrQ1oCLh8\n\
        XKmcYaZqTTpb2o4XJkt+XHoffrSaRQ/P\n\
        -----END PUBLIC KEY-----";
    const P521_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQAoDXqSWRMebm9hOkqDBk7sYEYPWgu\n\
        I2Hi0M7n/J5qKBaa2eEbwH8gu5n/QnhEJQmz8DD3TVvA1k0JoW3ofgP8OnQARb+F\n\
        W8+Av3tX6P1of974gr4HehIEsEZcdx7iZfYkIgF03N/8WEtnxfhzhSoCpuc8afBd\n\
        nJvU12bmnf0kaOBS+Ck=\n\
        -----END PUBLIC KEY-----";
    const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAnJlza19Cjb6i2Fz5DIO7M9xqlyyA59dJqSar5tf54M0=\n\
        -----END PUBLIC KEY-----";
    const X25519_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VuAyEALcKXqFBVMYZKX2Hn9DuHVIm0nqI/uSWBGWvMrOTUi0c=\n\
        -----END PUBLIC KEY-----";

    fn kind(pem: &str) -> Result<KeyKind, PublicKeyError> {
        PublicKey { pem: pem.into(), ..PublicKey::default() }.material().map(|material| material.kind)
    }

    #[test]
    fn the_kind_of_a_key_is_read_from_its_pem() {
        assert_eq!(kind(RSA_2048), Ok(KeyKind::Rsa));
        assert_eq!(kind(RSA_2048_PKCS1), Ok(KeyKind::Rsa));
        assert_eq!(kind(P256_PEM), Ok(KeyKind::P256));
        assert_eq!(kind(&P384_PEM.replace('\n', "\r\n")), Ok(KeyKind::P384));
        assert_eq!(kind(&format!("\n{ED25519_PEM}\n\n")), Ok(KeyKind::Ed25519));
    }

    #[test]
    fn a_key_that_is_weak_or_of_no_use_is_refused() {
        assert_eq!(kind(RSA_1024), Err(PublicKeyError::TooShort));
        assert_eq!(kind(RSA_1024_PKCS1), Err(PublicKeyError::TooShort));
        assert_eq!(kind(P521_PEM), Err(PublicKeyError::Unsupported));
        assert_eq!(kind(X25519_PEM), Err(PublicKeyError::Unsupported));
        assert_eq!(kind(&P256_PEM.replace("PUBLIC KEY", "CERTIFICATE")), Err(PublicKeyError::OtherPem));
        assert_eq!(kind(&P256_PEM.replace("PUBLIC", "EC PRIVATE")), Err(PublicKeyError::Private));
        for bad in ["", "secret", "-----BEGIN PUBLIC KEY-----", &P256_PEM[..90], &P256_PEM.replace('M', "*")]
        {
            assert_eq!(kind(bad), Err(PublicKeyError::NotPem), "{bad}");
        }
        assert_eq!(kind(&format!("{P256_PEM}\n{P256_PEM}")), Err(PublicKeyError::NotPem));
    }

    #[test]
    fn broken_der_is_refused_without_panic() {
        let (_, der) = read_pem(RSA_2048).unwrap();
        for length in 0..der.len() {
            assert!(from_public_key_info(&der[..length]).is_err());
        }
        for bad in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x80], &[0x30, 0x89, 1], &[0x02, 0x01]]
        {
            assert!(from_public_key_info(bad).is_err() && rsa(bad.to_vec()).is_err());
        }
        assert_eq!(rsa(vec![0x30, 0x03, 0x02, 0x01, 0x00]).unwrap_err(), PublicKeyError::NotPem);
    }
}
