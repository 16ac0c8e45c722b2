//! Sets of indexes as text: `1,3-5,7`.

use fairlead_api::field::go_quote;

/// How many indexes a text names, each below `completions`.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut last, mut total) = (None, 0);
    for part in text.split(',') {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that is in both sets; what cannot be read is left out.
pub fn overlap(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    if completed.is_empty() || failed.is_empty() {
        return None;
    }
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',')
            .filter_map(|part| interval(part, completions).ok())
            .collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut i, mut j) = (0, 0);
    while let (Some(done), Some(lost)) = (completed.get(i), failed.get(j)) {
        if done.0 <= lost.1 && lost.0 <= done.1 {
            return Some(done.0.max(lost.0));
        }
        if done.0 <= lost.0 {
            i += 1;
        } else {
            j += 1;
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let parts: Vec<&str> = text.split('-').collect();
    if parts.len() > 2 {
        return Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(text)
        ));
    }
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!(
            "cannot convert string to integer for index: {}",
            go_quote(text)
        )),
        Ok(index) if index >= completions => Err(format!("too large index: {}", go_quote(text))),
        Ok(index) => Ok(index),
    };
    let from = index(parts[0])?;
    let Some(to) = parts.get(1) else {
        return Ok((from, from));
    };
    let to = index(to)?;
    if from >= to {
        return Err(format!("non-increasing order, previous: {from}, current: {to}"));
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_increase_below_the_completions() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for bad in ["5", "x", "1-2-3", "3-2", "2,1", "1-"] {
            assert!(count(bad, 5).is_err(), "{bad}");
        }
        assert_eq!(overlap("0-2,5", "3,5", 9), Some(5));
        assert_eq!(overlap("0-2", "3-4", 9), None);
    }
}
