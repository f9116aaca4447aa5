//! The text format of Prometheus.

use std::fmt::Write as _;

use crate::histogram::{BOUNDS_NS, Distribution};

/// Labels of a sample, in their order.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A metric with its samples.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

/// The samples of a metric, by its type.
pub(super) enum Samples {
    /// Values that go up and down.
    Gauge(Vec<(Labels, u64)>),
    /// Values that only go up.
    Counter(Vec<(Labels, u64)>),
    /// Values that only go up, in nanoseconds, shown in seconds.
    Seconds(Vec<(Labels, u64)>),
    /// Distributions of durations.
    Histogram(Vec<(Labels, Distribution)>),
}

/// Writes families as a text.
pub(super) fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { name, help, samples } in families {
        let kind = match samples {
            Samples::Gauge(_) => "gauge",
            Samples::Counter(_) | Samples::Seconds(_) => "counter",
            Samples::Histogram(_) => "histogram",
        };
        // Writing to a string can't fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        match samples {
            Samples::Gauge(values) | Samples::Counter(values) => {
                values.iter().for_each(|(labels, value)| sample(&mut text, name, labels, value));
            }
            Samples::Seconds(values) => values
                .iter()
                .for_each(|(labels, ns)| sample(&mut text, name, labels, &seconds(*ns))),
            Samples::Histogram(values) => {
                values.iter().for_each(|(labels, found)| buckets(&mut text, name, labels, found));
            }
        }
    }
    text
}

fn buckets(text: &mut String, name: &str, labels: &Labels, found: &Distribution) {
    let bounds = BOUNDS_NS.iter().map(|bound| seconds(*bound)).chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(found.up_to.iter().chain([&found.count])) {
        let mut labels = labels.clone();
        labels.push(("le", bound));
        sample(text, &format!("{name}_bucket"), &labels, count);
    }
    sample(text, &format!("{name}_sum"), labels, &seconds(found.sum_ns));
    sample(text, &format!("{name}_count"), labels, &found.count);
}

fn sample(text: &mut String, name: &str, labels: &Labels, value: &dyn std::fmt::Display) {
    text.push_str(name);
    for (at, (label, told)) in labels.iter().enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        let told = told.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
        let _ = write!(text, "{label}=\"{told}\"");
    }
    if !labels.is_empty() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

/// Nanoseconds in seconds, exactly and without zeros at the end.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Histogram;

    #[test]
    fn each_metric_has_its_help_its_type_and_its_samples() {
        let labels = vec![("tenant", "x".to_owned()), ("why", "a \"b\"\\".to_owned())];
        let families = [
            Family {
                name: "a",
                help: "Of a test.",
                samples: Samples::Gauge(vec![(labels, 1), (Vec::new(), 2)]),
            },
            Family {
                name: "b_total",
                help: "Of a test.",
                samples: Samples::Seconds(vec![(Vec::new(), 1_500_000_000)]),
            },
        ];
        let expected = "# HELP a Of a test.\n# TYPE a gauge\n\
            a{tenant=\"x\",why=\"a \\\"b\\\"\\\\\"} 1\na 2\n\
            # HELP b_total Of a test.\n# TYPE b_total counter\nb_total 1.5\n";
        assert_eq!(text(&families), expected);
    }

    #[test]
    fn a_histogram_ends_with_all_its_durations() {
        let histogram = Histogram::default();
        histogram.record(1_000_000);
        histogram.record(90_000_000_000);
        let samples = Samples::Histogram(vec![(Vec::new(), histogram.read())]);
        let text = text(&[Family { name: "a_seconds", help: "Of a test.", samples }]);
        for line in [
            "a_seconds_bucket{le=\"0.0005\"} 0",
            "a_seconds_bucket{le=\"0.001\"} 1",
            "a_seconds_bucket{le=\"60\"} 1",
            "a_seconds_bucket{le=\"+Inf\"} 2",
            "a_seconds_sum 90.001",
            "a_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
