//! [`Quantity`]: a number with a unit suffix (`500m`, `2Gi`), read, compared and written as upstream does.
//!
//! Source of the rules: kubernetes/apimachinery pkg/api/resource.
// PERFORMANCE: per-request path

use compact_str::{CompactString, format_compact};
use std::cmp::Ordering;

/// A decimal number `mantissa × 10^exponent` and how it is written.
///
/// Exact up to 36 significant digits; what is longer keeps its first 36 and is rounded away from zero.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text as given, where upstream remembers it because it is (nearly) canonical.
    text: Option<CompactString>,
}

/// How the suffix is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Why a text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i32 = -9;
const MAX_DIGITS: usize = 36;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        mantissa: 0,
        exponent: 0,
        format: Format::DecimalSi,
        text: None,
    };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity {
            mantissa: value.into(),
            exponent: 0,
            format,
            text: None,
        }
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64) -> Quantity {
        Quantity {
            mantissa: value.into(),
            exponent: -3,
            format: Format::DecimalSi,
            text: None,
        }
    }

    /// Reads a quantity; surrounding white space is not accepted here (JSON decoding trims it before).
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        if text == "0" {
            return Ok(Quantity {
                text: Some("0".into()),
                ..Quantity::ZERO
            });
        }
        let parts = Parts::split(text)?;
        let (format, scale) = suffix(parts.suffix).ok_or(QuantityError::Suffix)?;
        let digits = parts.whole.len() + parts.fraction.len();
        let remembered = match format {
            Format::BinarySi => binary_is_remembered(&parts, scale),
            _ => {
                let last = scale.wrapping_sub(i32::try_from(parts.fraction.len()).unwrap_or(i32::MAX));
                digits <= 18 && last >= NANO && last % 3 == 0 && decimal_is_remembered(&parts)
            }
        };
        let mut quantity = if format == Format::BinarySi {
            binary(&parts, scale)
        } else {
            decimal(&parts, scale, format)
        };
        if parts.negative {
            quantity.mantissa = -quantity.mantissa;
        }
        if remembered {
            quantity.text = Some(text.into());
        }
        Ok(quantity)
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The whole value, rounded away from zero; saturates.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The value in thousandths, rounded away from zero; saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The value in units of `10^scale`, rounded away from zero; saturates.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let shift = i64::from(self.exponent) - i64::from(scale);
        let shifted = if shift >= 0 {
            u32::try_from(shift)
                .ok()
                .and_then(|s| 10i128.checked_pow(s))
                .and_then(|p| self.mantissa.checked_mul(p))
        } else {
            Some(divided_up(self.mantissa, shift.unsigned_abs()))
        };
        let limit = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        match shifted {
            Some(value) => i64::try_from(value).unwrap_or(limit),
            None if self.mantissa == 0 => 0,
            None => limit,
        }
    }

    /// The whole value, when it is whole and fits.
    pub fn as_i64(&self) -> Option<i64> {
        let (mantissa, exponent) = trimmed(self.mantissa, self.exponent);
        if exponent < 0 {
            return None;
        }
        let power = 10i128.checked_pow(exponent.unsigned_abs())?;
        mantissa.checked_mul(power).and_then(|v| i64::try_from(v).ok())
    }

    pub fn to_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    #[must_use]
    pub fn add(&self, other: &Quantity) -> Quantity {
        self.combine(other, i128::saturating_add)
    }

    #[must_use]
    pub fn sub(&self, other: &Quantity) -> Quantity {
        self.combine(other, i128::saturating_sub)
    }

    #[must_use]
    pub fn neg(&self) -> Quantity {
        Quantity {
            mantissa: -self.mantissa,
            text: None,
            ..*self
        }
    }

    fn combine(&self, other: &Quantity, operation: fn(i128, i128) -> i128) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        let (a, b, exponent) = aligned(self, other);
        Quantity {
            mantissa: operation(a, b),
            exponent,
            format,
            text: None,
        }
    }

    /// The canonical text; for what was parsed in (nearly) canonical form, the text as it was.
    pub fn canonical(&self) -> CompactString {
        if let Some(text) = &self.text {
            return text.clone();
        }
        if self.mantissa == 0 {
            return CompactString::const_new("0");
        }
        match self.format {
            Format::BinarySi => self
                .binary_text()
                .unwrap_or_else(|| self.decimal_text(Format::DecimalSi)),
            format => self.decimal_text(format),
        }
    }

    fn binary_text(&self) -> Option<CompactString> {
        let (mantissa, exponent) = trimmed(self.mantissa, self.exponent);
        if exponent < 0 {
            return None;
        }
        let mut value = mantissa.checked_mul(10i128.checked_pow(exponent.unsigned_abs())?)?;
        if value.abs() < 1024 {
            return None;
        }
        let mut power = 0;
        while value % 1024 == 0 {
            value /= 1024;
            power += 1;
        }
        // COMPAT: upstream writes no suffix for a power it has no letter for.
        Some(format_compact!("{value}{}", BINARY.get(power).copied().unwrap_or("")))
    }

    fn decimal_text(&self, format: Format) -> CompactString {
        let (mut mantissa, mut exponent) = trimmed(self.mantissa, self.exponent);
        while exponent % 3 != 0 {
            mantissa = mantissa.saturating_mul(10);
            exponent -= 1;
        }
        match (format, exponent) {
            (_, 0) => format_compact!("{mantissa}"),
            (Format::DecimalExponent, _) => format_compact!("{mantissa}e{exponent}"),
            _ => {
                let index = usize::try_from(exponent / 3 + 3).ok();
                format_compact!(
                    "{mantissa}{}",
                    index.and_then(|i| DECIMAL.get(i)).copied().unwrap_or("")
                )
            }
        }
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

/// By value: `1` equals `1000m`.
impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        if self.sign() != other.sign() || self.is_zero() {
            return self.sign().cmp(&other.sign());
        }
        let by_size = magnitude(self).cmp(&magnitude(other));
        let by_size = if self.mantissa < 0 { by_size.reverse() } else { by_size };
        by_size.then_with(|| {
            let (a, b, _) = aligned(self, other);
            a.cmp(&b)
        })
    }
}

// === parsing ===

struct Parts<'a> {
    negative: bool,
    /// Without leading zeros; `0` when there is nothing else.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Parts<'a>, QuantityError> {
        let (negative, rest) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let rest = rest.trim_start_matches('0');
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, rest) = match rest.strip_prefix('.') {
            Some(tail) => tail.split_at(digits(tail)),
            None => ("", rest),
        };
        let letters = rest.find(|c| !"eEinumkKMGTP".contains(c)).unwrap_or(rest.len());
        let tail = &rest[letters..];
        let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
        if digits(tail) != tail.len() {
            return Err(QuantityError::Format);
        }
        // COMPAT: upstream finds no number at all in `.` or `-` and its suffix, but reads it as zero.
        Ok(Parts {
            negative,
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            suffix: rest,
        })
    }

    /// All digits as one number, at most [`MAX_DIGITS`] of them, and the exponent of its last digit.
    fn number(&self) -> (i128, i32) {
        let whole = self.whole.trim_start_matches('0');
        let mut all = whole.bytes().chain(self.fraction.bytes());
        let mut mantissa: i128 = 0;
        let mut taken = 0usize;
        let mut seen = 0usize;
        for digit in all.by_ref() {
            mantissa = mantissa * 10 + i128::from(digit - b'0');
            seen += 1;
            if mantissa > 0 {
                taken += 1;
            }
            if taken == MAX_DIGITS {
                break;
            }
        }
        if all.any(|digit| digit != b'0') {
            mantissa += 1;
        }
        let exponent = i64::try_from(whole.len()).unwrap_or(i64::MAX) - i64::try_from(seen).unwrap_or(i64::MAX);
        (mantissa, i32::try_from(exponent).unwrap_or(i32::MAX))
    }
}

fn digits(text: &str) -> usize {
    text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len())
}

/// The format a suffix stands for, and its exponent (of 2 for binary ones).
fn suffix(text: &str) -> Option<(Format, i32)> {
    if let Some(i) = BINARY.iter().position(|s| *s == text).filter(|i| *i > 0) {
        return Some((Format::BinarySi, i as i32 * 10));
    }
    if let Some(i) = DECIMAL.iter().position(|s| *s == text) {
        return Some((Format::DecimalSi, i as i32 * 3 - 9));
    }
    let exponent = text.strip_prefix(['e', 'E'])?;
    let parsed: i64 = exponent.parse().ok()?;
    // COMPAT: upstream cuts the exponent to 32 bits.
    Some((Format::DecimalExponent, parsed as i32))
}

fn decimal_is_remembered(parts: &Parts) -> bool {
    let shifted = || parts.whole.bytes().chain(parts.fraction.bytes());
    let zeros_at_end = parts
        .fraction
        .bytes()
        .rev()
        .chain(parts.whole.bytes().rev())
        .take_while(|b| *b == b'0')
        .count();
    shifted().next() != Some(b'0') && zeros_at_end < 3
}

fn binary_is_remembered(parts: &Parts, power: i32) -> bool {
    let precision = 15 - parts.whole.len() as i32 - (power as f32 * 3.0 / 10.0) as i32 - 1;
    parts.fraction.is_empty() && precision >= 0 && parts.whole.parse::<i64>().is_ok_and(|v| v & 7 != 0)
}

fn decimal(parts: &Parts, scale: i32, format: Format) -> Quantity {
    let (mantissa, exponent) = parts.number();
    let exponent = exponent.saturating_add(scale);
    let (mantissa, exponent) = at_least_nano(mantissa, exponent);
    Quantity {
        mantissa,
        exponent,
        format,
        text: None,
    }
}

fn binary(parts: &Parts, power: i32) -> Quantity {
    let capped = Quantity {
        mantissa: i64::MAX.into(),
        exponent: 0,
        format: Format::BinarySi,
        text: None,
    };
    let whole = parts.whole.trim_start_matches('0');
    if whole.len() > 19 {
        return capped;
    }
    let factor = 1i128 << power;
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().expect("at most 19 digits")
    };
    // 18 digits of fraction are more than nanos can tell apart; the rest only rounds up.
    let kept = &parts.fraction[..parts.fraction.len().min(18)];
    let mut fraction: i128 = if kept.is_empty() {
        0
    } else {
        kept.parse().expect("at most 18 digits")
    };
    if parts.fraction[kept.len()..].bytes().any(|b| b != b'0') {
        fraction += 1;
    }
    let places = kept.len() as u32;
    let nanos = divided_up(fraction * factor * 1_000_000_000, places.into());
    let (mantissa, exponent) = match nanos % 1_000_000_000 {
        0 => (whole * factor + nanos / 1_000_000_000, 0),
        _ => match (whole * factor).checked_mul(1_000_000_000) {
            Some(big) => (big + nanos, NANO),
            None => return capped,
        },
    };
    let quantity = Quantity {
        mantissa,
        exponent,
        format: Format::BinarySi,
        text: None,
    };
    if quantity > capped {
        return capped;
    }
    let below_one = quantity.mantissa > 0 && quantity < Quantity::new(1, Format::DecimalSi);
    Quantity {
        format: if below_one { Format::DecimalSi } else { Format::BinarySi },
        ..quantity
    }
}

/// Rounds away from zero to whole nanos, the finest step upstream keeps.
fn at_least_nano(mantissa: i128, exponent: i32) -> (i128, i32) {
    if mantissa == 0 {
        return (0, 0);
    }
    if exponent >= NANO {
        return (mantissa, exponent);
    }
    (divided_up(mantissa, u64::from(NANO.abs_diff(exponent))), NANO)
}

// === arithmetic ===

/// `value / 10^places`, rounded away from zero.
fn divided_up(value: i128, places: u64) -> i128 {
    let Some(divisor) = u32::try_from(places).ok().and_then(|p| 10i128.checked_pow(p)) else {
        return value.signum();
    };
    let quotient = value / divisor;
    if value % divisor == 0 {
        quotient
    } else {
        quotient + value.signum()
    }
}

fn trimmed(mut mantissa: i128, mut exponent: i32) -> (i128, i32) {
    while mantissa != 0 && mantissa % 10 == 0 {
        mantissa /= 10;
        exponent = exponent.saturating_add(1);
    }
    (mantissa, exponent)
}

/// The exponent of the first digit.
fn magnitude(quantity: &Quantity) -> i64 {
    i64::from(quantity.mantissa.unsigned_abs().checked_ilog10().unwrap_or(0)) + i64::from(quantity.exponent)
}

/// Both mantissas at one exponent. Saturates where numbers of very different size meet.
fn aligned(a: &Quantity, b: &Quantity) -> (i128, i128, i32) {
    let exponent = a.exponent.min(b.exponent);
    let raised = |q: &Quantity| {
        let power = 10i128.checked_pow(q.exponent.abs_diff(exponent));
        match power.and_then(|p| q.mantissa.checked_mul(p)) {
            Some(value) => value,
            None if q.mantissa == 0 => 0,
            None if q.mantissa < 0 => i128::MIN,
            None => i128::MAX,
        }
    };
    if a.mantissa == 0 {
        return (0, b.mantissa, b.exponent);
    }
    if b.mantissa == 0 {
        return (a.mantissa, 0, a.exponent);
    }
    (raised(a), raised(b), exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_canonical_as_upstream() {
        for (text, canonical) in [
            ("0", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("0.0", "0"),
            ("0Ki", "0"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("0.100", "100m"),
            ("1024Ki", "1Mi"),
            ("1023Ki", "1023Ki"),
            ("1000Mi", "1000Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.5Gi", "512Mi"),
            ("1.5Ki", "1536"),
            ("2048", "2048"),
            ("+5", "+5"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1e6", "1e6"),
            ("10e2", "1e3"),
            ("1E4", "10e3"),
            ("1.5e3", "1500"),
            ("1e-3", "1e-3"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("0.0000000001", "1n"),
            ("-0.0000000001", "-1n"),
            ("1e-100", "1e-9"),
            ("9223372036854775808", "9223372036854775808"),
            ("100Ei", "9223372036854775807"),
            ("-500m", "-500m"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1.", "1."),
            (".5", "500m"),
            ("5.0", "5"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn errors_have_upstreams_words() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("1x", QuantityError::Format),
            ("a", QuantityError::Format),
            ("1 ", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1Kii", QuantityError::Suffix),
            ("1mm", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1ki", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact() {
        let q = |t: &str| Quantity::parse(t).unwrap();
        assert_eq!(q("1").cmp(&q("1000m")), Ordering::Equal);
        assert!(q("1Gi") > q("1G") && q("-1") < q("0") && q("1e400") > q("1e399") && q("-1e400") < q("1n"));
        assert_eq!(q("1Gi").add(&q("1Gi")).canonical(), "2Gi");
        assert_eq!(q("1").sub(&q("300m")).canonical(), "700m");
        assert_eq!(q("0").add(&q("1Ki")).canonical(), "1Ki");
        assert_eq!(
            (q("1500m").value(), q("1500m").milli_value(), q("-1500m").value()),
            (2, 1500, -2)
        );
        assert_eq!(q("1e30").value(), i64::MAX);
        assert_eq!(q("1Mi").as_i64(), Some(1048576));
        assert_eq!(q("1m").as_i64(), None);
    }

    #[test]
    fn hostile_texts_neither_panic_nor_stall() {
        for text in [
            "1e2147483647",
            "1e-2147483648",
            "1e9223372036854775807",
            "9e99999999999999999999",
            &"9".repeat(100_000),
        ] {
            if let Ok(q) = Quantity::parse(text) {
                let _ = (
                    q.canonical(),
                    q.value(),
                    q.milli_value(),
                    q.as_i64(),
                    q.add(&q),
                    q.cmp(&Quantity::ZERO),
                );
            }
        }
    }
}
