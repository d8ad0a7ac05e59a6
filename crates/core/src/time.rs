//! Points in time, in milliseconds and in whole seconds, never mixed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC. What the journal and the planner count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampMs(i64);

/// Whole seconds since the Unix epoch, UTC. What the Nextcloud protocol and Standard Webhooks count in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimestampSecs(i64);

/// The text is not an RFC 3339 time such as `2026-11-22T17:00:00Z`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time such as 2026-11-22T17:00:00Z")]
pub struct NotATime(String);

impl TimestampMs {
    /// The epoch itself.
    pub const ZERO: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The whole second this instant lies in (rounded towards the past).
    pub const fn to_secs(self) -> TimestampSecs {
        TimestampSecs(self.0.div_euclid(1000))
    }

    /// This instant and `by` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }

    /// This instant less `by`; saturates at the beginning of time.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }

    /// How long ago `earlier` was, zero if it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl TimestampSecs {
    /// From seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Seconds since the Unix epoch.
    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// The first millisecond of this second; saturates.
    pub const fn to_ms(self) -> TimestampMs {
        TimestampMs(self.0.saturating_mul(1000))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with exactly three fractional digits: `2024-03-05T08:09:10.111Z`.
impl fmt::Display for TimestampMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = (jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
        let timestamp =
            jiff::Timestamp::from_millisecond(self.0.clamp(min, max)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{timestamp:.3}")
    }
}

impl FromStr for TimestampMs {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let timestamp: jiff::Timestamp = text.parse().map_err(|_| NotATime(text.to_owned()))?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

impl fmt::Display for TimestampSecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_three_digits_and_z() {
        assert_eq!(TimestampMs::from_millis(1_709_626_150_111).to_string(), "2024-03-05T08:09:10.111Z");
        assert_eq!(TimestampMs::ZERO.to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn seconds_round_towards_the_past() {
        assert_eq!(TimestampMs::from_millis(1999).to_secs(), TimestampSecs::from_secs(1));
        assert_eq!(TimestampMs::from_millis(-1).to_secs(), TimestampSecs::from_secs(-1));
    }

    #[test]
    fn the_ends_of_time_do_not_overflow() {
        let end = TimestampMs::from_millis(i64::MAX);
        assert_eq!(end.after(Duration::MAX), end);
        assert!(!end.to_string().is_empty());
        assert_eq!("2026-11-22T17:00:00+01:00".parse(), Ok(TimestampMs::from_millis(1_795_363_200_000)));
        assert!("yesterday".parse::<TimestampMs>().is_err());
    }
}
