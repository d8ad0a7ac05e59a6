//! Copies the log into the table file beside the writer, so that nobody who writes waits for it.
//!
//! A log that was copied to its end is written from its beginning again. While somebody writes, the end moves on: the
//! last few pages are copied between two transactions.

use std::error::Error;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::super::StoreError;
use super::lock;
use super::writer::Desk;

/// The log is copied when it is so long: 16 MiB.
const LOG_PAGES: u32 = 4096;
/// How often the length of the log is looked at while somebody writes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What wakes whoever copies.
#[derive(Default)]
pub(super) struct Wrote {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wrote: bool,
    closed: bool,
}

impl Wrote {
    /// The log has grown.
    pub(super) fn note(&self) {
        let mut state = lock(&self.state);
        if !state.wrote {
            state.wrote = true;
            self.changed.notify_one();
        }
    }

    /// Nothing is to be copied any more.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_one();
    }

    /// Waits until the log has grown and a little longer; `false` when it is closed.
    fn wait(&self) -> bool {
        let state = lock(&self.state);
        let idle = |state: &mut State| !state.wrote && !state.closed;
        let state = self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, LOOK_EVERY, |state| !state.closed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.wrote = false;
        !state.closed
    }
}

/// Copies what is written at a desk, on a connection and a thread of its own, until that closes.
pub(super) fn start(connection: Connection, desk: Arc<Desk>) -> Result<(), StoreError> {
    let work = move || {
        while desk.wrote.wait() {
            match copy(&connection, &desk) {
                Ok(()) | Err(StoreError::Closed) => (),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "the log could not be copied; it grows until it is");
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("store-checkpoint".into()).spawn(work);
    thread.map(drop).map_err(|error| StoreError::Engine(Box::new(error)))
}

fn copy(connection: &Connection, desk: &Desk) -> Result<(), StoreError> {
    if checkpoint(connection, "NOOP")? < LOG_PAGES {
        return Ok(());
    }
    checkpoint(connection, "PASSIVE")?;
    let rest = desk.alone(|writer| checkpoint(&writer.connection, "PASSIVE").map(drop));
    rest.blocking_recv().unwrap_or(Err(StoreError::Closed))
}

/// Answers how many pages the log has.
fn checkpoint(connection: &Connection, mode: &str) -> Result<u32, StoreError> {
    let mut pragma = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    Ok(pragma.query_row([], |row| Ok(u32::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))?)
}
