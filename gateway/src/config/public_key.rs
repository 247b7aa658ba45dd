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
