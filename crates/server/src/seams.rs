//! The clock and the dice: the only room that asks the system what time it is, or for chance.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use filebell_core::id::FreshIds;
use filebell_core::time::TimestampMs;

/// What this program does not decide: what time it is, and chance.
#[derive(Clone)]
pub struct Seams {
    now: Arc<dyn Fn() -> TimestampMs + Send + Sync>,
}

impl Seams {
    /// The system's own clock.
    pub fn real() -> Self {
        Self::with_clock(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            TimestampMs::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
        })
    }

    /// Another clock, for tests that move it.
    pub fn with_clock(now: impl Fn() -> TimestampMs + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now) }
    }

    /// The time.
    pub fn now(&self) -> TimestampMs {
        (self.now)()
    }

    /// Chance in `0.0..1.0`, for jitter; not for secrets.
    pub fn chance(&self) -> f64 {
        fastrand::f64()
    }

    /// Fresh version 7 UUIDs: they sort by time of making, so that rows keyed by them are appended.
    pub fn fresh_ids(&self) -> FreshIds {
        let millis = u64::try_from(self.now().as_millis()).unwrap_or(0);
        Box::new(move || {
            let mut random = [0_u8; 10];
            fastrand::fill(&mut random);
            uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
        })
    }
}
