//! The places where files arrive. A source brings claims to the journal; it knows nothing of who is told.

pub mod folder;
mod pidfd;
mod roots;
pub mod writers;

pub use roots::{Roots, Watched};
pub mod upload;
