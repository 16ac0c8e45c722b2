//! The OpenMetrics text format (1.0.0), for scrapers that ask for it: the same series, and exemplars.
//!
//! COMPAT: names and `le` values are those of the older format, since users' rules match them as strings. So a counter
//! whose name does not end in `_total` is of type `unknown` here.

use crate::exemplars::Exemplar;
use crate::metrics::Families;
use crate::text::{self, Format};
use std::fmt::Write;

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";

/// Appends the families, their exemplars and the end mark. `more` appends families of its own before it.
pub fn write(families: &Families, more: impl FnOnce(&mut String), out: &mut String) {
    let example = |name: &str, metric: &prometheus::proto::Metric| families.exemplars(name, metric);
    text::write_as(Format::OpenMetrics, &families.gather(), &example, out);
    more(out);
    out.push_str("# EOF\n");
}

/// Whether OpenMetrics is what an `Accept` header wants most.
pub fn is_wanted(accept: &str) -> bool {
    let (mut open, mut other) = (0.0_f64, 0.0_f64);
    for clause in accept.split(',') {
        let mut parts = clause.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        let (mut quality, mut version) = (1.0_f64, "1.0.0");
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            match name.trim() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = value.trim(),
                _ => {}
            }
        }
        match media_type {
            "application/openmetrics-text" if matches!(version, "1.0.0" | "0.0.1") => open = quality.max(open),
            "text/plain" => other = quality.max(other),
            _ => {}
        }
    }
    open > 0.0 && open >= other
}

/// Appends ` # {trace_id="…"} VALUE TIME`.
pub(crate) fn exemplar(exemplar: &Exemplar, out: &mut String) {
    write!(out, " # {{trace_id=\"{}\"}} ", exemplar.trace).expect("writing to a String cannot fail");
    text::number(exemplar.value, out);
    write!(out, " {:.3}", exemplar.at).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceContext;

    #[test]
    fn a_traced_observation_is_its_buckets_example() {
        let families = Families::default();
        let seconds = families.histograms("a_seconds", "A.", &["verb"], &[0.1, 1.0]);
        let trace = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        seconds.observe(&["GET"], 0.5, Some(trace.id));
        seconds.observe(&["GET"], 0.05, None);
        families.counters("authentication_attempts", "B.", &[]).with(&[]).inc();
        families.counters("b_total", "B \"quoted\".", &[]).with(&[]).inc();
        let mut out = String::new();
        write(&families, |_| {}, &mut out);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "# HELP a_seconds A.",
                "# TYPE a_seconds histogram",
                "a_seconds_bucket{verb=\"GET\",le=\"0.1\"} 1"
            ]
        );
        let example =
            "a_seconds_bucket{verb=\"GET\",le=\"1\"} 2 # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 0.5 ";
        assert!(lines[3].starts_with(example), "{}", lines[3]);
        assert_eq!(lines[4], "a_seconds_bucket{verb=\"GET\",le=\"+Inf\"} 2");
        for line in [
            "# TYPE authentication_attempts unknown",
            "# TYPE b counter",
            "# HELP b B \\\"quoted\\\".",
            "b_total 1",
        ] {
            assert!(lines.contains(&line), "{line} is missing in {out}");
        }
        assert_eq!(lines.last(), Some(&"# EOF"));
    }

    #[test]
    fn the_format_is_the_one_wanted_most() {
        let scraper = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                       text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert!(is_wanted(scraper));
        assert!(!is_wanted(""));
        assert!(!is_wanted("*/*"));
        assert!(!is_wanted(
            "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5"
        ));
        assert!(!is_wanted("application/openmetrics-text;version=2.0.0"));
    }
}
