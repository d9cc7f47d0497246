//! Kubernetes quantities, exactly: no floating point, and no silent limit.

use std::{fmt, str::FromStr};

/// An amount of some resource, exact to the billionth, as Kubernetes keeps it; what is finer is rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

/// Kubernetes keeps 2^63 - 1 in place of what is greater; here it is refused.
const GREATEST: i128 = i64::MAX as i128 * NANOS;
const NANOS: i128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
/// Digits in [`NANOS`].
const NANO_DIGITS: i64 = 9;
/// Longer texts than any that Kubernetes itself writes (19 digits, a point, 9 digits, a suffix) are still read.
const TEXT_BYTES_LIMIT: usize = 64;

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not written as one.
    #[error("{0:?} is not a quantity such as \"500m\", \"1.5\", \"2Gi\" or \"1e3\"")]
    Syntax(String),
    /// It is greater, or has more digits, than any resource has.
    #[error("{0:?} is greater, or has more digits, than a quantity can have")]
    OutOfRange(String),
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0 };

    /// A number of whole units.
    pub fn units(number: u32) -> Self {
        Self {
            nanos: i128::from(number) * NANOS,
        }
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a number of whole units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The number of whole units, rounded up; 0 where it is negative.
    pub fn whole_units(self) -> u128 {
        self.rounded_up(NANOS)
    }

    /// The number of whole thousandths, rounded up; 0 where it is negative.
    pub fn whole_thousandths(self) -> u128 {
        self.rounded_up(NANOS_PER_MILLI)
    }

    /// The sum, which no number of containers that an object can hold makes too great.
    pub fn plus(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
        }
    }

    fn rounded_up(self, unit: i128) -> u128 {
        let nanos = u128::try_from(self.nanos).unwrap_or(0);
        nanos.div_ceil(unit.unsigned_abs())
    }
}

/// What a suffix multiplies by: 2^binary × 10^decimal.
struct Factor {
    binary: u32,
    decimal: i64,
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let shown = || text.chars().take(TEXT_BYTES_LIMIT).collect::<String>();
        let syntax = || QuantityError::Syntax(shown());
        let range = || QuantityError::OutOfRange(shown());
        if text.len() > TEXT_BYTES_LIMIT {
            return Err(range());
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = unsigned
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(syntax());
        }
        let factor = factor(suffix).ok_or_else(syntax)?;
        let nanos = nanos(whole, fraction, &factor).ok_or_else(range)?;
        if nanos > GREATEST {
            return Err(range());
        }
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
        })
    }
}

impl fmt::Display for Quantity {
    /// Whole units and what remains of them, as a decimal number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.nanos / NANOS, (self.nanos % NANOS).abs());
        let sign = if self.nanos < 0 && whole == 0 { "-" } else { "" };
        if rest == 0 {
            return write!(formatter, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(formatter, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

fn factor(suffix: &str) -> Option<Factor> {
    let decimal = |decimal| Some(Factor { binary: 0, decimal });
    let binary = |binary| Some(Factor { binary, decimal: 0 });
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => decimal(exponent(suffix.strip_prefix(['e', 'E'])?)?),
    }
}

/// The exponent of 1e3, 1E-3 or 1e+3.
fn exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // No text that is short enough to come here has an exponent that means more than this one.
    is_number.then(|| text.parse().unwrap_or(i64::MAX / 2))
}

/// The value in billionths, rounded up; none where it is too great to be computed.
fn nanos(whole: &str, fraction: &str, factor: &Factor) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let number: i128 = digits.parse().ok()?;
    let power = factor
        .decimal
        .checked_add(NANO_DIGITS)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    if power >= 0 {
        let scaled = number.checked_mul(ten_to(power)?)?;
        return scaled.checked_mul(1 << factor.binary);
    }
    // 2^binary / 10^places: common factors go first, so that nothing exact becomes too great on the way.
    let places = power.unsigned_abs();
    let shared = u64::from(factor.binary).min(places);
    let numerator = number.checked_mul(1 << (u64::from(factor.binary) - shared))?;
    let Some(divisor) = 5_i128
        .checked_pow(u32::try_from(places).ok()?)
        .and_then(|fives| fives.checked_mul(1_i128.checked_shl(u32::try_from(places - shared).ok()?)?))
        .filter(|divisor| *divisor > 0)
    else {
        // Less than a billionth, however small.
        return Some(1);
    };
    Some(numerator / divisor + i128::from(numerator % divisor != 0))
}

fn ten_to(power: i64) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(power).ok()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quantity(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_notation_is_read_exactly() {
        for (text, nanos) in [
            ("0", 0),
            ("1", NANOS),
            ("+1", NANOS),
            ("-1", -NANOS),
            ("1.", NANOS),
            (".5", NANOS / 2),
            ("0.1", NANOS / 10),
            ("500m", NANOS / 2),
            ("1500m", NANOS * 3 / 2),
            ("1n", 1),
            ("1u", 1000),
            ("2k", 2000 * NANOS),
            ("1Ki", 1024 * NANOS),
            ("1.5Mi", 1_572_864 * NANOS),
            ("1E", 1_000_000_000_000_000_000 * NANOS),
            ("1Ei", (1 << 60) * NANOS),
            ("1e3", 1000 * NANOS),
            ("1E3", 1000 * NANOS),
            ("1e+3", 1000 * NANOS),
            ("12E-1", NANOS * 6 / 5),
            ("1e-9", 1),
            ("0.0000000001", 1),
            ("1e-60", 1),
            ("0e99", 0),
            ("0.1Ki", 102_400_000_000),
            ("000000000000000000000000000000000000000000000000001", NANOS),
            ("1.000000000000000000000000000000000000000000000000", NANOS),
            ("9223372036854775807", GREATEST),
        ] {
            assert_eq!(quantity(text).nanos, nanos, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "", "-", "+", ".", "m", "1.2.3", "1 ", " 1", "1K", "1mi", "1KI", "1kb", "0x1", "1e", "1e+",
            "1e1.5", "--1", "1,5", "one", "١", "1Ki1", "∞",
        ] {
            assert!(
                matches!(text.parse::<Quantity>(), Err(QuantityError::Syntax(_))),
                "{text}"
            );
        }
        let long = "1".repeat(65);
        for text in [
            "9223372036854775808",
            "8Ei",
            "10E",
            "1e19",
            "1e999999999999999999",
            "1e400",
            &long,
        ] {
            assert!(
                matches!(text.parse::<Quantity>(), Err(QuantityError::OutOfRange(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn whole_numbers_are_rounded_up() {
        assert_eq!(quantity("1001m").whole_units(), 2);
        assert_eq!(quantity("1000m").whole_units(), 1);
        assert_eq!(quantity("1n").whole_thousandths(), 1);
        assert_eq!(quantity("-1").whole_units(), 0);
        assert!(quantity("2000m").is_whole() && !quantity("1.5").is_whole());
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "\\PC{0,70}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn notations_of_one_number_are_equal(thousandths in 0_u64..1_000_000_000) {
            let written = [
                format!("{thousandths}m"),
                format!("{}.{:03}", thousandths / 1000, thousandths % 1000),
                format!("{thousandths}e-3"),
                format!("{thousandths}000u"),
            ];
            for text in &written {
                prop_assert_eq!(quantity(text), quantity(&written[0]));
            }
            prop_assert_eq!(quantity(&quantity(&written[0]).to_string()), quantity(&written[0]));
        }
    }
}
