//! How hard a secret is to guess, from what it looks like.

use std::collections::HashSet;

use crate::config;
use crate::model::Secret;

/// Words that people put into secrets which they make up, in lower case.
const WORDS: [&str; 14] = [
    "changeme", "password", "clarion", "example", "default", "secret", "qwerty", "token", "super", "admin",
    "test", "this", "very", "key",
];
/// How many bits of chance seem to be in `secret`: more than there are if it was made up by somebody with a good
/// dictionary, and about right if it was drawn. Never say it with the secret.
pub(super) fn bits(secret: &Secret) -> f64 {
    if config::is_well_known(secret) {
        return 0.0;
    }
    let text: Vec<char> = secret.expose().chars().collect();
    let once = &text[..period(&text)];
    let (rest, words) = without_words(&once.iter().collect::<String>());
    // Each is one of a few that come to mind: worth a character.
    let free = free(&rest) + words;
    free as f64 * (alphabet(once) as f64).log2()
}

/// After how many characters it begins anew; all of them, if it does not.
fn period(text: &[char]) -> usize {
    let repeats = |period: &usize| text.iter().zip(&text[*period..]).all(|(before, after)| before == after);
    (1..text.len()).find(repeats).unwrap_or(text.len())
}

/// The text without the words in it, and how many there were.
fn without_words(text: &str) -> (Vec<char>, usize) {
    let mut rest = text.to_lowercase();
    let mut count = 0;
    for word in WORDS {
        count += rest.matches(word).count();
        // Something between what was before and after it, so that no new word comes about.
        rest = rest.replace(word, "\0");
    }
    (rest.chars().filter(|character| *character != '\0').collect(), count)
}

/// Characters that do not just go on as those before, as in `aaa`, `456` and `cba`.
fn free(text: &[char]) -> usize {
    let step = |pair: &[char]| i64::from(u32::from(pair[1])) - i64::from(u32::from(pair[0]));
    let goes_on = |three: &&[char]| step(&three[..2]) == step(&three[1..]) && step(&three[..2]).abs() <= 1;
    text.len() - text.windows(3).filter(goes_on).count()
}

/// Of how many characters it seems to be drawn.
fn alphabet(text: &[char]) -> usize {
    const HEXADECIMAL: usize = 16;
    let any = |is: fn(&char) -> bool| text.iter().any(is);
    let is_lower_hex = |character: &char| matches!(character, '0'..='9' | 'a'..='f');
    let (lower, upper) = (any(char::is_ascii_lowercase), any(char::is_ascii_uppercase));
    let digits = any(char::is_ascii_digit);
    let others = any(|character| !character.is_ascii_alphanumeric());
    if lower && digits && text.iter().all(is_lower_hex) {
        return HEXADECIMAL;
    }
    let classes = [(lower, 26), (upper, 26), (digits, 10), (others, 10)];
    let of_classes: usize = classes.into_iter().filter(|(is_there, _)| *is_there).map(|(_, size)| size).sum();
    // Who uses few of a class does not draw from all of it.
    let distinct = text.iter().collect::<HashSet<_>>().len();
    of_classes.min(distinct * 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits_of(text: &str) -> f64 {
        bits(&Secret::new(text))
    }

    #[test]
    fn what_is_drawn_has_the_bits_that_were_drawn() {
        for (drawn, expected) in [
            // openssl rand -hex 16, openssl rand -hex 32, 32 bytes in base64, as `clarion genconfig` makes them.
            ("9f86d081884c7d659a2feaa0c55ad015", 128.0),
            ("5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8", 256.0),
            ("q83vEjRWeJq83u_8Hj9aQvTn0bcXkLmRz5yWdPiSfUg", 256.0),
        ] {
            let bits = bits_of(drawn);
            assert!((expected * 0.85..=expected * 1.15).contains(&bits), "{drawn}: {bits}");
        }
    }

    #[test]
    fn what_is_made_up_has_few() {
        for (made_up, most) in [
            ("secret", 0.0),
            ("Your-256-bit-secret", 0.0),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1.0),
            ("abcabcabcabcabcabcabcabcabcabcabcabc", 10.0),
            ("0123456789abcdefghijklmnopqrstuv", 32.0),
            ("secret-secret-secret-secret-secret!", 80.0),
            ("my-super-secret-key-for-clarion-1234", 96.0),
            ("", 0.0),
            ("a", 1.0),
        ] {
            let bits = bits_of(made_up);
            assert!(bits <= most, "{made_up}: {bits}");
        }
    }
}
