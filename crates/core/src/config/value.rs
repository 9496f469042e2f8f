//! Words -> the value of one parameter. Decides whether a value is of the right kind and in its range.
//! Never looks at other parameters.

use alloc::borrow::Cow;
use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Range;

use zeroize::Zeroizing;

use super::StopFailure;
use super::address::Address;
use super::diagnostic::Problems;
use super::key::{Algorithm, Secret};
use super::limits::{MAX_DURATION, MAX_PATH_LEN, MAX_SOCKET_PATH_LEN, MAX_WEIGHT};
use super::params::{Kind, Parameter};
use super::problem::Problem;
use crate::time::Duration;
use crate::types::Role;

/// A word or a string of the file.
#[derive(Debug)]
pub(super) struct Word<'t> {
    pub(super) text: Cow<'t, str>,
    pub(super) span: Range<usize>,
}

/// A value that is valid by itself.
#[derive(Debug)]
pub(super) enum Value {
    /// Of a script, a directory, or the control socket.
    Path(String),
    Address(Address),
    Addresses(Vec<Address>),
    Duration(Duration),
    Size(u64),
    Count(u32),
    Priority(i32),
    Weight(i32),
    Role(Role),
    Switch(bool),
    StopFailure(StopFailure),
    Algorithm(Algorithm),
    Secret(Secret),
}

/// Reads the value of a parameter. What is wrong is reported; `None` then.
pub(super) fn parse(parameter: &'static Parameter, words: Vec<Word<'_>>, problems: &mut Problems) -> Option<Value> {
    if let Kind::Addresses { most } = parameter.kind {
        return addresses(parameter.word, most, &words, problems).map(Value::Addresses);
    }
    let Word { text, span } = words.into_iter().next()?;
    let text_ref: &str = &text;
    let value = match parameter.kind {
        Kind::Path => path(text_ref, MAX_PATH_LEN).map(Value::Path),
        Kind::Control => control(text_ref).map(Value::Path),
        Kind::Address => address(text_ref).map(Value::Address),
        Kind::MetricsAddress => Address::of_metrics(text_ref)
            .map(Value::Address)
            .map_err(|error| Problem::MetricsAddress { word: text_ref, error }),
        Kind::Size { least, most } => size(parameter.word, text_ref, least, most).map(Value::Size),
        Kind::Duration { least } => duration(parameter.word, text_ref, least).map(Value::Duration),
        Kind::Count { least, most } => count(parameter.word, text_ref, least, most).map(Value::Count),
        Kind::Priority => priority(parameter.word, text_ref).map(Value::Priority),
        Kind::Weight => weight(parameter.word, text_ref).map(Value::Weight),
        Kind::Role => text_ref.parse().map(Value::Role).map_err(|_| Problem::NotARole(text_ref)),
        Kind::Switch => switch(text_ref).map(Value::Switch),
        Kind::StopFailure => stop_failure(text_ref).map(Value::StopFailure),
        Kind::Algorithm => text_ref.parse().map(Value::Algorithm).map_err(|_| Problem::Algorithm(text_ref)),
        Kind::Secret if text.is_empty() => Err(Problem::EmptySecret),
        Kind::Secret => return Some(Value::Secret(Secret::new(Zeroizing::new(text.into_owned())))),
        Kind::Addresses { .. } | Kind::Section { .. } => return None,
    };
    if let Ok(Value::Path(path)) = &value
        && !path.starts_with('/')
    {
        problems.report(span.clone(), &Problem::RelativePath);
    }
    value.map_err(|problem| problems.report(span, &problem)).ok()
}

fn path(text: &str, longest: usize) -> Result<String, Problem<'_>> {
    if text.is_empty() {
        Err(Problem::EmptyPath)
    } else if text.len() > longest {
        Err(Problem::LongPath(longest))
    } else {
        Ok(text.to_owned())
    }
}

fn control(text: &str) -> Result<String, Problem<'_>> {
    match text.strip_prefix("uds://").or_else(|| text.strip_prefix("unix://")) {
        Some(socket) => path(socket, MAX_SOCKET_PATH_LEN),
        None if text.starts_with('/') => path(text, MAX_SOCKET_PATH_LEN),
        None => Err(Problem::NotASocket(text)),
    }
}

fn address(text: &str) -> Result<Address, Problem<'_>> {
    text.parse().map_err(|error| Problem::Address { word: text, error })
}

fn switch(text: &str) -> Result<bool, Problem<'_>> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Problem::NotASwitch(text)),
    }
}

fn stop_failure(text: &str) -> Result<StopFailure, Problem<'_>> {
    StopFailure::ALL.into_iter().find(|known| known.as_str() == text).ok_or(Problem::NotAStopFailure(text))
}

/// A list of addresses, each once; `none`, which the table allows where it means something, is an empty one.
fn addresses(word: &'static str, most: usize, words: &[Word<'_>], problems: &mut Problems) -> Option<Vec<Address>> {
    let is_none = |item: &Word<'_>| word == "remote" && item.text == "none";
    if let Some(none) = words.iter().find(|item| is_none(item)) {
        if words.len() > 1 {
            problems.report(none.span.clone(), &Problem::NoneAmongOthers);
        }
        return (words.len() == 1).then(Vec::new);
    }
    if let Some(first_too_many) = words.get(most) {
        problems.report(first_too_many.span.clone(), &Problem::TooManyAddresses { word, most });
        return None;
    }
    let mut list: Vec<Address> = Vec::with_capacity(words.len());
    let mut all_valid = true;
    for item in words {
        match address(&item.text) {
            Ok(address) if list.iter().any(|known| known.same_place(&address)) => {
                problems.report(item.span.clone(), &Problem::AddressTwice(&item.text));
            }
            Ok(address) => list.push(address),
            Err(problem) => {
                all_valid = false;
                problems.report(item.span.clone(), &problem);
            }
        }
    }
    all_valid.then_some(list)
}

/// A whole number; the inner error is one that does not fit in 64 bits.
fn whole_number(text: &str) -> Result<Option<i64>, Problem<'_>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::NotANumber(text));
    }
    Ok(text.parse().ok())
}

/// `65536`, `512k`, `16M`, `1G`, in either case; 0 is none at all.
fn size<'t>(word: &'static str, text: &'t str, least: u64, most: u64) -> Result<u64, Problem<'t>> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err(Problem::NotASize(text)),
    };
    if number.is_empty() {
        return Err(Problem::NotASize(text));
    }
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.filter(|bytes| *bytes == 0 || (least..=most).contains(bytes)).ok_or_else(|| Problem::OutOfRange {
        word,
        least: show_size(least),
        most: show_size(most),
    })
}

/// A number of bytes in the words of the file, in the largest unit that leaves it whole.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "k")];
    let whole = units.into_iter().find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    whole.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

fn count<'t>(word: &'static str, text: &'t str, least: u32, most: u32) -> Result<u32, Problem<'t>> {
    whole_number(text)?
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Problem::OutOfRange { word, least: least.to_string(), most: most.to_string() })
}

fn priority<'t>(word: &'static str, text: &'t str) -> Result<i32, Problem<'t>> {
    let number = whole_number(text)?;
    if text.starts_with('-') {
        return Err(Problem::NegativePriority);
    }
    number.and_then(|number| i32::try_from(number).ok()).ok_or_else(|| Problem::OutOfRange {
        word,
        least: "0".to_owned(),
        most: i32::MAX.to_string(),
    })
}

fn weight<'t>(word: &'static str, text: &'t str) -> Result<i32, Problem<'t>> {
    let number = whole_number(text)?.and_then(|number| i32::try_from(number).ok());
    number.filter(|number| (-MAX_WEIGHT..=MAX_WEIGHT).contains(number)).ok_or_else(|| Problem::OutOfRange {
        word,
        least: (-MAX_WEIGHT).to_string(),
        most: MAX_WEIGHT.to_string(),
    })
}

/// `5`, `500ms`, `1.5s`, `2m`, `1h`: exact to the millisecond.
fn duration<'t>(word: &'static str, text: &'t str, least: Duration) -> Result<Duration, Problem<'t>> {
    let out_of_range = || Problem::OutOfRange { word, least: show_duration(least), most: show_duration(MAX_DURATION) };
    let (number, unit) = text.split_at(text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len()));
    if number.is_empty() {
        // A sign is not part of the number: -5 is a number, and out of range.
        let negative = text.strip_prefix('-').is_some_and(|rest| duration(word, rest, least).is_ok());
        return Err(if negative { out_of_range() } else { Problem::NotADuration(text) });
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(Problem::NotADuration(text));
    }
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(Problem::Unit(unit)),
    };
    let whole_ms = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(unit_ms)).ok_or_else(out_of_range)?;
    let fraction = fraction.trim_end_matches('0');
    // An hour has 3.6e6 ms, so that no fraction of more digits than seven is a whole number of them.
    let scale = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9).map(|digits| 10_u64.pow(digits));
    let parts = if fraction.is_empty() { Some(0) } else { fraction.parse::<u64>().ok() };
    let (Some(scale), Some(parts)) = (scale, parts) else { return Err(Problem::TooFine(text)) };
    if !(parts * unit_ms).is_multiple_of(scale) {
        return Err(Problem::TooFine(text));
    }
    let value = Duration::from_millis(whole_ms.saturating_add(parts * unit_ms / scale));
    if (least..=MAX_DURATION).contains(&value) { Ok(value) } else { Err(out_of_range()) }
}

/// A length of time in the words of the file, in the largest unit that leaves it whole: `500ms`, `90s`, `2m`, `1h`; from a second
/// on with a fraction rather than in milliseconds: `1.5s`. What is finer than a millisecond is left out.
pub(super) fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let (unit_ms, unit) = match ms {
        0 => (1000, "s"),
        _ if ms.is_multiple_of(3_600_000) => (3_600_000, "h"),
        _ if ms.is_multiple_of(60_000) => (60_000, "m"),
        _ if ms.is_multiple_of(1000) => (1000, "s"),
        1..1000 => (1, "ms"),
        _ => {
            let text = format!("{}.{:03}", ms / 1000, ms % 1000);
            return format!("{}s", text.trim_end_matches('0'));
        }
    };
    format!("{}{unit}", ms / unit_ms)
}

#[cfg(test)]
mod tests {
    use super::super::limits::MIN_DURATION;
    use super::*;

    #[test]
    fn lengths_of_time_carry_units_and_fractions() {
        for (text, ms) in [
            ("5", 5000),
            ("1.5", 1500),
            ("500ms", 500),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("0.5h", 1_800_000),
            ("0.001", 1),
            ("1.0000000000000000000000", 1000),
            ("720h", 2_592_000_000),
        ] {
            assert_eq!(duration("timeout", text, MIN_DURATION).ok(), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_with_the_reason() {
        let range = "`timeout` must be from 1ms to 720h";
        for (text, message) in [
            ("soon", "`soon` is not a length of time"),
            ("", "`` is not a length of time"),
            ("-", "`-` is not a length of time"),
            (".5", "`.5` is not a length of time"),
            ("5.", "`5.` is not a length of time"),
            ("1.2.3", "`1.2.3` is not a length of time"),
            ("5sec", "unknown unit `sec`"),
            ("5S", "unknown unit `S`"),
            ("1.5ms", "`1.5ms` is finer than a millisecond"),
            ("0.0001", "`0.0001` is finer than a millisecond"),
            ("1.00000000000000000001h", "`1.00000000000000000001h` is finer than a millisecond"),
            ("0", range),
            ("-5", range),
            ("721h", range),
            ("99999999999999999999999", range),
            ("18446744073709551615h", range),
        ] {
            assert_eq!(
                duration("timeout", text, MIN_DURATION).map_err(|problem| problem.to_string()),
                Err(message.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_carry_units_and_zero_is_none() {
        let read = |text| size("history", text, 1 << 16, 1 << 34).map_err(|problem| problem.to_string());
        for (text, bytes) in
            [("0", 0), ("65536", 1 << 16), ("64k", 1 << 16), ("16M", 16 << 20), ("16m", 16 << 20), ("16G", 1 << 34)]
        {
            assert_eq!(read(text), Ok(bytes), "{text}");
        }
        for text in ["63k", "17G", "1", "99999999999999999999", "18446744073709551615G"] {
            assert_eq!(read(text), Err("`history` must be from 64k to 16G".to_owned()), "{text}");
        }
        for text in ["", "M", "16 M", "16MB", "-1", "1.5M"] {
            assert_eq!(read(text), Err(format!("`{text}` is not a number of bytes")), "{text}");
        }
        for text in ["0", "64k", "16M", "3G", "65537"] {
            assert_eq!(size("history", text, 1, u64::MAX).map(show_size).unwrap_or_default(), text);
        }
    }

    #[test]
    fn metrics_of_a_port_alone_are_for_this_host() {
        let read = |text| Address::of_metrics(text).map(|address| (address.host, address.port));
        let ip = |text: &str| super::super::address::Host::Ip(text.parse().unwrap());
        assert_eq!(read("9458"), Ok((ip("127.0.0.1"), 9458)));
        assert_eq!(read(":80"), Ok((ip("127.0.0.1"), 80)));
        assert_eq!(read("192.0.2.1"), Ok((ip("192.0.2.1"), 9458)));
        assert_eq!(read("tcp6://[::1]:99"), Ok((ip("::1"), 99)));
        assert_eq!(read("localhost:1"), Ok((ip("127.0.0.1"), 1)));
        assert_eq!(read("host"), Err(super::super::AddressError::Name));
        assert!(read("0").is_err() && read(":").is_err() && read("65536").is_err());
    }

    #[test]
    fn a_length_of_time_is_shown_as_it_can_be_read() {
        for text in ["1ms", "25ms", "999ms", "1.5s", "33.33s", "1.001s", "90s", "2m", "1h", "720h"] {
            assert_eq!(show_duration(duration("timeout", text, MIN_DURATION).unwrap_or_default()), text);
        }
    }
}
