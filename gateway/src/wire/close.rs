use std::borrow::Cow;
use std::fmt;

use super::{DecodeError, Violation};

/// The body of a close frame that has one (RFC 6455 §5.5.1).
#[derive(Clone, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// A code that may be sent, see [`is_valid_close_code`].
    pub code: u16,
    /// For people; often empty, at most 123 bytes.
    pub reason: Cow<'a, str>,
}

impl fmt::Debug for CloseFrame<'_> {
    /// Says how long the reason is: the words of a client never reach a log.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Close({}, <{} bytes>)", self.code, self.reason.len())
    }
}

/// Whether `code` may stand in a close frame (RFC 6455 §7.4 and the IANA registry).
///
/// 1000–1003, 1007–1014 and 3000–4999. 1005, 1006 and 1015 only name what was seen, 1004 has no meaning.
pub const fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Reads the payload of a close frame; `None` when it is empty. The header has refused a single byte.
pub(super) fn parse_close(payload: Cow<'_, [u8]>) -> Result<Option<CloseFrame<'_>>, DecodeError> {
    let Some((&code, _)) = payload.split_first_chunk() else { return Ok(None) };
    let code = u16::from_be_bytes(code);
    if !is_valid_close_code(code) {
        return Err(Violation::InvalidCloseCode(code).into());
    }
    let reason = match payload {
        Cow::Borrowed(payload) => {
            payload.get(2..).and_then(|reason| str::from_utf8(reason).ok()).map(Cow::Borrowed)
        }
        Cow::Owned(mut payload) => String::from_utf8(payload.split_off(2)).ok().map(Cow::Owned),
    };
    Ok(Some(CloseFrame { code, reason: reason.ok_or(DecodeError::InvalidUtf8)? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &[u8]) -> Result<Option<CloseFrame<'_>>, DecodeError> {
        let owned = parse_close(Cow::Owned(payload.to_vec()));
        let borrowed = parse_close(Cow::Borrowed(payload));
        assert_eq!(owned, borrowed);
        borrowed
    }

    #[test]
    fn codes_that_may_not_be_sent_are_refused() {
        for code in
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
        {
            assert_eq!(parse(&u16::to_be_bytes(code)).unwrap().unwrap().code, code);
        }
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
            let error = parse(&u16::to_be_bytes(code)).unwrap_err();
            assert_eq!(error, Violation::InvalidCloseCode(code).into());
            assert_eq!(error.close_code(), 1002);
        }
    }

    #[test]
    fn the_reason_is_utf8() {
        assert_eq!(parse(b""), Ok(None));
        assert_eq!(parse(b"\x03\xe8").unwrap().unwrap().reason, "");
        assert_eq!(
            parse("\x0f\u{20}né".as_bytes()).unwrap().unwrap(),
            CloseFrame { code: 3872, reason: "né".into() }
        );
        assert_eq!(parse(b"\x03\xe8n\xc3").unwrap_err().close_code(), 1007);
    }
}
