//! The pure part of filebell: the words of the trade as types, the plan, the retry schedule, the wire formats.
//!
//! Values in, values out. Nothing here sends, stores, reads a clock or rolls dice: time, ids and chance
//! arrive as arguments, so every test of this crate is deterministic.
//!
//! The flow these words describe:
//!
//! ```text
//! source -> Arrival -> (judge) -> Event -> (plan) -> Notification -> (wire) -> bytes
//! ```

pub mod arrival;
pub mod endpoint;
pub mod event;
pub mod filter;
pub mod id;
pub mod path;
pub mod plan;
pub mod retry;
pub mod ring;
pub mod root;
pub mod secret;
pub mod subscription;
pub mod time;
pub mod wire;
