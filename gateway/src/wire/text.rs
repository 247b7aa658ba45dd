use std::str;

/// Not UTF-8, or an end within a code point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidUtf8;

/// A text that arrives in parts, cut anywhere. Each byte is checked once, when it arrives.
#[derive(Default)]
pub(super) struct PartialText {
    text: String,
    /// The first `cut_bytes` are the start of a code point, and can still become one.
    cut: [u8; 3],
    cut_bytes: u8,
}

impl PartialText {
    /// Size of what was pushed.
    pub(super) fn len(&self) -> usize {
        self.text.len() + usize::from(self.cut_bytes)
    }

    /// Bytes on the heap.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Appends `bytes`, which may begin and end within a code point.
    ///
    /// # Errors
    /// [`InvalidUtf8`] when no text goes on like this, whatever would follow.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), InvalidUtf8> {
        while self.cut_bytes > 0
            && let Some((&first, rest)) = bytes.split_first()
        {
            self.push_byte(first)?;
            bytes = rest;
        }
        let (whole, cut) = bytes.split_at(bytes.len() - cut_bytes(bytes));
        self.text.push_str(str::from_utf8(whole).map_err(|_| InvalidUtf8)?);
        cut.iter().try_for_each(|&byte| self.push_byte(byte))
    }

    /// The text, if it does not end within a code point.
    pub(super) fn finish(self) -> Result<String, InvalidUtf8> {
        if self.cut_bytes == 0 { Ok(self.text) } else { Err(InvalidUtf8) }
    }

    fn push_byte(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let cut_bytes = usize::from(self.cut_bytes);
        let [a, b, c] = self.cut;
        let code_point: &[u8] = match cut_bytes {
            0 => &[byte],
            1 => &[a, byte],
            2 => &[a, b, byte],
            _ => &[a, b, c, byte],
        };
        match str::from_utf8(code_point) {
            Ok(character) => {
                self.text.push_str(character);
                self.cut_bytes = 0;
            }
            // Without a length the error is an early end. Three bytes at most can be that.
            Err(error) if error.error_len().is_none() => {
                if let Some(place) = self.cut.get_mut(cut_bytes) {
                    *place = byte;
                    self.cut_bytes += 1;
                }
            }
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }
}

/// How many bytes at the end of `bytes` look like the start of a longer code point: 0 to 3.
fn cut_bytes(bytes: &[u8]) -> usize {
    let is_continuation = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
    let continuations = bytes.iter().rev().take(3).take_while(is_continuation).count();
    let Some(&first) = bytes.iter().rev().nth(continuations) else { return 0 };
    // The leading ones of a first byte are the size of its code point; ASCII has none.
    if first.leading_ones() as usize > continuations + 1 { continuations + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes of `bytes` are taken one by one before the error; `None` if all are.
    fn fails_at(bytes: &[u8]) -> Option<usize> {
        let mut text = PartialText::default();
        bytes.iter().position(|byte| text.push(&[*byte]).is_err())
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let whole = "a\u{7f}\u{80}é\u{7ff}\u{800}€\u{d7ff}\u{e000}\u{fffd}\u{ffff}\u{10000}🙂\u{10ffff}z";
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let mut text = PartialText::default();
                text.push(&whole.as_bytes()[..first]).unwrap();
                text.push(&whole.as_bytes()[first..second]).unwrap();
                assert_eq!(text.len(), second);
                text.push(&whole.as_bytes()[second..]).unwrap();
                assert_eq!(text.finish().unwrap(), whole);
            }
        }
    }

    #[test]
    fn the_first_wrong_byte_is_refused_when_it_arrives() {
        let table: [(&[u8], usize); 14] = [
            (b"\x80", 0),
            (b"a\xbf", 1),
            (b"\xc0\xaf", 0),
            (b"\xc1\xbf", 0),
            (b"\xc3(", 1),
            (b"\xe0\x80\xaf", 1),
            (b"\xe2\x82(", 2),
            (b"\xed\xa0\x80", 1),
            (b"\xf0\x80\x80\xaf", 1),
            (b"\xf0\x9f\x99a", 3),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf5\x80\x80\x80", 0),
            (b"\xfe", 0),
            (b"\xff", 0),
        ];
        for (bytes, position) in table {
            assert_eq!(fails_at(bytes), Some(position), "{bytes:x?}");
            // In one piece it is found as well, and as soon as the byte is there.
            assert_eq!(PartialText::default().push(bytes), Err(InvalidUtf8), "{bytes:x?}");
            assert_eq!(PartialText::default().push(&bytes[..=position]), Err(InvalidUtf8), "{bytes:x?}");
            assert_eq!(PartialText::default().push(&bytes[..position]), Ok(()), "{bytes:x?}");
        }
    }

    #[test]
    fn a_text_must_not_end_within_a_code_point() {
        for cut in ["é", "€", "🙂"].iter().flat_map(|text| (1..text.len()).map(|end| &text.as_bytes()[..end]))
        {
            let mut text = PartialText::default();
            text.push(cut).unwrap();
            assert_eq!(text.finish(), Err(InvalidUtf8), "{cut:x?}");
        }
    }

    #[test]
    fn nothing_is_allocated_for_nothing() {
        let mut text = PartialText::default();
        for _ in 0..1000 {
            text.push(b"").unwrap();
        }
        assert_eq!(text.finish().unwrap().capacity(), 0);
    }
}
