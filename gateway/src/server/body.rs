//! Reading a request's body within limits.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body as _;

/// The whole body.
///
/// # Errors
/// 413 above `bytes_max`, at once if the head says so; 415 if it is compressed, which could unpack to anything; 408 when
/// it takes longer than `timeout`; 400 when the client broke off.
pub(super) async fn read(
    head: &Parts,
    body: Body,
    bytes_max: usize,
    timeout: Duration,
) -> Result<Bytes, StatusCode> {
    if is_encoded(head) {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    if usize::try_from(body.size_hint().lower()).map_or(true, |bytes| bytes > bytes_max) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    match tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// Whether the body is not as it is to be read (RFC 9110 §8.4).
fn is_encoded(head: &Parts) -> bool {
    let encodings = head.headers.get_all(header::CONTENT_ENCODING);
    encodings.iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
