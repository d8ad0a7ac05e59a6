//! filebell: tells registered applications, quickly, verifiably and without missing one, that files have arrived.
//!
//! The rooms, and which way things flow, are drawn in `ARCHITECTURE.md`.

pub mod app;
pub mod beneath;
pub mod config;
pub mod delivery;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod ops;
pub mod seams;
pub mod source;
pub mod store;
pub mod ui;
