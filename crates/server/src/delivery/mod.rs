//! Telling: what is due is claimed, sent and settled.
//!
//! Start reading at [`Dispatcher::run`]. The room knows no source of events and serves no request.

mod address;
mod breaker;
mod dispatcher;
mod egress;
mod feed;
mod lane;
mod letter;
mod opening;
mod places;
mod settler;
#[cfg(test)]
mod tests;
mod trial;

pub use address::{Policy, Verdict, judge};
pub use dispatcher::{DeliveryConfig, Dispatcher, Hints, Onlookers};
pub use egress::{Egress, EgressError, Exchange};
pub use feed::{Ended, Feed, Since};
pub use letter::{Letter, Shown};
pub use trial::{StepName, Trial, TrialStep};
