//! Numbers as a person reads them: durations with their unit, large counts in groups, rates with their prefix.

/// What stands between groups of three digits: narrow, and no line is broken there.
const GROUP: char = '\u{202f}';
/// A real minus: as wide as the digits.
const MINUS: char = '\u{2212}';

/// A unit of durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl Unit {
    /// The largest that does not make a fraction of so many ns.
    pub(super) const fn of(nanos: u64) -> Self {
        match nanos {
            0..1_000 => Self::Nanoseconds,
            1_000..1_000_000 => Self::Microseconds,
            1_000_000..1_000_000_000 => Self::Milliseconds,
            1_000_000_000.. => Self::Seconds,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
        }
    }

    /// In ns.
    pub(super) const fn nanos(self) -> i64 {
        match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
        }
    }

    /// A whole number of ns in this unit, without its name: rounded to three decimals, none for ns.
    pub(super) fn number(self, nanos: i64) -> String {
        match self {
            Self::Nanoseconds => signed(nanos, group(&nanos.unsigned_abs().to_string())),
            _ => {
                // In integers: an f64 has too few digits for the ns of a date.
                let part = (self.nanos() / 1_000) as u64;
                let thousandths = (nanos.unsigned_abs() + part / 2) / part;
                let (whole, rest) = (thousandths / 1_000, thousandths % 1_000);
                signed(nanos, format!("{}.{rest:03}", group(&whole.to_string())))
            }
        }
    }

    /// A number of ns in this unit, without its name: with three decimals, one for ns.
    pub(super) fn fraction(self, nanos: f64) -> String {
        let decimals = if self == Self::Nanoseconds { 1 } else { 3 };
        let text = format!("{:.decimals$}", nanos.abs() / self.nanos() as f64);
        let (whole, rest) = text.split_once('.').unwrap_or((&text, "0"));
        let sign = if nanos < 0.0 { -1 } else { 1 };
        signed(sign, format!("{}.{rest}", group(whole)))
    }
}

/// A duration in ns with its unit, to at most three decimals: `12.345 µs`, `−5 ms`, `0 ns`.
pub fn duration(nanos: i64) -> String {
    let unit = Unit::of(nanos.unsigned_abs());
    format!("{}\u{a0}{}", without_zeros(&unit.number(nanos)), unit.name())
}

/// A duration in ns with its unit, for a column of them: to three decimals, none of ns.
pub(super) fn fixed(nanos: i64) -> String {
    let unit = Unit::of(nanos.unsigned_abs());
    format!("{}\u{a0}{}", unit.number(nanos), unit.name())
}

/// A count with its digits in groups: `1 234 567`.
pub fn count(count: u64) -> String {
    group(&count.to_string())
}

/// A number with a prefix of the SI: `0`, `500k`, `1.5G`; to at most three decimals.
pub(super) fn prefixed(number: i64) -> String {
    let prefixes = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let magnitude = number.unsigned_abs();
    let text = match prefixes.into_iter().find(|(factor, _)| magnitude >= *factor) {
        Some((factor, prefix)) => {
            let thousandths = (magnitude + factor / 2_000) / (factor / 1_000);
            let text = format!("{}.{:03}", group(&(thousandths / 1_000).to_string()), thousandths % 1_000);
            format!("{}{prefix}", without_zeros(&text))
        }
        None => magnitude.to_string(),
    };
    signed(number, text)
}

/// A share of 1 as a percentage with at least two figures: `0.00012` is `0.012 %`.
pub(super) fn percentage(share: f64) -> String {
    let percent = share * 100.0;
    let decimals = if percent > 0.0 { (1.0 - percent.log10().floor()).clamp(0.0, 9.0) as usize } else { 0 };
    format!("{percent:.decimals$}\u{a0}%")
}

/// A decimal number less the zeros at its end.
pub(super) fn without_zeros(text: &str) -> &str {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => text,
    }
}

fn signed(number: i64, text: String) -> String {
    if number < 0 { format!("{MINUS}{text}") } else { text }
}

/// Digits in groups of three; a number of four digits stays as it is.
fn group(digits: &str) -> String {
    if digits.len() < 5 {
        return digits.to_owned();
    }
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_unit_that_fits() {
        let cases = [
            (0, "0\u{a0}ns"),
            (999, "999\u{a0}ns"),
            (-1_000, "−1\u{a0}µs"),
            (12_345, "12.345\u{a0}µs"),
            (1_234_567, "1.235\u{a0}ms"),
            (-5_000_000, "−5\u{a0}ms"),
            (10_000_000_000, "10\u{a0}s"),
            (1_700_000_000_123_456_789, "1\u{202f}700\u{202f}000\u{202f}000.123\u{a0}s"),
            (i64::MIN, "−9\u{202f}223\u{202f}372\u{202f}036.855\u{a0}s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn counts_and_rates() {
        assert_eq!((count(1234), count(12_345)), ("1234".to_owned(), "12\u{202f}345".to_owned()));
        assert_eq!(count(1_000_000_000), "1\u{202f}000\u{202f}000\u{202f}000");
        let prefixed = [0, 7, 1_000, 1_500_000_000, 25_000_000, 12_345, 3_000_000_000_000].map(prefixed);
        assert_eq!(prefixed, ["0", "7", "1k", "1.5G", "25M", "12.345k", "3T"]);
    }

    #[test]
    fn numbers_of_one_unit_have_its_decimals() {
        assert_eq!(Unit::Nanoseconds.number(-42), "−42");
        assert_eq!(Unit::Microseconds.number(1_500_000), "1500.000");
        assert_eq!(Unit::Microseconds.number(-1), "−0.001");
        assert_eq!(Unit::Milliseconds.number(1_000_499), "1.000");
        assert_eq!(Unit::Microseconds.fraction(-1234.56), "−1.235");
        assert_eq!(Unit::Nanoseconds.fraction(7.25), "7.2");
    }

    #[test]
    fn shares() {
        assert_eq!(
            [0.0, 1.0, 0.5, 0.031, 0.000_12].map(percentage),
            ["0\u{a0}%", "100\u{a0}%", "50\u{a0}%", "3.1\u{a0}%", "0.012\u{a0}%"]
        );
    }
}
