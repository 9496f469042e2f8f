//! What an operator means by a time: `2h`, `01:30`, `2026-11-23 01:30`, or the whole of RFC 3339. By the clock and the zone of this host.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _, Zoned};

/// The forms, for who has used none of them.
pub(crate) const FORMS: &str = "30m, 2h, 3d, 01:30, 2026-11-23, \"2026-11-23 01:30\" or 2026-11-23T00:30:00Z";

/// Milliseconds since 1970; `None`: it is no time.
pub(crate) fn parse(text: &str, now: &Zoned) -> Option<u64> {
    let time = ago(text, now).or_else(|| text.parse::<Timestamp>().ok()).or_else(|| civil(text, now))?;
    // What lies before 1970 is before everything.
    Some(u64::try_from(time.as_millisecond()).unwrap_or(0))
}

fn ago(text: &str, now: &Zoned) -> Option<Timestamp> {
    let span: Span = text.parse().ok()?;
    // `01:30` is a time of day here, and a length of time elsewhere.
    (!text.starts_with('-') && !text.contains(':')).then(|| now.checked_sub(span).ok().map(|time| time.timestamp()))?
}

fn civil(text: &str, now: &Zoned) -> Option<Timestamp> {
    let in_zone = |time: DateTime, zone: &TimeZone| time.to_zoned(zone.clone()).ok();
    let zone = now.time_zone();
    // Before a date: a text with both is a date as well.
    let time = match (text.contains(':'), text.parse::<Time>(), text.parse::<DateTime>(), text.parse::<Date>()) {
        (true, _, Ok(time), _) => in_zone(time, zone)?,
        (true, Ok(time), ..) => {
            let today = in_zone(now.date().to_datetime(time), zone)?;
            // At one in the morning, 23:30 was yesterday.
            if today > *now { today.checked_sub(1.day()).ok()? } else { today }
        }
        (false, _, _, Ok(date)) => in_zone(date.at(0, 0, 0, 0), zone)?,
        _ => return None,
    };
    Some(time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that is never far from London.
    fn now() -> Zoned {
        "2026-11-23T01:15:00+01:00[+01:00]".parse().unwrap()
    }

    fn parsed(text: &str) -> Option<String> {
        let ms = i64::try_from(parse(text, &now())?).unwrap();
        Some(Timestamp::from_millisecond(ms).unwrap().to_string())
    }

    #[test]
    fn a_time_is_a_span_before_now_or_a_time_of_this_host() {
        for (text, expected) in [
            ("30m", "2026-11-22T23:45:00Z"),
            ("2h", "2026-11-22T22:15:00Z"),
            ("90s", "2026-11-23T00:13:30Z"),
            ("1d", "2026-11-22T00:15:00Z"),
            ("2h30m", "2026-11-22T21:45:00Z"),
            ("01:00", "2026-11-23T00:00:00Z"),
            ("23:30", "2026-11-22T22:30:00Z"),
            ("01:00:30", "2026-11-23T00:00:30Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 12:00", "2026-11-20T11:00:00Z"),
            ("2026-11-20T12:00:01", "2026-11-20T11:00:01Z"),
            ("2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z"),
            ("2026-11-20T12:00:00+05:00", "2026-11-20T07:00:00Z"),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "yesterday", "-2h", "2", "25:00", "2026-13-01", "12", "2 parsecs"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
