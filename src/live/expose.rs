//! Metrics as bytes: protobuf for whoever asks for it, Prometheus's text format 0.0.4 for everybody else.
//!
//! Only protobuf carries native histograms. The text is made from the same messages, so that both say the same; the crate's
//! own text is that of OpenMetrics, whose names of counters the older parsers do not understand.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use super::metrics::model::{Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::fmt::Write;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `io.prometheus.client.MetricFamily`, each behind its length.
    Protobuf,
    /// Text, version 0.0.4.
    Text,
}

const PROTOBUF: &str = "application/vnd.google.protobuf";
const MESSAGE: (&str, &str) = ("proto", "io.prometheus.client.MetricFamily");
const ENCODING: (&str, &str) = ("encoding", "delimited");

impl Format {
    /// What an `Accept` header prefers (RFC 9110, section 12.5.1): text unless protobuf is asked for by name, and text is not
    /// preferred to it.
    pub fn of_accept(accept: &str) -> Self {
        let mut qualities = [0.0_f32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or("").to_ascii_lowercase();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let value = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.trim().trim_matches('"'))
            };
            let quality: f32 = value("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            let says = |(key, wanted): (&str, &str)| value(key).is_none_or(|value| value == wanted);
            let at = match name.as_str() {
                PROTOBUF if says(MESSAGE) && says(ENCODING) => 0,
                "text/plain" | "text/*" | "*/*" => 1,
                _ => continue,
            };
            qualities[at] = quality.max(qualities[at]);
        }
        let [protobuf, text] = qualities;
        if protobuf > 0.0 && protobuf >= text { Self::Protobuf } else { Self::Text }
    }

    /// The value of the `Content-Type` header.
    pub fn content_type(self) -> String {
        match self {
            Self::Protobuf => format!("{PROTOBUF}; {}={}; {}={}", MESSAGE.0, MESSAGE.1, ENCODING.0, ENCODING.1),
            Self::Text => "text/plain; version=0.0.4; charset=utf-8".to_string(),
        }
    }
}

/// The families in text format 0.0.4.
pub fn text_format(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    for family in families {
        // Writing to a String cannot fail.
        let _ = write_family(&mut text, family);
    }
    text
}

fn write_family(text: &mut String, family: &MetricFamily) -> std::fmt::Result {
    let MetricFamily { name, help, metric, .. } = family;
    let kind = match family.r#type() {
        MetricType::Counter => "counter",
        MetricType::Gauge => "gauge",
        MetricType::Histogram => "histogram",
        MetricType::Summary | MetricType::Untyped | MetricType::GaugeHistogram => "untyped",
    };
    writeln!(text, "# HELP {name} {}", help.replace('\\', "\\\\").replace('\n', "\\n"))?;
    writeln!(text, "# TYPE {name} {kind}")?;
    for Metric { label, counter, gauge, histogram, .. } in metric {
        let value = counter.as_ref().map(|counter| counter.value).or(gauge.as_ref().map(|gauge| gauge.value));
        if let Some(value) = value {
            writeln!(text, "{name}{} {}", labels(label, None), number(value))?;
        }
        if let Some(histogram) = histogram {
            write_histogram(text, name, label, histogram)?;
        }
    }
    Ok(())
}

fn write_histogram(text: &mut String, name: &str, label: &[LabelPair], histogram: &Histogram) -> std::fmt::Result {
    let Histogram { sample_count, sample_sum, bucket, .. } = histogram;
    for bucket in bucket {
        let bound = number(bucket.upper_bound);
        writeln!(text, "{name}_bucket{} {}", labels(label, Some(&bound)), bucket.cumulative_count)?;
    }
    writeln!(text, "{name}_sum{} {}", labels(label, None), number(*sample_sum))?;
    writeln!(text, "{name}_count{} {sample_count}", labels(label, None))
}

/// `{name="value"}`, with the upper end of a bucket where there is one; nothing without labels.
fn labels(labels: &[LabelPair], bound: Option<&str>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs = labels.iter().map(|LabelPair { name, value }| format!("{name}=\"{}\"", escaped(value)));
    let pairs: Vec<String> = pairs.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn number(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.to_string() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_for_those_who_ask_for_it() {
        // What Prometheus 2.50 sends with native histograms, and without.
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                      application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let classic = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                       text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (native, Format::Protobuf),
            (classic, Format::Text),
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/vnd.google.protobuf", Format::Protobuf),
            ("text/html, Application/vnd.google.protobuf; q=0.9 ; Encoding=\"delimited\"", Format::Protobuf),
            ("application/vnd.google.protobuf;encoding=text", Format::Text),
            ("application/vnd.google.protobuf;proto=other", Format::Text),
            ("application/vnd.google.protobuf;q=0", Format::Text),
            ("application/vnd.google.protobuf;q=0.3,text/plain", Format::Text),
        ] {
            assert_eq!(Format::of_accept(accept), expected, "{accept}");
        }
    }

    #[test]
    fn values_and_labels_are_written_as_the_format_wants_them() {
        assert_eq!([1.0, 0.000_001, f64::INFINITY, -0.5].map(number), ["1", "0.000001", "+Inf", "-0.5"]);
        let pair = |name: &str, value: &str| LabelPair { name: name.into(), value: value.into() };
        assert_eq!(labels(&[], None), "");
        assert_eq!(labels(&[pair("a", "b\"\\\n")], Some("+Inf")), "{a=\"b\\\"\\\\\\n\",le=\"+Inf\"}");
    }
}
