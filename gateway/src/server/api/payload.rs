//! What is published, and the text around it: JSON of a bounded depth.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::value::RawValue;

use super::reply::Failure;
use crate::model::{RawJson, is_too_deep};

/// The body as text; `None` if it is not UTF-8 or nested too deep to be taken as JSON.
pub(super) fn text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok().filter(|text| !is_too_deep(text.as_bytes()))
}

/// The payload of a request, which takes `b64data` before `data`; `None` if it has neither.
///
/// Bytes that are not JSON cannot be delivered yet: every client speaks JSON. They come with the Protobuf codec.
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

/// Like [`optional`], for requests that must have a payload.
///
/// # Errors
/// [`Failure::BadRequest`] also if there is none.
pub(super) fn required(data: Option<&RawValue>, b64data: &str) -> Result<RawJson, Failure> {
    optional(data, b64data)?.ok_or(Failure::BadRequest)
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
        assert_eq!(required(None, ""), Err(Failure::BadRequest));
    }
}
