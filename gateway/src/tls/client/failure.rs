use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// Why nothing came of a handshake of ours, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeFailure {
    /// Nobody who is trusted has signed the certificate.
    #[error("its certificate is signed by nobody whom this trusts")]
    UnknownAuthority,
    /// The certificate is for other names.
    #[error("its certificate is not for {called}, but for {names}")]
    OtherName {
        /// The host that was called.
        called: String,
        /// Those of the certificate.
        names: String,
    },
    /// The time of the certificate is over.
    #[error("its certificate has expired")]
    Expired,
    /// The time of the certificate has not begun.
    #[error("its certificate is not good yet")]
    NotYetValid,
    /// What answers speaks something else, maybe HTTP.
    #[error("it does not speak TLS")]
    NotTls,
    /// It wants a certificate, and was shown none, or not the right one.
    #[error("it wants a certificate that it trusts from who connects")]
    WantsCertificate,
    /// What the library or the other side said.
    #[error("TLS: {0}")]
    Other(String),
}

impl HandshakeFailure {
    /// What `error` says of a handshake; `None` if it is about the network.
    pub fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        Some(match error {
            Error::InvalidCertificate(doubt) => Self::in_certificate(doubt),
            Error::InvalidMessage(_) => Self::NotTls,
            Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::UnknownCA) => {
                Self::WantsCertificate
            }
            Error::General(words) => Self::Other(words.clone()),
            error => Self::Other(error.to_string()),
        })
    }

    fn in_certificate(doubt: &CertificateError) -> Self {
        match doubt {
            // A bad signature is that of another authority of the same name: one that was made anew.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                let names = if names.is_empty() { "no name".into() } else { names.join(", ") };
                Self::OtherName { called: expected.to_str().into_owned(), names }
            }
            doubt => Self::Other(doubt.to_string()),
        }
    }
}

/// A name as the library writes it, `DnsName("example.com")`, without what it adds.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_without_what_the_library_adds() {
        for (name, expected) in [
            (r#"DnsName("example.com")"#, "example.com"),
            ("IpAddress(192.0.2.1)", "192.0.2.1"),
            ("example.com", "example.com"),
        ] {
            assert_eq!(bare(name), expected);
        }
    }
}
