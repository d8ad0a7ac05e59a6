//! filebell: tells registered applications, quickly, verifiably and without missing one, that files have arrived.
//!
//! The rooms, and which way things flow, are drawn in `ARCHITECTURE.md`.

pub mod delivery;
pub mod journal;
pub mod seams;
pub mod source;
pub mod store;
