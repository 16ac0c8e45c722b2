//! RFC 3339 as Go reads it, with Go's words for what is wrong.
//!
//! Source of the rules: Go's time.Parse with the layouts of metav1.Time and metav1.MicroTime.

use super::Timestamp;
use crate::field::go_quote;
use time::{Date, Month};

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Reads a `metav1.Time`.
///
/// # Errors
/// Go's message: `parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"`.
pub fn parse_seconds(text: &str) -> Result<Timestamp, String> {
    Reader {
        text,
        rest: text,
        layout: SECONDS,
    }
    .read()
}

/// Reads a `metav1.MicroTime`, whose six digits of fraction must be there.
pub fn parse_micros(text: &str) -> Result<Timestamp, String> {
    Reader {
        text,
        rest: text,
        layout: MICROS,
    }
    .read()
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Timestamp, String> {
        let year = self.year()?;
        self.literal("-")?;
        let month = self.number("01", true)?;
        if !(1..=12).contains(&month) {
            return Err(self.out_of_range("month"));
        }
        self.literal("-")?;
        let day = self.number("02", true)?;
        self.literal("T")?;
        let hour = self.number("15", false)?;
        if hour > 23 {
            return Err(self.out_of_range("hour"));
        }
        self.literal(":")?;
        let minute = self.number("04", true)?;
        if minute > 59 {
            return Err(self.out_of_range("minute"));
        }
        self.literal(":")?;
        let second = self.number("05", true)?;
        if second > 59 {
            return Err(self.out_of_range("second"));
        }
        let nanos = if self.layout == MICROS {
            self.six_digits()?
        } else {
            self.fraction()
        };
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!(
                "parsing time {}: extra text: {}",
                go_quote(self.text),
                go_quote(self.rest)
            ));
        }
        let month = Month::try_from(u8::try_from(month).expect("checked above")).expect("checked above");
        let date = u8::try_from(day)
            .ok()
            .and_then(|day| Date::from_calendar_date(year, month, day).ok());
        let Some(date) = date else {
            return Err(self.out_of_range("day"));
        };
        let days = i64::from(date.to_julian_day()) - 2_440_588;
        let seconds = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second) - offset;
        Ok(Timestamp(i128::from(seconds) * 1_000_000_000 + i128::from(nanos)))
    }

    fn bad(&self, at: &str, element: &str) -> String {
        format!(
            "parsing time {} as {}: cannot parse {} as {}",
            go_quote(self.text),
            go_quote(self.layout),
            go_quote(at),
            go_quote(element)
        )
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", go_quote(self.text))
    }

    fn year(&mut self) -> Result<i32, String> {
        let parsed = self
            .rest
            .get(..4)
            .filter(|y| y.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|y| y.parse().ok());
        let Some(year) = parsed else {
            return Err(self.bad(self.rest, "2006"));
        };
        self.rest = &self.rest[4..];
        Ok(year)
    }

    fn literal(&mut self, literal: &str) -> Result<(), String> {
        self.rest = self
            .rest
            .strip_prefix(literal)
            .ok_or_else(|| self.bad(self.rest, literal))?;
        Ok(())
    }

    /// Two digits, or one where it need not be fixed.
    fn number(&mut self, element: &str, fixed: bool) -> Result<u32, String> {
        let digits = self.rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
        if digits == 0 || (fixed && digits == 1) {
            return Err(self.bad(self.rest, element));
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        Ok(number.parse().expect("it is one or two digits"))
    }

    /// A fraction that the layout does not ask for; digits past nanoseconds are cut.
    fn fraction(&mut self) -> u32 {
        let Some(tail) = self.rest.strip_prefix(['.', ',']) else {
            return 0;
        };
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        let (fraction, rest) = tail.split_at(digits);
        self.rest = rest;
        let kept = &fraction[..digits.min(9)];
        kept.parse::<u32>().expect("at most nine digits") * 10u32.pow(9 - kept.len() as u32)
    }

    fn six_digits(&mut self) -> Result<u32, String> {
        let fraction = self.rest.get(..7).and_then(|f| f.strip_prefix(['.', ',']));
        let parsed = fraction
            .filter(|f| f.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|f| f.parse::<u32>().ok());
        let Some(micros) = parsed else {
            return Err(self.bad(self.rest, ".000000"));
        };
        self.rest = &self.rest[7..];
        Ok(micros * 1000)
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Result<i64, String> {
        const ELEMENT: &str = "Z07:00";
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let zone = self.rest.get(..6).ok_or_else(|| self.bad(self.rest, ELEMENT))?;
        let bytes = zone.as_bytes();
        let two = |i: usize| {
            let part = &zone[i..i + 2];
            part.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| part.parse::<i64>().expect("two digits"))
        };
        let (Some(hours), Some(minutes), true) = (
            zone.is_ascii().then(|| two(1)).flatten(),
            zone.is_ascii().then(|| two(4)).flatten(),
            bytes[3] == b':',
        ) else {
            return Err(self.bad(self.rest, ELEMENT));
        };
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        let offset = hours * 3600 + minutes * 60;
        let offset = match bytes[0] {
            b'+' => offset,
            b'-' => -offset,
            _ => return Err(self.bad(self.rest, ELEMENT)),
        };
        self.rest = &self.rest[6..];
        Ok(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_reads_what_it_reads() {
        for (text, written) in [
            ("2026-11-24T06:00:00Z", "2026-11-24T06:00:00.000000Z"),
            ("2026-11-24T6:00:00Z", "2026-11-24T06:00:00.000000Z"),
            ("2026-11-24T06:00:00.5+02:00", "2026-11-24T04:00:00.500000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(parse_seconds(text).unwrap().rfc3339_micro(), written, "{text}");
        }
        assert!(parse_micros("2026-11-24T06:00:00.000000Z").is_ok());
    }

    #[test]
    fn errors_have_gos_words() {
        for (text, rest) in [
            (
                "yesterday",
                " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
            (
                "2026-11-24",
                " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"T\"",
            ),
            ("2026-13-01T00:00:00Z", ": month out of range"),
            ("2026-02-30T00:00:00Z", ": day out of range"),
            (
                "2026-11-24T06:00:00",
                " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"\" as \"Z07:00\"",
            ),
            ("2026-11-24T06:00:00Zx", ": extra text: \"x\""),
            ("2026-11-24T06:00:60Z", ": second out of range"),
            (
                "2026-1-24T06:00:00Z",
                " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"1-24T06:00:00Z\" as \"01\"",
            ),
            (
                "2026-11-24T06:00:00+é:00",
                " as \"2006-01-02T15:04:05Z07:00\": cannot parse \"+é:00\" as \"Z07:00\"",
            ),
        ] {
            assert_eq!(parse_seconds(text).unwrap_err(), format!("parsing time {text:?}{rest}"));
        }
        assert_eq!(
            parse_micros("2026-11-24T06:00:00Z").unwrap_err(),
            "parsing time \"2026-11-24T06:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"Z\" as \".000000\""
        );
    }
}
