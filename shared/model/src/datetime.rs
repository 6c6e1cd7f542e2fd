//! Date-times as text: ISO 8601 in, to the microsecond in UTC; and out in the forms of the wire.
//!
//! A date-time without an offset is UTC. Digits beyond the microsecond are dropped. The range is that of .NET, the years
//! 1 to 9999. Not here: any clock.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta};

/// 0001-01-01T00:00:00Z, in microseconds since 1970.
pub const MIN: i64 = -62_135_596_800_000_000;
/// 9999-12-31T23:59:59.999999Z, in microseconds since 1970.
pub const MAX: i64 = 253_402_300_799_999_999;

/// Whether a number of microseconds since 1970 is in the years 1 to 9999.
pub fn in_range(micros: i64) -> bool {
    (MIN..=MAX).contains(&micros)
}

/// Parses `2024-01-31`, `2024-01-31T12:00`, `…T12:00:00`, with up to 7 fractional digits, and with nothing, `Z` or an offset
/// like `+05:00` behind. `None` for anything else and for instants outside [`MIN`] to [`MAX`].
pub fn parse(text: &str) -> Option<i64> {
    // Everything in the grammar is ASCII; so byte offsets are safe to cut at.
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date.as_bytes() else { return None };
    let year = digits(&[y1, y2, y3, y4])?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, digits(&[m1, m2])?, digits(&[d1, d2])?)?;
    let (clock, offset_seconds) = match time {
        None => (None, 0),
        Some(time) => {
            let (clock, offset) = split_offset(time)?;
            (Some(clock), offset)
        }
    };
    let local = match clock {
        None => date.and_hms_opt(0, 0, 0)?,
        Some(clock) => parse_clock(date, clock)?,
    };
    let micros = local.checked_sub_signed(TimeDelta::seconds(offset_seconds))?.and_utc().timestamp_micros();
    Some(micros).filter(|&micros| in_range(micros))
}

/// `HH:MM[:SS[.f{1,7}]]`
fn parse_clock(date: NaiveDate, clock: &str) -> Option<NaiveDateTime> {
    let (whole, fraction) = match clock.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (clock, None),
    };
    let (hour, minute, second) = match *whole.as_bytes() {
        [h1, h2, b':', m1, m2] if fraction.is_none() => (digits(&[h1, h2])?, digits(&[m1, m2])?, 0),
        [h1, h2, b':', m1, m2, b':', s1, s2] => (digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?),
        _ => return None,
    };
    let micros = match fraction {
        None => 0,
        Some(fraction) if (1..=7).contains(&fraction.len()) => {
            digits(fraction.as_bytes())?;
            let microseconds = fraction.get(..fraction.len().min(6))?;
            let scale = 10_u32.pow(6 - u32::try_from(microseconds.len()).ok()?);
            digits(microseconds.as_bytes())? * scale
        }
        Some(_) => return None,
    };
    date.and_hms_micro_opt(hour, minute, second, micros)
}

/// The clock part and the offset in seconds.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = time.find(['+', '-']) else { return Some((time, 0)) };
    let (clock, offset) = time.split_at_checked(at)?;
    let &[sign, h1, h2, b':', m1, m2] = offset.as_bytes() else { return None };
    let (hours, minutes) = (digits(&[h1, h2])?, digits(&[m1, m2])?);
    if hours > 14 || minutes > 59 || (hours == 14 && minutes > 0) {
        return None;
    }
    let seconds = i64::from(hours * 3600 + minutes * 60);
    Some((clock, if sign == b'-' { -seconds } else { seconds }))
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// As responses carry it: `2024-01-31T12:00:00Z`, with as many of 3 or 6 fractional digits as it takes. An instant that
/// no calendar holds gives its number.
pub fn format(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(instant) => instant.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => micros.to_string(),
    }
}

/// .NET's round-trip form, always with seven fractional digits, as messages print it.
pub fn format_round_trip(micros: i64) -> String {
    match DateTime::from_timestamp_micros(micros) {
        Some(instant) => instant.format("%Y-%m-%dT%H:%M:%S.%6f0Z").to_string(),
        None => micros.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_accepted_form_gives_microseconds_in_utc() {
        for (text, micros) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00", 0),
            ("1970-01-01T00:00:01", 1_000_000),
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("1970-01-01t00:00:01z", 1_000_000),
            ("1970-01-01T00:00:00.5", 500_000),
            ("1970-01-01T00:00:00.000001", 1),
            ("1970-01-01T00:00:00.0000019Z", 1),
            ("1970-01-01T05:00:00+05:00", 0),
            ("1969-12-31T19:00:00.123-05:00", 123_000),
            ("1970-01-01T00:00:00+00:00", 0),
            ("0001-01-01T00:00:00", MIN),
            ("9999-12-31T23:59:59.9999999Z", MAX),
            ("2024-02-29T23:59:59Z", 1_709_251_199_000_000),
        ] {
            assert_eq!(parse(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "now",
            "2024",
            "2024-1-1",
            "2023-02-29",
            "2024-13-01",
            "2024-01-31 12:00:00",
            "2024-01-31T",
            "2024-01-31T12",
            "2024-01-31T24:00:00",
            "2024-01-31T12:00:60",
            "2024-01-31T12:00:00.",
            "2024-01-31T12:00:00.12345678",
            "2024-01-31T12:00.5",
            "2024-01-31T12:00:00+5",
            "2024-01-31T12:00:00+0500",
            "2024-01-31T12:00:00+15:00",
            "2024-01-31T12:00:00+14:01",
            "2024-01-31T12:00:00Z ",
            " 2024-01-31T12:00:00Z",
            "2024-01-31TZ",
            "0000-01-01T00:00:00",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "+2024-01-31T00:00:00",
            "２024-01-31T00:00:00",
            "2024-01-31T12:00:00.é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formatting_uses_as_many_digits_as_it_takes() {
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(1_000), "1970-01-01T00:00:00.001Z");
        assert_eq!(format(1), "1970-01-01T00:00:00.000001Z");
        assert_eq!(format(MIN), "0001-01-01T00:00:00Z");
        assert_eq!(format_round_trip(1), "1970-01-01T00:00:00.0000010Z");
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_back(micros in MIN..=MAX) {
            prop_assert_eq!(parse(&format(micros)), Some(micros));
            prop_assert_eq!(parse(&format_round_trip(micros)), Some(micros));
        }

        #[test]
        fn any_text_is_refused_or_in_range(text in "[0-9]{4}-[0-1][0-9]-[0-3][0-9](T[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\\.[0-9]{0,8})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?") {
            prop_assert!(parse(&text).is_none_or(in_range));
        }
    }
}
