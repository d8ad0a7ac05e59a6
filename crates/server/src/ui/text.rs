//! How values are shown: HTML that is safe as it stands, or plain text.

use std::fmt;

use askama::filters::HtmlSafe;
use filebell_core::time::TimestampMs;

/// A moment: in UTC without script, in the viewer's zone with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(pub(super) TimestampMs);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.0.to_string();
        // 2026-11-22T17:00:00.123Z: digits and signs only.
        let shown = machine.get(..19).unwrap_or(&machine).replacen('T', " ", 1);
        write!(f, r#"<time datetime="{machine}" title="{shown} UTC">{shown} UTC</time>"#)
    }
}

impl HtmlSafe for At {}

/// A number of bytes, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, next) in [("B", "KiB"), ("KiB", "MiB"), ("MiB", "GiB"), ("GiB", "TiB")] {
            if rest < 1024 {
                return write!(f, "{rest} {unit}");
            }
            if rest < 10 * 1024 {
                return write!(f, "{}.{} {next}", rest / 1024, rest % 1024 * 10 / 1024);
            }
            rest /= 1024;
        }
        write!(f, "{rest} TiB")
    }
}

/// A length of time, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Took(pub(super) std::time::Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (micros, secs) = (self.0.as_micros(), self.0.as_secs());
        match secs {
            0 if micros < 10_000 => write!(f, "{}.{} ms", micros / 1000, micros % 1000 / 100),
            0 => write!(f, "{} ms", micros / 1000),
            1..60 => write!(f, "{}.{} s", secs, self.0.subsec_millis() / 100),
            60..3600 => write!(f, "{} min", secs / 60),
            3600..86_400 => write!(f, "{} h {} min", secs / 3600, secs % 3600 / 60),
            _ => write!(f, "{} d {} h", secs / 86_400, secs % 86_400 / 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        let sizes: Vec<String> = [0, 1023, 1024, 1536, 10_240, 5 << 30, u64::MAX].map(|n| Size(n).to_string()).into();
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10 KiB", "5.0 GiB", "16777215 TiB"]);
        let took = |millis| Took(Duration::from_millis(millis)).to_string();
        assert_eq!([took(1), took(15), took(1500), took(61_000)], ["1.0 ms", "15 ms", "1.5 s", "1 min"]);
        assert_eq!([took(3_660_000), took(90_000_000)], ["1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn a_moment_carries_its_machine_form() {
        let shown = At(TimestampMs::from_millis(1_000)).to_string();
        assert_eq!(
            shown,
            r#"<time datetime="1970-01-01T00:00:01.000Z" title="1970-01-01 00:00:01 UTC">1970-01-01 00:00:01 UTC</time>"#
        );
    }
}
