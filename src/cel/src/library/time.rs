//! Parts of timestamps and durations.
// PERFORMANCE: per-request path

mod zone;

use super::Row;
use crate::value::{Civil, EvalError, Result, Value};

macro_rules! part {
    ($name:literal, $id:literal, $of:expr) => {
        (
            $name,
            &[
                (concat!("timestamp_to_", $id), "timestamp.() -> int"),
                (concat!("timestamp_to_", $id, "_with_tz"), "timestamp.(string) -> int"),
            ],
            |args| {
                let of: fn(&Civil) -> i64 = $of;
                Ok(Value::Int(of(&civil(args)?)))
            },
        )
    };
}

macro_rules! clock_part {
    ($name:literal, $id:literal, $duration_id:literal, $of:expr, $of_duration:expr) => {
        (
            $name,
            &[
                (concat!("timestamp_to_", $id), "timestamp.() -> int"),
                (concat!("timestamp_to_", $id, "_with_tz"), "timestamp.(string) -> int"),
                ($duration_id, "duration.() -> int"),
            ],
            |args| {
                let of: fn(&Civil, u32) -> i64 = $of;
                let of_duration: fn(i64) -> i64 = $of_duration;
                match &args[0] {
                    Value::Duration(d) => Ok(Value::Int(of_duration(*d))),
                    Value::Timestamp(t) => Ok(Value::Int(of(&civil(args)?, t.nanos))),
                    _ => Err(EvalError::no_such_overload()),
                }
            },
        )
    };
}

pub const FUNCTIONS: &[Row] = &[
    part!("getFullYear", "year", |c| c.year),
    part!("getMonth", "month", |c| c.month - 1),
    part!("getDayOfYear", "day_of_year", |c| c.day_of_year),
    part!("getDayOfMonth", "day_of_month", |c| c.day - 1),
    part!("getDate", "day_of_month_1_based", |c| c.day),
    part!("getDayOfWeek", "day_of_week", |c| c.weekday),
    clock_part!("getHours", "hours", "duration_to_hours", |c, _| c.hour, |d| d
        / 3_600_000_000_000),
    clock_part!("getMinutes", "minutes", "duration_to_minutes", |c, _| c.minute, |d| d
        / 60_000_000_000),
    clock_part!("getSeconds", "seconds", "duration_to_seconds", |c, _| c.second, |d| d
        / 1_000_000_000),
    clock_part!(
        "getMilliseconds",
        "milliseconds",
        "duration_to_milliseconds",
        |_, nanos| i64::from(nanos / 1_000_000),
        |d| d / 1_000_000
    ),
];

/// A timestamp by the clock of a zone, which is UTC where none is given.
fn civil(args: &[Value]) -> Result<Civil> {
    let Value::Timestamp(t) = &args[0] else {
        return Err(EvalError::no_such_overload());
    };
    let offset = match args.get(1) {
        None => 0,
        Some(Value::String(zone)) => zone::offset(zone, t.seconds)?,
        Some(_) => return Err(EvalError::no_such_overload()),
    };
    Ok(Civil::of(t.seconds + offset))
}
