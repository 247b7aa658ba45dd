/// Applies `mask` to `bytes`, or takes it off again: the same operation (RFC 6455 §5.3).
///
/// The first byte meets the first byte of `mask`; for a later part of a payload the caller turns the mask.
pub(super) fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = [a, b, c, d, a, b, c, d];
    // Fixed chunks of a word: the compiler makes vector instructions of this loop.
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ u64::from_ne_bytes(wide)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(wide) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_meets_its_byte_of_the_mask() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for size in 0..70 {
            let plain: Vec<u8> = (0..size).map(|index| index * 3).collect();
            let expected: Vec<u8> =
                plain.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let mut bytes = plain.clone();
            apply_mask(&mut bytes, mask);
            assert_eq!(bytes, expected);
            apply_mask(&mut bytes, mask);
            assert_eq!(bytes, plain);
        }
    }
}
