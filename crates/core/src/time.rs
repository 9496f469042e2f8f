//! Time as the state machines see it: an argument, never read here.

use core::ops::{Add, Sub};
pub use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment on a clock that no one can set and that goes on counting while the machine sleeps.
/// Nanoseconds since an origin that is the same for all processes of one host (its boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The moment `ns` nanoseconds after the clock's origin.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a deadline beyond the clock's end is "never".
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the clock's origin.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A length of time as a number of milliseconds, with a fraction down to the microsecond: for JSON, under a name that ends in `_ms`.
pub mod as_ms {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::Duration;

    /// Microseconds in a millisecond.
    const US_PER_MS: f64 = 1e3;

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        // Whole numbers of microseconds up to 285 years are exact.
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        serializer.serialize_f64(us as f64 / US_PER_MS)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is no number, negative, or longer than can be counted.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let ms = f64::deserialize(deserializer)?;
        let span = Duration::try_from_secs_f64(ms / 1e3).map_err(de::Error::custom)?;
        // The fraction is that of a decimal number again.
        let us = (span + Duration::from_nanos(500)).as_micros();
        Ok(Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX)))
    }
}

/// The same where there may be none.
pub mod as_ms_or_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, as_ms};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Ms(#[serde(with = "as_ms")] Duration);

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        span.map(Ms).serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// It is no number, negative, or longer than can be counted.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Ms>::deserialize(deserializer)?.map(|Ms(span)| span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::from_nanos(5) - Duration::from_secs(1), Instant::from_nanos(0));
        assert_eq!(Instant::from_nanos(1).since(end), Duration::ZERO);
    }
}
