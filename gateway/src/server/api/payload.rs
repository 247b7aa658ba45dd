//! What is published, and the text around it: JSON of a bounded depth.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use super::reply::Failure;
use crate::model::{ClientInfo, Payload, RawJson, is_too_deep};

/// The body as text; `None` if it is not UTF-8 or nested too deep to be taken as JSON.
pub(super) fn text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok().filter(|text| !is_too_deep(text.as_bytes()))
}

/// JSON of a request, which takes `b64data` before `data`; `None` if it has neither.
///
/// # Errors
/// [`Failure::BadRequest`] for what is not standard base64 with padding, or not JSON inside.
pub(super) fn optional(data: Option<&RawValue>, b64data: &str) -> Result<Option<RawJson>, Failure> {
    if b64data.is_empty() {
        return Ok(data.map(RawJson::from_raw));
    }
    let bytes = BASE64_STANDARD.decode(b64data).map_err(|_| Failure::BadRequest)?;
    RawJson::parse(&bytes).map(Some).map_err(|_| Failure::BadRequest)
}

/// How others are to see a connection: like [`optional`], and small, as everybody gets it.
///
/// # Errors
/// [`Failure::BadRequest`] also above 1 KiB.
pub(super) fn info(info: Option<&RawValue>, b64info: &str) -> Result<Option<RawJson>, Failure> {
    let info = optional(info, b64info)?;
    let is_small = info.as_ref().is_none_or(|info| info.as_bytes().len() <= ClientInfo::INFO_BYTES_MAX);
    if is_small { Ok(info) } else { Err(Failure::BadRequest) }
}

/// What a request publishes: the bytes of `b64data`, else `data`, else nothing at all.
///
/// # Errors
/// [`Failure::BadRequest`] for what is not standard base64 with padding.
pub(super) fn published(data: Option<&RawValue>, b64data: &str) -> Result<Payload, Failure> {
    if b64data.is_empty() {
        return Ok(data.map_or_else(Payload::empty, |data| RawJson::from_raw(data).into()));
    }
    let bytes = BASE64_STANDARD.decode(b64data).map_err(|_| Failure::BadRequest)?;
    Ok(Payload::of_bytes(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_takes_precedence_and_must_be_json() {
        let raw: &RawValue = serde_json::from_str("null").unwrap();
        assert_eq!(optional(Some(raw), "").unwrap().unwrap().as_bytes(), b"null");
        assert_eq!(optional(Some(raw), "eyJhIjogMS4wfQ==").unwrap().unwrap().as_bytes(), b"{\"a\": 1.0}");
        assert_eq!(optional(None, "").unwrap(), None);
        let deep = BASE64_STANDARD.encode("[".repeat(200) + &"]".repeat(200));
        for bad in ["eyJhIjogMS4wfQ", "AAEC", "*", &deep] {
            assert_eq!(optional(Some(raw), bad), Err(Failure::BadRequest), "{bad:.20}");
        }
    }

    #[test]
    fn any_bytes_can_be_published() {
        let raw: &RawValue = serde_json::from_str("null").unwrap();
        assert_eq!(published(Some(raw), "").unwrap().as_bytes(), b"null");
        assert_eq!(published(Some(raw), "AAEC").unwrap(), Payload::of_bytes(vec![0, 1, 2].into()));
        assert!(published(None, "").unwrap().is_empty());
        assert_eq!(published(Some(raw), "AAE"), Err(Failure::BadRequest));
    }
}
