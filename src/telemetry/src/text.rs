//! The Prometheus text format (0.0.4), with numbers as Go prints them: user rules match `le="1e+06"` as a string.

use crate::exemplars::Exemplar;
use crate::openmetrics;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use std::fmt::Write;

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Which of the two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0.0.4.
    Text,
    /// See [`crate::openmetrics`].
    OpenMetrics,
}

/// The examples of one series of a histogram, by its family's name.
type Examples<'a> = &'a dyn Fn(&str, &Metric) -> Vec<Option<Exemplar>>;

/// Appends the families in the text format. Series are sorted by label values.
pub fn write(families: &[MetricFamily], out: &mut String) {
    write_as(Format::Text, families, &|_, _| Vec::new(), out);
}

pub(crate) fn write_as(format: Format, families: &[MetricFamily], examples: Examples, out: &mut String) {
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::GAUGE => "gauge",
            MetricType::UNTYPED => "untyped",
        };
        header(format, family.name(), family.help(), kind, out);
        let mut metrics: Vec<&Metric> = family.get_metric().iter().collect();
        metrics.sort_by(|a, b| values(a).cmp(values(b)));
        for metric in metrics {
            match family.get_field_type() {
                MetricType::COUNTER => sample(family.name(), metric, None, metric.get_counter().get_value(), out),
                MetricType::HISTOGRAM => histogram(family.name(), metric, &examples(family.name(), metric), out),
                _ => sample(family.name(), metric, None, metric.get_gauge().get_value(), out),
            }
        }
    }
}

/// Appends a family's `# HELP` and `# TYPE` lines.
pub fn header(format: Format, name: &str, help: &str, kind: &str, out: &mut String) {
    let mut help = help.replace('\\', "\\\\").replace('\n', "\\n");
    let (mut name, mut kind) = (name, kind);
    if format == Format::OpenMetrics {
        help = help.replace('"', "\\\"");
        if kind == "counter" {
            (name, kind) = match name.strip_suffix("_total") {
                Some(base) => (base, kind),
                None => (name, "unknown"),
            };
        }
    }
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to a String cannot fail");
}

/// Appends a number as Go's `strconv.FormatFloat(f, 'g', -1, 64)`.
pub fn number(value: f64, out: &mut String) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    // Rust's shortest exponent form has the same digits; only the layout differs.
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the exponent form has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is an integer");
    if (-4..21).contains(&exponent) && (exponent < 6 || value == 0.0) {
        write!(out, "{value}").expect("writing to a String cannot fail");
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{mantissa}e{sign}{:02}", exponent.abs()).expect("writing to a String cannot fail");
    }
}

fn values(metric: &Metric) -> impl Iterator<Item = &str> {
    metric.get_label().iter().map(LabelPair::value)
}

fn histogram(name: &str, metric: &Metric, examples: &[Option<Exemplar>], out: &mut String) {
    let histogram = metric.get_histogram();
    let bucket_name = format!("{name}_bucket");
    let finite = histogram.get_bucket().iter().filter(|b| b.upper_bound().is_finite());
    let bounds = finite.map(|b| (b.upper_bound(), b.cumulative_count()));
    let all = bounds.chain([(f64::INFINITY, histogram.get_sample_count())]);
    for (i, (bound, count)) in all.enumerate() {
        sample(&bucket_name, metric, Some(bound), count as f64, out);
        if let Some(Some(example)) = examples.get(i) {
            out.pop();
            openmetrics::exemplar(example, out);
            out.push('\n');
        }
    }
    sample(&format!("{name}_sum"), metric, None, histogram.get_sample_sum(), out);
    sample(
        &format!("{name}_count"),
        metric,
        None,
        histogram.get_sample_count() as f64,
        out,
    );
}

fn sample(name: &str, metric: &Metric, le: Option<f64>, value: f64, out: &mut String) {
    out.push_str(name);
    let mut separator = '{';
    for label in metric.get_label() {
        out.push(separator);
        out.push_str(label.name());
        out.push_str("=\"");
        escape(label.value(), out);
        out.push('"');
        separator = ',';
    }
    if let Some(bound) = le {
        out.push(separator);
        out.push_str("le=\"");
        number(bound, out);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    number(value, out);
    out.push('\n');
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Families;

    #[test]
    fn numbers_read_as_go_prints_them() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (100_000.0, "100000"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (999_999.0, "999999"),
            (1e21, "1e+21"),
            (9.999_999_999_999_999e-6, "9.999999999999999e-06"),
            (f64::INFINITY, "+Inf"),
            (-2.5, "-2.5"),
        ] {
            let mut out = String::new();
            number(value, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn families_are_written_whole() {
        let families = Families::default();
        families
            .counters("b_total", "B.", &["verb", "code"])
            .with(&["GET", "2\"00"])
            .inc();
        families
            .histograms("a_sizes", "A.", &[], &[1000.0, 1e6])
            .with(&[])
            .observe(1500.0);
        let mut out = String::new();
        write(&families.gather(), &mut out);
        assert_eq!(
            out,
            "# HELP a_sizes A.\n# TYPE a_sizes histogram\na_sizes_bucket{le=\"1000\"} 0\na_sizes_bucket{le=\"1e+06\"} 1\n\
             a_sizes_bucket{le=\"+Inf\"} 1\na_sizes_sum 1500\na_sizes_count 1\n\
             # HELP b_total B.\n# TYPE b_total counter\nb_total{code=\"2\\\"00\",verb=\"GET\"} 1\n\
             # HELP fairlead_metric_series_dropped_total Samples of series above a family's bound.\n\
             # TYPE fairlead_metric_series_dropped_total counter\nfairlead_metric_series_dropped_total 0\n"
        );
    }
}
