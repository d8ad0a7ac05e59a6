//! Which directories the roots are.

use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use filebell_core::root::{KnownRoot, RootIdentity};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::StoreError;
use super::SqliteStore;
use super::rows::{corrupt, signed, unsigned};

impl SqliteStore {
    pub(in crate::store) async fn keep_root(
        &self,
        account: AccountId,
        found: RootIdentity,
    ) -> Result<KnownRoot, StoreError> {
        self.write(move |transaction, _| {
            let identity = match kept(transaction, account)? {
                Some(kept) if !kept.is_same(&found) => kept,
                _ => {
                    keep(transaction, account, &found)?;
                    found
                }
            };
            known(transaction, account, identity)
        })
        .await
    }

    pub(in crate::store) async fn accept_root(
        &self,
        account: AccountId,
        identity: RootIdentity,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| keep(transaction, account, &identity)).await
    }

    pub(in crate::store) async fn root_identity(&self, account: AccountId) -> Result<Option<RootIdentity>, StoreError> {
        self.read(move |connection, _| kept(connection, account)).await
    }
}

fn kept(connection: &Connection, account: AccountId) -> Result<Option<RootIdentity>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT root_dev, root_inode, root_birth_ns, root_file_system FROM account
         WHERE id = ?1 AND root_dev IS NOT NULL",
    )?;
    let identity = select.query_row([account.get()], |row| {
        Ok(RootIdentity {
            dev: unsigned(row.get(0)?),
            inode: unsigned(row.get(1)?),
            birth_ns: row.get(2)?,
            file_system: unsigned(row.get(3)?),
        })
    });
    Ok(identity.optional()?)
}

/// The rows of files that lay on the device of the root before are of its device now.
fn keep(transaction: &Transaction<'_>, account: AccountId, identity: &RootIdentity) -> Result<(), StoreError> {
    if let Some(before) = kept(transaction, account)?.filter(|before| before.dev != identity.dev) {
        transaction.execute(
            "UPDATE file SET dev = ?3 WHERE account = ?1 AND dev = ?2",
            params![account.get(), signed(before.dev), signed(identity.dev)],
        )?;
    }
    let RootIdentity { dev, inode, birth_ns, file_system } = identity;
    transaction.execute(
        "UPDATE account SET root_dev = ?2, root_inode = ?3, root_birth_ns = ?4, root_file_system = ?5 WHERE id = ?1",
        params![account.get(), signed(*dev), signed(*inode), birth_ns, signed(*file_system)],
    )?;
    Ok(())
}

fn known(transaction: &Transaction<'_>, account: AccountId, identity: RootIdentity) -> Result<KnownRoot, StoreError> {
    let files =
        transaction.query_row("SELECT count(*) FROM file WHERE account = ?1", [account.get()], |row| row.get(0))?;
    let interrupted: bool = transaction
        .query_row(
            "SELECT baseline_done = 0 AND root_first_seen_at IS NOT NULL FROM account WHERE id = ?1",
            [account.get()],
            |row| row.get(0),
        )
        .optional()?
        .ok_or_else(|| StoreError::Missing(account.to_string()))?;
    // What the first scan has written and nobody has read since; in a root that lay elsewhere before, not what was
    // there.
    let reached = || {
        transaction
            .query_row(
                "SELECT path FROM file WHERE account = ?1 AND sha256 IS NULL
                     AND arrived_at >= (SELECT root_first_seen_at FROM account WHERE id = ?1)
                 ORDER BY path DESC LIMIT 1",
                [account.get()],
                |row| row.get::<_, Vec<u8>>(0),
            )
            .optional()
    };
    let reached = if interrupted { reached()? } else { None };
    let reached = reached.map(|path| FilePath::from_bytes(&path).map_err(corrupt("file"))).transpose()?;
    Ok(KnownRoot { identity, files: unsigned(files), interrupted, reached })
}
