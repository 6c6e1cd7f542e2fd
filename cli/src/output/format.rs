//! Numbers, sizes, times and attribute values as people read them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tarn_model::{AttributeValue, datetime};

/// `6000` as `6,000`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 delta`, `2,000 deltas`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `5242880` as `5.0 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `0.0123 s` as `12.3 ms`.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0} h", seconds / 3_600.0)
    } else {
        format!("{:.0} days", seconds / 86_400.0)
    }
}

/// How long before `now_ms` something was; both in milliseconds since the Unix epoch.
pub(crate) fn ago(then_ms: i64, now_ms: i64) -> String {
    let ms = u64::try_from(now_ms.saturating_sub(then_ms)).unwrap_or(0);
    if ms < 1_000 { "just now".to_owned() } else { format!("{} ago", duration(Duration::from_millis(ms))) }
}

/// Milliseconds since the Unix epoch as RFC 3339.
pub(crate) fn instant(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms)
        .map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// An attribute value without quotes.
pub(crate) fn value_text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Bool(value) => value.to_string(),
        AttributeValue::Int64(value) => value.to_string(),
        AttributeValue::Float64(value) => value.to_string(),
        AttributeValue::String(value) => value.clone(),
        AttributeValue::Uuid(value) => value.to_string(),
        AttributeValue::DateTime(micros) => datetime::format(*micros),
    }
}

/// `key=value, key=value`.
pub(crate) fn values_text<'a>(values: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>) -> String {
    values.into_iter().map(|(key, value)| format!("{key}={}", value_text(value))).collect::<Vec<_>>().join(", ")
}

/// Text from a store made safe for a terminal: one line, control characters (escape sequences among them) replaced.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\n' || c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 6_000_123].map(count), ["0", "999", "1,000", "6,000,123"]);
    }

    #[test]
    fn sizes_and_spans_keep_three_digits() {
        assert_eq!([0, 1023, 1024, 5 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]);
        let ms = [0.05, 12.3, 1_500.0, 300_000.0].map(|ms: f64| duration(Duration::from_secs_f64(ms / 1e3)));
        assert_eq!(ms, ["50 µs", "12.3 ms", "1.5 s", "5 min"]);
        assert_eq!(ago(1_000, 500), "just now");
        assert_eq!(ago(0, 90_000), "90.0 s ago");
    }

    #[test]
    fn stored_text_cannot_send_escape_sequences() {
        assert_eq!(one_line("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb c");
    }
}
