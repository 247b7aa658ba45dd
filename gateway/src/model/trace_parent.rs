/// A sampled span that others go on from: the ids of W3C Trace Context. Of a span that is not sampled nothing is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Of all spans that belong together; not zero.
    pub trace: [u8; 16],
    /// Of the span itself; not zero.
    pub span: [u8; 8],
}

impl TraceParent {
    /// How many bytes its ids have together.
    pub const BYTES: usize = 24;

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` for anything else.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let (trace, span) = bytes.split_first_chunk()?;
        let (trace, span) = (*trace, span.try_into().ok()?);
        (trace != [0; 16] && span != [0; 8]).then_some(Self { trace, span })
    }

    /// The id of the trace, then that of the span.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace);
        bytes[16..].copy_from_slice(&self.span);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let parent = TraceParent { trace: [1; 16], span: [2; 8] };
        assert_eq!(TraceParent::from_slice(&parent.to_bytes()), Some(parent));
        let no_trace = [[0; 16].as_slice(), &[2; 8]].concat();
        let no_span = [[1; 16].as_slice(), &[0; 8]].concat();
        for bad in [&[][..], &[1; 16], &[1; 23], &[1; 25], &no_trace, &no_span] {
            assert_eq!(TraceParent::from_slice(bad), None, "{bad:?}");
        }
    }
}
