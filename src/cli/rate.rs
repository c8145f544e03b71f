//! Rates as they are typed: `100M` and `2.5G` are bits a second, `10kpps` packets a second, `50%` a share of the link.

use crate::session::Rate;

/// The highest rate that can be typed, bits or packets a second.
const MAX: u64 = 1_000_000_000_000;
const WANTED: &str = "must be bits a second such as 100M or 2.5G, or packets a second such as 500kpps, in [1, 1T]";

/// An absolute rate.
pub(super) fn parse(typed: &str) -> Result<Rate, String> {
    absolute(typed).ok_or_else(|| WANTED.to_owned())
}

fn absolute(typed: &str) -> Option<Rate> {
    let lower = typed.to_ascii_lowercase();
    let (number, make): (&str, fn(u64) -> Rate) = match lower.strip_suffix("pps") {
        Some(number) => (number, Rate::Packets),
        None => (lower.strip_suffix("bit/s").or(lower.strip_suffix("bps")).unwrap_or(&lower), Rate::Bits),
    };
    let (number, scale) = match number.as_bytes().last()? {
        b'k' => (&number[..number.len() - 1], 1000),
        b'm' => (&number[..number.len() - 1], 1_000_000),
        b'g' => (&number[..number.len() - 1], 1_000_000_000),
        b't' => (&number[..number.len() - 1], MAX),
        _ => (number, 1),
    };
    let value = decimal(number, scale)?;
    (1..=MAX).contains(&value).then(|| make(value))
}

/// A decimal number times `scale`, where that is a whole number.
pub(super) fn decimal(typed: &str, scale: u64) -> Option<u64> {
    let (whole, part) = typed.split_once('.').unwrap_or((typed, ""));
    let all_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    // What is longer is out of range, or too fine.
    if whole.is_empty() || whole.len() > 13 || part.len() > 12 || !all_digits(whole) || !all_digits(part) {
        return None;
    }
    if typed.ends_with('.') {
        return None;
    }
    let fine = 10_u128.pow(part.len() as u32);
    let number = whole.parse::<u128>().ok()? * fine + if part.is_empty() { 0 } else { part.parse::<u128>().ok()? };
    let scaled = number * u128::from(scale);
    scaled.is_multiple_of(fine).then(|| u64::try_from(scaled / fine).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_every_unit() {
        let cases = [
            ("100M", Rate::Bits(100_000_000)),
            ("2.5G", Rate::Bits(2_500_000_000)),
            ("1", Rate::Bits(1)),
            ("1T", Rate::Bits(1_000_000_000_000)),
            ("9600bps", Rate::Bits(9600)),
            ("1Gbit/s", Rate::Bits(1_000_000_000)),
            ("500kpps", Rate::Packets(500_000)),
            ("1.488095Mpps", Rate::Packets(1_488_095)),
            ("10pps", Rate::Packets(10)),
        ];
        for (typed, expected) in cases {
            assert_eq!(parse(typed), Ok(expected), "{typed}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        let wrong = [
            "",
            "M",
            "pps",
            "kpps",
            "0",
            "0pps",
            "0.5",
            "-1M",
            "+1M",
            "1 M",
            "1e6",
            "1.M",
            ".5G",
            "1..5G",
            "1.2.3M",
            "1KK",
            "1.0001",
            "1.1T",
            "2T",
            "99999999999999",
            "1MB",
            "10%",
            "1,5G",
            "0x10",
            "1Gpps2",
            "inf",
            "NaN",
            "µ",
        ];
        for typed in wrong {
            assert_eq!(parse(typed), Err(WANTED.to_owned()), "{typed:?}");
        }
    }
}
