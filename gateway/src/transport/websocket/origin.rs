//! Which pages may connect. A browser sends cookies along from any page, but it does not lie about the page.

use axum::http::{HeaderMap, header};

/// The `Origin` of a handshake is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("origin is not allowed")]
pub struct OriginError;

/// The allowed origins: exact ones, or `*.example.com` for one label or more before a domain.
#[derive(Clone, Debug)]
pub struct Origins {
    rules: Vec<Rule>,
    allow_none: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Any,
    /// Development: a page of this machine, or a file.
    Loopback,
    Exact(String),
    /// Any host below the domain, by any scheme.
    Below(String),
}

impl Origins {
    /// Reads `client.allowed_origins`, which has been validated. `allow_none` is for clients that are no
    /// browsers and send no origin.
    pub fn new(allowed: &[String], allow_none: bool) -> Self {
        let rules = allowed.iter().map(|text| Rule::parse(text)).collect();
        Self { rules, allow_none }
    }

    /// Allows the pages of this machine as well, as development wants it.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.rules.push(Rule::Loopback);
        self
    }

    /// # Errors
    /// [`OriginError`] unless the one `Origin` is allowed, or there is none and none is needed.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), OriginError> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let allowed = match (origins.next(), origins.next()) {
            (None, _) => self.allow_none,
            (Some(origin), None) => {
                let origin = origin.to_str().map_err(|_| OriginError)?;
                self.rules.iter().any(|rule| rule.allows(origin))
            }
            (Some(_), Some(_)) => false,
        };
        if allowed { Ok(()) } else { Err(OriginError) }
    }
}

impl Rule {
    fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        match text.strip_prefix("*.") {
            Some(domain) => Self::Below(domain.to_owned()),
            None => Self::Exact(text.to_owned()),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(allowed) => allowed == origin,
            Self::Loopback => origin == "null" || is_loopback(origin),
            Self::Below(domain) => {
                let Some((_, host)) = origin.split_once("://") else { return false };
                let labels = host.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
                let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_host_byte);
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
        }
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_loopback(origin: &str) -> bool {
    let Some((_, host)) = origin.split_once("://") else { return false };
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(allowed: &[&str], origin: &str) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        Origins::new(&allowed, false).check(&headers).is_ok()
    }

    #[test]
    fn an_exact_origin_is_exact() {
        let allowed = &["https://app.example.com"];
        assert!(allows(allowed, "https://app.example.com"));
        for origin in [
            "https://evil.example",
            "https://app.example.com.evil",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://APP.example.com",
            "https://xapp.example.com",
            "https://app.example.com/",
            "null",
            "",
        ] {
            assert!(!allows(allowed, origin), "{origin}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_whole_labels() {
        let allowed = &["*.example.com"];
        assert!(allows(allowed, "https://a.example.com"));
        assert!(allows(allowed, "https://a.b.example.com"));
        for origin in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://evil/.example.com",
            "https://evil@.example.com",
            "https://a.example.com:444",
        ] {
            assert!(!allows(allowed, origin), "{origin}");
        }
        assert!(allows(allowed, "http://a.example.com"));
    }

    #[test]
    fn an_empty_list_allows_no_page_and_two_origins_are_none() {
        assert!(!allows(&[], "https://a.example"));
        assert!(allows(&["*"], "https://a.example"));
        let mut headers = HeaderMap::new();
        assert!(Origins::new(&[], true).check(&headers).is_ok());
        assert!(Origins::new(&[], false).check(&headers).is_err());
        headers.append(header::ORIGIN, "https://a.example".parse().unwrap());
        headers.append(header::ORIGIN, "https://a.example".parse().unwrap());
        assert!(Origins::new(&["https://a.example".into()], true).check(&headers).is_err());
    }

    #[test]
    fn development_allows_the_pages_of_this_machine() {
        let origins = Origins::new(&[], true).with_loopback();
        let check = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            origins.check(&headers).is_ok()
        };
        for origin in ["http://localhost", "http://127.0.0.1:8000", "http://[::1]:3000", "null"] {
            assert!(check(origin), "{origin}");
        }
        for origin in
            ["http://localhost.evil", "http://127.0.0.1.evil:80", "http://evil:localhost", "http://10.0.0.1"]
        {
            assert!(!check(origin), "{origin}");
        }
    }
}
