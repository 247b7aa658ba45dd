//! Numbers as people read them.

/// A whole number with a comma before every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value with its unit, three digits or all before the point. Times and bytes are given in the unit that suits them.
pub fn amount(value: f64, unit: &str) -> String {
    let (divisor, unit) = suited(value, unit);
    let text = digits(value / divisor);
    if unit.is_empty() { text } else { format!("{text} {unit}") }
}

/// How many of `unit` make one of the unit in which a value of this size is read best, and that unit.
pub(crate) fn suited(value: f64, unit: &str) -> (f64, &str) {
    let size = value.abs();
    match unit {
        "bytes" => [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")]
            .into_iter()
            .map(|(bytes, unit)| (f64::from(bytes), unit))
            .find(|(bytes, _)| size >= *bytes)
            .unwrap_or((1.0, "bytes")),
        "µs" if size >= 1e6 => (1e6, "s"),
        "µs" if size >= 1e3 => (1e3, "ms"),
        _ => (1.0, unit),
    }
}

/// Three digits, or all that are before the point.
fn digits(value: f64) -> String {
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 {
        // Counts are exact.
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(size as u64));
    }
    match size {
        100.0.. => format!("{}{}", if value < 0.0 { "-" } else { "" }, grouped(size.round() as u64)),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn values_have_three_digits_and_the_unit_that_suits_them() {
        for (value, unit, text) in [
            (0.0, "µs", "0 µs"),
            (12.34, "µs", "12.3 µs"),
            (1500.0, "µs", "1.50 ms"),
            (2_345_678.0, "µs", "2.35 s"),
            (1536.0, "bytes", "1.50 KiB"),
            (17.0, "bytes", "17 bytes"),
            (61_234.7, "publications/s", "61,235 publications/s"),
            (0.0345, "cores", "0.035 cores"),
            (10_000.0, "", "10,000"),
            (-1234.5, "", "-1,235"),
        ] {
            assert_eq!(amount(value, unit), text);
        }
    }
}
