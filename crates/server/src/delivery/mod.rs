//! Telling: what is due is claimed, sent and settled.
//!
//! Start reading at [`Dispatcher::run`]. The room knows no source of events and serves no request.

mod address;
mod breaker;
mod dispatcher;
mod egress;
mod lane;
mod letter;
mod opening;
mod settler;
#[cfg(test)]
mod tests;
mod trial;

pub use address::{Policy, Verdict, judge};
pub use dispatcher::{DeliveryConfig, Dispatcher, Hints};
pub use egress::{Egress, EgressError, Exchange};
pub use letter::{Letter, Shown};
pub use trial::{StepName, Trial, TrialStep};
