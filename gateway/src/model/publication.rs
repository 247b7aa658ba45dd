use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::{ClientId, ClientInfo, Payload, TraceParent};

/// A JSON value kept as the text it came in, on one line.
///
/// It is forwarded, never interpreted: `1.0` stays `1.0`. Line breaks between tokens are removed,
/// because a line break separates messages in the native protocol
/// (Centrifuge protocol, JSON framing).
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

/// The text is not one JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON value")]
pub struct RawJsonError;

impl RawJson {
    /// Checks that `text` is exactly one JSON value, not [too deep](is_too_deep), and keeps it.
    ///
    /// # Errors
    /// [`RawJsonError`] if it is not.
    pub fn parse(text: &[u8]) -> Result<Self, RawJsonError> {
        if is_too_deep(text) {
            return Err(RawJsonError);
        }
        let value: &serde_json::value::RawValue = serde_json::from_slice(text).map_err(|_| RawJsonError)?;
        Ok(Self::from_raw(value))
    }

    /// Keeps a value that the JSON parser has already checked.
    pub fn from_raw(value: &serde_json::value::RawValue) -> Self {
        let text = value.get();
        if text.contains(['\n', '\r']) {
            // Inside a JSON string a line break is always escaped, so every raw one is between tokens.
            return Self(text.replace(['\n', '\r'], "").into());
        }
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The JSON string whose content is `text`.
    pub fn string(text: &str) -> Self {
        let encoded = serde_json::to_vec(text).expect("a string is always JSON");
        Self(encoded.into())
    }

    /// The text of the value.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text of the value, as it is held: sharing it would allocate once more for as long as it lives.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for RawJson {
    /// Says how long it is: a payload never reaches a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "<{} bytes of JSON>", self.0.len())
    }
}

/// Most arrays and objects within one another, in requests and in payloads. Parsers of clients recurse.
const DEPTH_MAX: usize = 128;

/// Whether JSON text is nested too deep. Of other text it says nothing.
///
/// The parser skips raw values without recursion and so without a limit of its own.
pub fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_string,
            b'"' => is_string = !is_string,
            b'[' | b'{' if !is_string => depth += 1,
            b']' | b'}' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// Data published to a channel.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The payload, as published.
    pub data: Payload,
    /// The publisher, if it was a client; `None` for the server API. Boxed: a history holds many without it.
    pub info: Option<Box<ClientInfo>>,
    /// Free-form labels given by the publisher; empty if none.
    pub tags: BTreeMap<String, String>,
    /// The connection that does not get it, though it may be subscribed; `None` for none. Boxed, as `info` is.
    pub exclude: Option<Box<ClientId>>,
    /// The span that published it; `None` if it is not traced, as most are not. Boxed, as `info` is.
    pub trace: Option<Box<TraceParent>>,
    /// Its place in the channel's history, from 1; 0 if it is in none. The broker sets it.
    pub offset: u64,
}

impl Publication {
    /// A publication of the server API: data alone.
    pub fn of(data: impl Into<Payload>) -> Self {
        Self { data: data.into(), info: None, tags: BTreeMap::new(), exclude: None, trace: None, offset: 0 }
    }

    /// How much memory it holds on to, roughly, in bytes. Queues count with it.
    pub fn cost_bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len() + 48).sum();
        let info = self.info.as_ref().map_or(0, |info| info.cost_bytes());
        let exclude = self.exclude.as_ref().map_or(0, |client| size_of_val(&**client));
        let trace = self.trace.as_ref().map_or(0, |trace| size_of_val(&**trace));
        size_of::<Self>() + self.data.as_bytes().len() + info + tags + exclude + trace
    }

    /// Whether it is for the connection `client`, if that is subscribed.
    pub fn is_for(&self, client: ClientId) -> bool {
        self.exclude.as_deref() != Some(&client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_json_keeps_the_text_but_for_line_breaks() {
        let value = RawJson::parse(b"{\"a\" :\r\n 1.0,\n\"b\":1e3}").unwrap();
        assert_eq!(value.as_bytes(), b"{\"a\" : 1.0,\"b\":1e3}");
    }

    #[test]
    fn raw_json_refuses_what_is_not_one_value() {
        for bad in ["", "{", "1 2", "nope", "\"\u{1}\""] {
            assert!(RawJson::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        let nested = |count| format!("{}{}", "[{\"a\":".repeat(count), "}]".repeat(count));
        assert!(!is_too_deep(nested(DEPTH_MAX / 2).as_bytes()));
        assert!(is_too_deep(nested(DEPTH_MAX / 2 + 1).as_bytes()));
        assert!(!is_too_deep("[[],[]]".repeat(1_000).as_bytes()));
        assert!(!is_too_deep(format!(r#"["\"{}"]"#, "[".repeat(1_000)).as_bytes()));
        assert!(is_too_deep(format!(r#"["\\",{}"#, "[".repeat(1_000)).as_bytes()));
    }

    #[test]
    fn everything_that_a_publication_holds_costs() {
        let plain = Publication::of(RawJson::string("x"));
        let excluding = Publication { exclude: Some(Box::new(ClientId::random())), ..plain.clone() };
        assert_eq!(excluding.cost_bytes(), plain.cost_bytes() + 16);
        let trace = TraceParent { trace: [1; 16], span: [1; 8] };
        let traced = Publication { trace: Some(Box::new(trace)), ..plain.clone() };
        assert_eq!(traced.cost_bytes(), plain.cost_bytes() + TraceParent::BYTES);
    }

    #[test]
    fn a_payload_is_not_printed() {
        assert_eq!(format!("{:?}", RawJson::string("LEAKCANARY")), "<12 bytes of JSON>");
    }
}
