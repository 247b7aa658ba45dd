use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::RawJson;

/// What is published: JSON, or any bytes.
///
/// Kept as it came and never interpreted. Whether it is JSON is found out once, so that every client that can only
/// take JSON is served, or told, without another look (Centrifuge protocol, typing of application payloads).
#[derive(Clone, PartialEq, Eq)]
pub struct Payload {
    bytes: Bytes,
    json: Json,
    is_binary: bool,
}

/// Whether data is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    /// It is not.
    No,
    /// On one line.
    Line,
    /// With line breaks between its tokens.
    Spread,
}

impl Payload {
    /// Bytes that may be JSON, as a client sends them whose protocol does not tell.
    pub fn of_bytes(bytes: Bytes) -> Self {
        let json = json(&bytes);
        Self { bytes, json, is_binary: json == Json::No }
    }

    /// Bytes that were marked as binary: handed on so where there is such a mark, even if they are JSON.
    pub fn binary(bytes: Bytes) -> Self {
        let json = json(&bytes);
        Self { bytes, json, is_binary: true }
    }

    /// Bytes of which another node has found out what they are. Whoever calls this vouches for it.
    pub fn known(bytes: Bytes, json: Json, is_binary: bool) -> Self {
        Self { bytes, json, is_binary }
    }

    /// Whether it is JSON.
    pub fn json(&self) -> Json {
        self.json
    }

    /// No data at all, which is not JSON.
    pub fn empty() -> Self {
        Self { bytes: Bytes::new(), json: Json::No, is_binary: false }
    }

    /// The payload as it came, but for line breaks in JSON that came as such.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it is to be handed on as binary where a client can tell.
    pub fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// The JSON text on one line; `None` if it is not JSON.
    pub fn json_line(&self) -> Option<Cow<'_, [u8]>> {
        match self.json {
            Json::No => None,
            Json::Line => Some(Cow::Borrowed(&self.bytes)),
            Json::Spread => {
                let is_kept = |byte: &u8| !matches!(byte, b'\n' | b'\r');
                Some(self.bytes.iter().copied().filter(is_kept).collect())
            }
        }
    }
}

fn json(bytes: &[u8]) -> Json {
    match RawJson::parse(bytes) {
        Err(_) => Json::No,
        Ok(_) if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) => Json::Spread,
        Ok(_) => Json::Line,
    }
}

impl From<RawJson> for Payload {
    fn from(json: RawJson) -> Self {
        Self { bytes: json.into_bytes(), json: Json::Line, is_binary: false }
    }
}

impl fmt::Debug for Payload {
    /// Says how long it is: a payload never reaches a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{} bytes of data>", self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_json_reach_clients_of_json_on_one_line_and_others_as_they_were() {
        let spread = Payload::of_bytes(Bytes::from_static(b"{\"a\" :\r\n 1.0}"));
        assert_eq!(spread.json_line().unwrap(), b"{\"a\" : 1.0}".as_slice());
        assert_eq!(spread.as_bytes(), b"{\"a\" :\r\n 1.0}");
        assert!(!spread.is_binary());
        let line = Payload::of_bytes(Bytes::from_static(b"1e3"));
        assert!(matches!(line.json_line(), Some(Cow::Borrowed(b"1e3"))));
    }

    #[test]
    fn other_bytes_are_binary() {
        for bytes in [b"\x00\xff".as_slice(), b"", b"{", b"1 2", b"\xef\xbb\xbf1"] {
            let payload = Payload::of_bytes(Bytes::copy_from_slice(bytes));
            assert!(payload.is_binary() && payload.json_line().is_none(), "{bytes:?}");
            assert_eq!(payload.as_bytes(), bytes);
        }
        assert!(Payload::empty().json_line().is_none());
    }

    #[test]
    fn what_was_marked_as_binary_stays_so_and_can_be_json_too() {
        let payload = Payload::binary(Bytes::from_static(b"5"));
        assert!(payload.is_binary());
        assert_eq!(payload.json_line().unwrap(), b"5".as_slice());
    }

    #[test]
    fn a_payload_is_not_printed() {
        assert_eq!(format!("{:?}", Payload::from(RawJson::string("LEAKCANARY"))), "<12 bytes of data>");
    }
}
