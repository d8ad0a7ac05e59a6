//! The verbs about who is signed in to the pages.

use filebell_core::id::AccountId;
use filebell_core::time::TimestampMs;

use super::{Store, StoreError, dispatch};

/// A session that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Whose it is; `None` is the operator.
    pub account: Option<AccountId>,
}

/// How old a session may be.
#[derive(Debug, Clone, Copy)]
pub struct SessionBounds {
    /// It was begun later than this.
    pub begun_after: TimestampMs,
    /// It was used later than this, to the minute.
    pub used_after: TimestampMs,
}

impl Store {
    /// Keeps a session under the SHA-256 of its cookie, and forgets those that have ended.
    pub async fn begin_session(
        &self,
        hash: [u8; 32],
        account: Option<AccountId>,
        bounds: SessionBounds,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, begin_session(hash, account, bounds, now))
    }

    /// The session with this cookie, if it holds; its use is noted to the minute.
    pub async fn use_session(
        &self,
        hash: [u8; 32],
        bounds: SessionBounds,
        now: TimestampMs,
    ) -> Result<Option<Session>, StoreError> {
        dispatch!(self, use_session(hash, bounds, now))
    }

    /// Forgets a session.
    pub async fn end_session(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        dispatch!(self, end_session(hash))
    }

    /// Forgets all sessions of an account.
    pub async fn end_sessions_of(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, end_sessions_of(account))
    }
}
