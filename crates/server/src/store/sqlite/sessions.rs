//! Who is signed in to the pages.

use filebell_core::id::AccountId;
use filebell_core::time::TimestampMs;
use rusqlite::{OptionalExtension, params};

use super::super::{Session, SessionBounds, StoreError};
use super::SqliteStore;

/// A use is written down at most this often.
const LAST_USE_GRAIN_MS: i64 = 60_000;

impl SqliteStore {
    pub(in crate::store) async fn begin_session(
        &self,
        hash: [u8; 32],
        account: Option<AccountId>,
        bounds: SessionBounds,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute(
                "DELETE FROM session WHERE begun_at <= ?1 OR last_used_at <= ?2",
                params![bounds.begun_after.as_millis(), bounds.used_after.as_millis()],
            )?;
            transaction.execute(
                "INSERT INTO session (hash, account, begun_at, last_used_at) VALUES (?1, ?2, ?3, ?3)",
                params![hash, account.map(AccountId::get), now.as_millis()],
            )?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn use_session(
        &self,
        hash: [u8; 32],
        bounds: SessionBounds,
        now: TimestampMs,
    ) -> Result<Option<Session>, StoreError> {
        let found = self
            .read(move |connection, _| {
                let mut select = connection.prepare_cached(
                    "SELECT account, last_used_at FROM session WHERE hash = ?1 AND begun_at > ?2 AND last_used_at > ?3",
                )?;
                let bounds = params![hash, bounds.begun_after.as_millis(), bounds.used_after.as_millis()];
                let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?));
                Ok(select.query_row(bounds, read).optional()?)
            })
            .await?;
        let Some((account, last_used_at)) = found else { return Ok(None) };
        if now.as_millis().saturating_sub(last_used_at) >= LAST_USE_GRAIN_MS {
            self.write(move |transaction, _| {
                let millis = now.as_millis();
                transaction.execute("UPDATE session SET last_used_at = ?2 WHERE hash = ?1", params![hash, millis])?;
                Ok(())
            })
            .await?;
        }
        Ok(Some(Session { account: account.map(AccountId::new) }))
    }

    pub(in crate::store) async fn end_session(&self, hash: [u8; 32]) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute("DELETE FROM session WHERE hash = ?1", params![hash])?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn end_sessions_of(&self, account: AccountId) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute("DELETE FROM session WHERE account = ?1", params![account.get()])?;
            Ok(())
        })
        .await
    }
}
