//! Schedules of cron jobs, and time zones: what is wrong with one.
//!
//! Source of the grammar and wording: robfig/cron v3 parser.go and Go's time.LoadLocation.

use fairlead_api::time::GoDuration;
use std::collections::HashSet;
use std::sync::LazyLock;

struct Bounds {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

/// Minute, hour, day of month, month, day of week.
const FIELDS: [Bounds; 5] = [
    Bounds {
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Bounds {
        min: 0,
        max: 6,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

/// Why a schedule cannot be read; `None` where it can.
pub fn schedule_error(schedule: &str) -> Option<String> {
    parse(schedule).err()
}

fn parse(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        let Some((zone, after)) = schedule.split_once(' ') else {
            return Err("runtime error: slice bounds out of range".into());
        };
        let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        if !is_time_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly {} fields, found {}: [{}]",
            FIELDS.len(),
            fields.len(),
            fields.join(" ")
        ));
    }
    for (text, bounds) in fields.iter().zip(&FIELDS) {
        for range in text.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    if let "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" = text {
        return Ok(());
    }
    let Some(every) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    match GoDuration::parse(every) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("failed to parse duration {text}: {error}")),
    }
}

/// `number[-number][/step]`, or `*` in place of the range.
fn check_range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let parts: Vec<&str> = text.split('/').collect();
    let limits: Vec<&str> = parts[0].split('-').collect();
    let (mut start, mut end) = (bounds.min, bounds.max);
    if limits[0] != "*" && limits[0] != "?" {
        start = number_or_name(limits[0], bounds)?;
        end = match limits.as_slice() {
            [_] => start,
            [_, high] => number_or_name(high, bounds)?,
            _ => return Err(format!("too many hyphens: {text}")),
        };
    }
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if limits.len() == 1 {
                end = bounds.max;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (min, max) = (bounds.min, bounds.max);
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {text}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let name = text.to_lowercase();
    match bounds.names.iter().position(|known| *known == name) {
        Some(at) => Ok(bounds.min + at as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let value = match text.parse::<i64>() {
        Ok(value) => value,
        Err(_) => {
            let in_range = digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit());
            let why = if in_range {
                "invalid syntax"
            } else {
                "value out of range"
            };
            return Err(format!(
                "failed to parse int from {text}: strconv.Atoi: parsing {}: {why}",
                fairlead_api::field::go_quote(text)
            ));
        }
    };
    u64::try_from(value).map_err(|_| format!("negative number ({value}) not allowed: {text}"))
}

/// What is wrong with the time zone of a cron job.
pub fn time_zone_errors(zone: &str) -> Vec<String> {
    if zone.is_empty() {
        return vec!["timeZone must be nil or non-empty string".into()];
    }
    let unknown = || format!("unknown time zone {zone}");
    let part = |part: &str| {
        !matches!(part, "." | "..")
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_+".contains(&b))
    };
    if !zone.split('/').all(part) {
        return vec![unknown()];
    }
    let mut errors = Vec::new();
    if zone.eq_ignore_ascii_case("local") {
        errors.push("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    if !is_time_zone(zone) {
        errors.push(unknown());
    }
    errors
}

/// Whether the IANA database has it. "Local" is the server's own.
fn is_time_zone(zone: &str) -> bool {
    static ZONES: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("time_zones.txt").lines().collect());
    matches!(zone, "" | "UTC" | "Local") || ZONES.contains(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_five_fields_or_a_name() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-MAR mon",
            "? ? ? ? ?",
            "@hourly",
            "@every 1h30m",
            "5/10 * * * *",
        ] {
            assert_eq!(schedule_error(good), None, "{good}");
        }
        for (bad, why) in [
            ("* *", "expected exactly 5 fields, found 2: [* *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(schedule_error(bad).as_deref(), Some(why), "{bad}");
        }
    }

    #[test]
    fn zones_are_those_of_the_database() {
        assert!(time_zone_errors("Europe/Berlin").is_empty());
        assert_eq!(time_zone_errors("Europe/Nowhere"), ["unknown time zone Europe/Nowhere"]);
        assert_eq!(time_zone_errors("../etc").len(), 1);
        assert_eq!(time_zone_errors("Local").len(), 1);
    }
}
