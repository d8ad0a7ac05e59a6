//! What only the Nextcloud protocol needs: `recent`, connections, app passwords, properties.

use std::collections::HashMap;

use filebell_core::event::{EventKind, StoredFile};
use filebell_core::id::{AccountId, FileId, FreshIds, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::secret::Secret;
use filebell_core::subscription::SubscriptionStatus;
use filebell_core::time::{TimestampMs, TimestampSecs};
use rusqlite::{OptionalExtension, Transaction, params};

use super::super::{AppPassword, NewSubscription, Property, StoreError, connection_name};
use super::events::{range, select_files};
use super::rows::unsigned;
use super::{SqliteStore, directory, rings};

/// A use of an app password is written down at most this often.
const LAST_USE_GRAIN_MS: i64 = 60_000;

impl SqliteStore {
    pub(in crate::store) async fn recent(
        &self,
        account: AccountId,
        since: TimestampSecs,
        before: Option<(TimestampSecs, FileId)>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        let (secs, id) = before.map_or((i64::MAX, i64::MAX), |(secs, id)| (secs.as_secs(), id.get()));
        self.read(move |connection, _| {
            select_files(
                connection,
                "account = ?1 AND arrived_secs >= ?2 AND (arrived_secs, id) < (?3, ?4)
                 ORDER BY arrived_secs DESC, id DESC LIMIT ?5",
                params![account.get(), since.as_secs(), secs, id, limit],
            )
        })
        .await
    }

    pub(in crate::store) async fn recent_count(
        &self,
        account: AccountId,
        since: TimestampSecs,
    ) -> Result<u64, StoreError> {
        self.read(move |connection, _| {
            let mut select =
                connection.prepare_cached("SELECT count(*) FROM file WHERE account = ?1 AND arrived_secs >= ?2")?;
            Ok(unsigned(select.query_row(params![account.get(), since.as_secs()], |row| row.get(0))?))
        })
        .await
    }

    pub(in crate::store) async fn acknowledge_recent(
        &self,
        account: AccountId,
        newest: TimestampSecs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, state| {
            transaction.execute(
                "UPDATE subscription SET since_secs = ?2
                 WHERE account = ?1 AND protocol = 'nextcloud' AND since_secs < ?2",
                params![account.get(), newest.as_secs()],
            )?;
            rings::end_rings(transaction, state, account)
        })
        .await
    }

    pub(in crate::store) async fn shown_until(
        &self,
        subscription: SubscriptionId,
    ) -> Result<TimestampSecs, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached("SELECT since_secs FROM subscription WHERE id = ?1")?;
            let secs = select.query_row([subscription.get()], |row| row.get(0)).optional()?;
            secs.map(TimestampSecs::from_secs).ok_or_else(|| StoreError::Missing(subscription.to_string()))
        })
        .await
    }

    pub(in crate::store) async fn connection(&self, account: AccountId) -> Result<Option<Secret>, StoreError> {
        self.read(move |connection, inner| {
            let mut select = connection.prepare_cached("SELECT settings FROM connection WHERE account = ?1")?;
            let sealed: Option<Vec<u8>> = select.query_row([account.get()], |row| row.get(0)).optional()?;
            let open = |sealed: Vec<u8>| inner.key.open(&place(account), &sealed).ok_or(StoreError::WrongKey);
            sealed.map(open).transpose()
        })
        .await
    }

    pub(in crate::store) async fn put_connection(
        &self,
        account: AccountId,
        settings: Secret,
        subscription: Option<NewSubscription>,
        now: TimestampMs,
        mut ids: FreshIds,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, state| {
            let sealed = state.key.seal(&place(account), &settings).ok_or(StoreError::WrongKey)?;
            transaction.execute(
                "INSERT INTO connection (account, settings) VALUES (?1, ?2)
                 ON CONFLICT (account) DO UPDATE SET settings = excluded.settings",
                params![account.get(), sealed],
            )?;
            match subscription {
                Some(subscription) => {
                    let written = directory::upsert_subscription(transaction, state, &subscription, now, &mut ids)?;
                    directory::set_status(transaction, written.id, SubscriptionStatus::Active, None)
                }
                None => pause(transaction, account, "its settings have no URL or no secret"),
            }
        })
        .await
    }

    pub(in crate::store) async fn remove_connection(&self, account: AccountId) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            if transaction.execute("DELETE FROM connection WHERE account = ?1", [account.get()])? == 0 {
                return Ok(());
            }
            pause(transaction, account, "its settings were deleted")
        })
        .await
    }

    pub(in crate::store) async fn add_app_password(
        &self,
        account: AccountId,
        name: String,
        hash: [u8; 32],
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            let added = transaction.execute(
                "INSERT INTO app_password (hash, account, name, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (account, name) DO NOTHING",
                params![hash, account.get(), name, now.as_millis()],
            )?;
            if added == 0 { Err(StoreError::Exists(format!("an app password `{name}`"))) } else { Ok(()) }
        })
        .await
    }

    pub(in crate::store) async fn app_passwords(&self, account: AccountId) -> Result<Vec<AppPassword>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT name, created_at, last_used_at FROM app_password WHERE account = ?1 ORDER BY name",
            )?;
            let rows = select.query_map([account.get()], |row| {
                Ok(AppPassword {
                    name: row.get(0)?,
                    created_at: TimestampMs::from_millis(row.get(1)?),
                    last_used_at: row.get::<_, Option<i64>>(2)?.map(TimestampMs::from_millis),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    pub(in crate::store) async fn remove_app_password(
        &self,
        account: AccountId,
        name: String,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            let removed = transaction
                .execute("DELETE FROM app_password WHERE account = ?1 AND name = ?2", params![account.get(), name])?;
            if removed == 0 { Err(StoreError::Missing(format!("app password `{name}`"))) } else { Ok(()) }
        })
        .await
    }

    pub(in crate::store) async fn use_app_password(
        &self,
        hash: [u8; 32],
        now: TimestampMs,
    ) -> Result<Option<AccountId>, StoreError> {
        let found = self
            .read(move |connection, _| {
                let mut select =
                    connection.prepare_cached("SELECT account, last_used_at FROM app_password WHERE hash = ?1")?;
                let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?));
                Ok(select.query_row([hash], read).optional()?)
            })
            .await?;
        let Some((account, last_used_at)) = found else { return Ok(None) };
        if last_used_at.is_none_or(|at| now.as_millis().saturating_sub(at) >= LAST_USE_GRAIN_MS) {
            self.write(move |transaction, _| {
                let millis = now.as_millis();
                transaction
                    .execute("UPDATE app_password SET last_used_at = ?2 WHERE hash = ?1", params![hash, millis])?;
                Ok(())
            })
            .await?;
        }
        Ok(Some(AccountId::new(account)))
    }

    pub(in crate::store) async fn bytes_below(&self, account: AccountId, below: FilePath) -> Result<u64, StoreError> {
        let (first, end) = range(Some(&below));
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT coalesce(sum(size), 0) FROM file WHERE account = ?1 AND path > ?2 AND path < ?3",
            )?;
            Ok(unsigned(select.query_row(params![account.get(), first, end], |row| row.get(0))?))
        })
        .await
    }

    pub(in crate::store) async fn newest_of(&self, account: AccountId) -> Result<Seq, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM event WHERE account = ?1")?;
            Ok(Seq::new(select.query_row([account.get()], |row| row.get(0))?))
        })
        .await
    }

    pub(in crate::store) async fn properties(
        &self,
        account: AccountId,
        paths: Vec<Vec<u8>>,
    ) -> Result<HashMap<Vec<u8>, Vec<Property>>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection
                .prepare_cached("SELECT name, value FROM property WHERE account = ?1 AND path = ?2 ORDER BY name")?;
            let mut found = HashMap::new();
            for path in paths {
                let rows = select.query_map(params![account.get(), path], |row| {
                    Ok(Property { name: row.get(0)?, value: row.get(1)? })
                })?;
                let properties = rows.collect::<Result<Vec<_>, _>>()?;
                if !properties.is_empty() {
                    found.insert(path, properties);
                }
            }
            Ok(found)
        })
        .await
    }

    pub(in crate::store) async fn set_properties(
        &self,
        account: AccountId,
        path: Vec<u8>,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            for (name, value) in changes {
                match value {
                    Some(value) => transaction.execute(
                        "INSERT INTO property (account, path, name, value) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (account, path, name) DO UPDATE SET value = excluded.value",
                        params![account.get(), path, name, value],
                    )?,
                    None => transaction.execute(
                        "DELETE FROM property WHERE account = ?1 AND path = ?2 AND name = ?3",
                        params![account.get(), path, name],
                    )?,
                };
            }
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn copy_properties(
        &self,
        account: AccountId,
        from: FilePath,
        to: FilePath,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            remove_properties(transaction, account, &to)?;
            copy_properties(transaction, account, &from, &to)
        })
        .await
    }

    pub(in crate::store) async fn move_properties(
        &self,
        account: AccountId,
        from: FilePath,
        to: FilePath,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| move_properties(transaction, account, &from, &to)).await
    }

    pub(in crate::store) async fn remove_properties(
        &self,
        account: AccountId,
        path: FilePath,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| remove_properties(transaction, account, &path)).await
    }
}

/// Properties follow a file that moved, and go with one that went, however it was noticed.
pub(super) fn follow(
    transaction: &Transaction<'_>,
    account: AccountId,
    kind: EventKind,
    previous: Option<&FilePath>,
    path: &FilePath,
) -> Result<(), StoreError> {
    match (kind, previous) {
        (EventKind::Deleted, _) => remove_properties(transaction, account, path),
        (_, Some(previous)) => move_properties(transaction, account, previous, path),
        (EventKind::Created | EventKind::Updated | EventKind::Moved, None) => Ok(()),
    }
}

const AT_OR_BELOW: &str = "account = ?1 AND (path = ?2 OR (path > ?3 AND path < ?4))";

fn move_properties(
    transaction: &Transaction<'_>,
    account: AccountId,
    from: &FilePath,
    to: &FilePath,
) -> Result<(), StoreError> {
    let (first, end) = range(Some(from));
    let mut any = transaction.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM property WHERE {AT_OR_BELOW})"))?;
    // Whoever noticed the move first has done it.
    if any.query_row(params![account.get(), from.as_bytes(), first, end], |row| row.get::<_, bool>(0))? {
        remove_properties(transaction, account, to)?;
        copy_properties(transaction, account, from, to)?;
        remove_properties(transaction, account, from)?;
    }
    Ok(())
}

fn copy_properties(
    transaction: &Transaction<'_>,
    account: AccountId,
    from: &FilePath,
    to: &FilePath,
) -> Result<(), StoreError> {
    let (first, end) = range(Some(from));
    transaction
        .prepare_cached(&format!(
            "INSERT INTO property (account, path, name, value)
             SELECT account, CAST(?5 || substr(path, length(?2) + 1) AS BLOB), name, value FROM property
             WHERE {AT_OR_BELOW}"
        ))?
        .execute(params![account.get(), from.as_bytes(), first, end, to.as_bytes()])?;
    Ok(())
}

fn remove_properties(transaction: &Transaction<'_>, account: AccountId, path: &FilePath) -> Result<(), StoreError> {
    let (first, end) = range(Some(path));
    transaction.prepare_cached(&format!("DELETE FROM property WHERE {AT_OR_BELOW}"))?.execute(params![
        account.get(),
        path.as_bytes(),
        first,
        end
    ])?;
    Ok(())
}

/// Stops telling an account's own connection. What it is owed is kept, and so is what it has been shown.
fn pause(transaction: &Transaction<'_>, account: AccountId, reason: &str) -> Result<(), StoreError> {
    let find = "SELECT id FROM subscription WHERE account = ?1 AND name = ?2 AND consent IS NULL";
    let account_name: Option<String> = transaction
        .query_row("SELECT name FROM account WHERE id = ?1", [account.get()], |row| row.get(0))
        .optional()?;
    let name = connection_name(&account_name.unwrap_or_default());
    let id: Option<i64> = transaction.query_row(find, params![account.get(), name], |row| row.get(0)).optional()?;
    match id {
        Some(id) => {
            let id = SubscriptionId::new(id);
            directory::set_status(transaction, id, SubscriptionStatus::Paused, Some(reason))
        }
        None => Ok(()),
    }
}

fn place(account: AccountId) -> String {
    format!("connection/{account}")
}
