//! Pairing by consent, the tokens that come from it, and taking both back.

use filebell_core::id::{AccountId, ApplicationId, FamilyId, GrantId, IngestionId, NotificationId, PairingId};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use uuid::Uuid;

use super::super::{
    Exchange, Exchanged, Grant, Ingestion, IngestionStatus, NewFamily, Pairing, PairingStatus, RefreshToken,
    SigningKey, StoreError, StoreKey,
};
use super::SqliteStore;
use super::directory::{GrantText, json, read_grant, touch, write_grant};
use super::rows::{list, word};

/// How long a pairing is kept after it can no longer be decided: a code used twice is still known as such.
const PAIRING_KEPT_MS: i64 = 24 * 60 * 60 * 1000;

impl SqliteStore {
    pub(in crate::store) async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        self.read(|connection, inner| {
            let mut select = connection.prepare_cached(
                "SELECT kid, private, created_at, retired_at FROM signing_key ORDER BY created_at DESC, kid",
            )?;
            let rows = select.query_map([], |row| {
                let kid: String = row.get(0)?;
                let private: Vec<u8> = row.get(1)?;
                let retired_at: Option<i64> = row.get(3)?;
                Ok((kid, private, TimestampMs::from_millis(row.get(2)?), retired_at.map(TimestampMs::from_millis)))
            })?;
            rows.map(|row| {
                let (kid, sealed, created_at, retired_at) = row?;
                let private = inner.key.open(&place(&kid), &sealed).ok_or(StoreError::WrongKey)?;
                Ok(SigningKey { kid, private, created_at, retired_at })
            })
            .collect()
        })
        .await
    }

    pub(in crate::store) async fn add_first_signing_key(&self, key: SigningKey) -> Result<bool, StoreError> {
        self.write(move |transaction, state| {
            let signs: bool = transaction.query_row(
                "SELECT EXISTS (SELECT 1 FROM signing_key WHERE retired_at IS NULL)",
                [],
                |row| row.get(0),
            )?;
            if !signs {
                add_key(transaction, state.key, &key)?;
            }
            Ok(!signs)
        })
        .await
    }

    pub(in crate::store) async fn rotate_signing_key(
        &self,
        key: SigningKey,
        forget_before: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, state| {
            transaction.execute("DELETE FROM signing_key WHERE retired_at < ?1", [forget_before.as_millis()])?;
            transaction.execute(
                "UPDATE signing_key SET retired_at = ?1 WHERE retired_at IS NULL",
                [key.created_at.as_millis()],
            )?;
            add_key(transaction, state.key, &key)
        })
        .await
    }

    pub(in crate::store) async fn open_family(&self, family: NewFamily, now: TimestampMs) -> Result<(), StoreError> {
        self.write(move |transaction, _| open_family(transaction, &family, now)).await
    }

    pub(in crate::store) async fn family_grant(&self, family: FamilyId) -> Result<Option<Grant>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT consent.id, application, account, folders, scopes, consent.created_at
                 FROM token_family JOIN consent ON consent.id = token_family.consent
                 WHERE token_family.id = ?1 AND token_family.revoked_at IS NULL AND consent.revoked_at IS NULL",
            )?;
            select.query_row([family.uuid().as_bytes()], |row| Ok(read_grant(row))).optional()?.transpose()
        })
        .await
    }

    pub(in crate::store) async fn exchange_refresh(
        &self,
        exchange: Exchange,
        now: TimestampMs,
    ) -> Result<Exchanged, StoreError> {
        self.write(move |transaction, _| exchange_refresh(transaction, &exchange, now)).await
    }

    pub(in crate::store) async fn refresh_token(&self, hash: [u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        self.read(move |connection, _| {
            let Some(found) = find_refresh(connection, hash)? else { return Ok(None) };
            let (family, expires_at, live) = (found.family, found.expires_at, found.live());
            Ok(Some(RefreshToken { family, grant: found.grant, expires_at, live }))
        })
        .await
    }

    pub(in crate::store) async fn revoke_family(&self, family: FamilyId, now: TimestampMs) -> Result<(), StoreError> {
        self.write(move |transaction, _| revoke_family(transaction, family, now)).await
    }

    pub(in crate::store) async fn set_public_url(&self, url: String) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute(
                "INSERT INTO setting (name, value) VALUES ('public_url', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [url],
            )?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn public_url(&self) -> Result<Option<String>, StoreError> {
        self.read(|connection, _| {
            let mut select = connection.prepare_cached("SELECT value FROM setting WHERE name = 'public_url'")?;
            Ok(select.query_row([], |row| row.get(0)).optional()?)
        })
        .await
    }

    pub(in crate::store) async fn add_pairing(&self, pairing: Pairing, now: TimestampMs) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute(
                "DELETE FROM pairing WHERE expires_at < ?1",
                [now.as_millis().saturating_sub(PAIRING_KEPT_MS)],
            )?;
            transaction.execute(
                "INSERT INTO pairing (id, application, account, redirect_uri, scopes, state, challenge, transport,
                     session_hash, expires_at, status, code_hash, code_expires_at, consent, family)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
                params![
                    pairing.id.uuid().as_bytes(),
                    pairing.application.get(),
                    pairing.account.get(),
                    pairing.redirect_uri,
                    json(&pairing.scopes)?,
                    pairing.state,
                    pairing.challenge,
                    pairing.transport,
                    pairing.session_hash,
                    pairing.expires_at.as_millis(),
                    pairing.status.as_str(),
                    pairing.code_hash,
                    pairing.code_expires_at.map(TimestampMs::as_millis),
                    pairing.grant.map(GrantId::get),
                    pairing.family.map(|family| *family.uuid().as_bytes()),
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn pairing(&self, id: PairingId) -> Result<Option<Pairing>, StoreError> {
        self.read(move |connection, _| pairing(connection, id)).await
    }

    pub(in crate::store) async fn accept_pairing(
        &self,
        id: PairingId,
        folders: Vec<String>,
        code_hash: [u8; 32],
        code_expires_at: TimestampMs,
        now: TimestampMs,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction, state| {
            let waits = |one: &Pairing| one.status == PairingStatus::Requested && now < one.expires_at;
            let Some(asked) = pairing(transaction, id)?.filter(waits) else { return Ok(false) };
            let Pairing { application, account, scopes, .. } = asked;
            let text = GrantText { application, account, folders, scopes };
            let grant = write_grant(transaction, state.key, &text, now)?;
            transaction.execute(
                "UPDATE pairing SET status = 'accepted', code_hash = ?2, code_expires_at = ?3, consent = ?4
                 WHERE id = ?1",
                params![id.uuid().as_bytes(), code_hash, code_expires_at.as_millis(), grant.id.get()],
            )?;
            Ok(true)
        })
        .await
    }

    pub(in crate::store) async fn reject_pairing(&self, id: PairingId) -> Result<bool, StoreError> {
        self.write(move |transaction, _| {
            let changed = transaction.execute(
                "UPDATE pairing SET status = 'rejected' WHERE id = ?1 AND status = 'requested'",
                [id.uuid().as_bytes()],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    pub(in crate::store) async fn use_code(
        &self,
        id: PairingId,
        family: NewFamily,
        now: TimestampMs,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction, _| {
            let changed = transaction.execute(
                "UPDATE pairing SET status = 'used', family = ?2 WHERE id = ?1 AND status = 'accepted'",
                params![id.uuid().as_bytes(), family.id.uuid().as_bytes()],
            )?;
            if changed > 0 {
                open_family(transaction, &family, now)?;
            }
            Ok(changed > 0)
        })
        .await
    }

    pub(in crate::store) async fn revoke_grant(&self, grant: GrantId, now: TimestampMs) -> Result<bool, StoreError> {
        self.write(move |transaction, _| {
            let changed = transaction.execute(
                "UPDATE consent SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
                params![grant.get(), now.as_millis()],
            )?;
            if changed == 0 {
                return Ok(false);
            }
            touch(transaction)?;
            let both = params![grant.get(), now.as_millis()];
            transaction
                .execute("UPDATE token_family SET revoked_at = ?2 WHERE consent = ?1 AND revoked_at IS NULL", both)?;
            transaction.execute(
                "UPDATE notification SET state = 'revoked', settled_at = ?2 WHERE state IN ('pending', 'dead')
                 AND subscription IN (SELECT id FROM subscription WHERE consent = ?1)",
                both,
            )?;
            transaction.execute(
                "UPDATE tally SET pending = 0, dead = 0
                 WHERE subscription IN (SELECT id FROM subscription WHERE consent = ?1)",
                [grant.get()],
            )?;
            transaction.execute(
                "UPDATE subscription SET status = 'revoked', status_reason = 'the grant was taken back'
                 WHERE consent = ?1",
                [grant.get()],
            )?;
            Ok(true)
        })
        .await
    }

    pub(in crate::store) async fn revoked_grants(&self) -> Result<Vec<Grant>, StoreError> {
        self.read(|connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT id, application, account, folders, scopes, created_at FROM consent
                 WHERE revoked_at IS NOT NULL ORDER BY id",
            )?;
            select.query_map([], |row| Ok(read_grant(row)))?.map(|row| row?).collect()
        })
        .await
    }

    pub(in crate::store) async fn set_application_disabled(
        &self,
        application: ApplicationId,
        disabled: bool,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            touch(transaction)?;
            let changed = transaction
                .execute("UPDATE application SET disabled = ?2 WHERE id = ?1", params![application.get(), disabled])?;
            if changed == 0 { Err(StoreError::Missing(application.to_string())) } else { Ok(()) }
        })
        .await
    }

    pub(in crate::store) async fn rotate_application_secret(
        &self,
        application: ApplicationId,
        secret_hash: String,
        overlap_until: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            touch(transaction)?;
            let changed = transaction.execute(
                "UPDATE application SET previous_secret_hash = client_secret_hash, previous_secret_until = ?3,
                     client_secret_hash = ?2
                 WHERE id = ?1",
                params![application.get(), secret_hash, overlap_until.as_millis()],
            )?;
            if changed == 0 { Err(StoreError::Missing(application.to_string())) } else { Ok(()) }
        })
        .await
    }

    pub(in crate::store) async fn consume(
        &self,
        notification: NotificationId,
        now: TimestampMs,
    ) -> Result<bool, StoreError> {
        self.write(move |transaction, _| {
            let changed = transaction.execute(
                "UPDATE notification SET consumed_at = ?2 WHERE id = ?1 AND consumed_at IS NULL",
                params![notification.uuid().as_bytes(), now.as_millis()],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    pub(in crate::store) async fn add_ingestion(
        &self,
        ingestion: Ingestion,
        forget_before: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute("DELETE FROM ingestion WHERE created_at < ?1", [forget_before.as_millis()])?;
            transaction.execute(
                "INSERT INTO ingestion (id, consent, folder, file_name, status, created_at, changed_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    ingestion.id.uuid().as_bytes(),
                    ingestion.grant.get(),
                    ingestion.folder,
                    ingestion.file_name,
                    ingestion.status.as_str(),
                    ingestion.created_at.as_millis(),
                    ingestion.changed_at.as_millis(),
                ],
            )?;
            Ok(())
        })
        .await
    }

    pub(in crate::store) async fn ingestion(&self, id: IngestionId) -> Result<Option<(Ingestion, Grant)>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT consent.id, application, account, folders, scopes, consent.created_at, folder, file_name, status,
                     ingestion.created_at, changed_at
                 FROM ingestion JOIN consent ON consent.id = ingestion.consent
                 WHERE ingestion.id = ?1 AND consent.revoked_at IS NULL",
            )?;
            let read = |row: &Row<'_>| -> Result<(Ingestion, Grant), StoreError> {
                let grant = read_grant(row)?;
                let ingestion = Ingestion {
                    id,
                    grant: grant.id,
                    folder: row.get(6)?,
                    file_name: row.get(7)?,
                    status: word(row, 8, "ingestion")?,
                    created_at: TimestampMs::from_millis(row.get(9)?),
                    changed_at: TimestampMs::from_millis(row.get(10)?),
                };
                Ok((ingestion, grant))
            };
            select.query_row([id.uuid().as_bytes()], |row| Ok(read(row))).optional()?.transpose()
        })
        .await
    }

    pub(in crate::store) async fn set_ingestion_status(
        &self,
        id: IngestionId,
        status: IngestionStatus,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            transaction.execute(
                "UPDATE ingestion SET status = ?2, changed_at = ?3 WHERE id = ?1",
                params![id.uuid().as_bytes(), status.as_str(), now.as_millis()],
            )?;
            Ok(())
        })
        .await
    }
}

fn add_key(transaction: &Transaction<'_>, key: &StoreKey, signing: &SigningKey) -> Result<(), StoreError> {
    touch(transaction)?;
    let sealed = key.seal(&place(&signing.kid), &signing.private).ok_or(StoreError::WrongKey)?;
    transaction.execute(
        "INSERT INTO signing_key (kid, private, created_at) VALUES (?1, ?2, ?3)",
        params![signing.kid, sealed, signing.created_at.as_millis()],
    )?;
    Ok(())
}

/// Where a signing key is sealed for.
fn place(kid: &str) -> String {
    format!("signing_key/{kid}")
}

fn open_family(transaction: &Transaction<'_>, family: &NewFamily, now: TimestampMs) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM token_family WHERE expires_at <= ?1", [now.as_millis()])?;
    let (id, expires_at) = (family.id.uuid(), family.expires_at.as_millis());
    transaction.execute(
        "INSERT INTO token_family (id, consent, expires_at) VALUES (?1, ?2, ?3)",
        params![id.as_bytes(), family.grant.get(), expires_at],
    )?;
    if let Some(hash) = family.refresh {
        transaction.execute(
            "INSERT INTO refresh_token (hash, family, expires_at) VALUES (?1, ?2, ?3)",
            params![hash, id.as_bytes(), expires_at],
        )?;
    }
    Ok(())
}

fn revoke_family(transaction: &Transaction<'_>, family: FamilyId, now: TimestampMs) -> Result<(), StoreError> {
    transaction.execute(
        "UPDATE token_family SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
        params![family.uuid().as_bytes(), now.as_millis()],
    )?;
    Ok(())
}

/// A refresh token with what decides whether it counts.
struct Found {
    family: FamilyId,
    grant: Grant,
    expires_at: TimestampMs,
    replaced_at: Option<TimestampMs>,
    revoked: bool,
    /// One that was given for it, or beside it for the same one, has been exchanged.
    overtaken: bool,
}

impl Found {
    fn live(&self) -> bool {
        !self.revoked && !self.overtaken && self.replaced_at.is_none()
    }
}

fn find_refresh(connection: &Connection, hash: [u8; 32]) -> Result<Option<Found>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT consent.id, application, account, folders, scopes, consent.created_at, t.family, t.expires_at,
             t.replaced_at,
             f.revoked_at IS NOT NULL OR consent.revoked_at IS NOT NULL,
             EXISTS (SELECT 1 FROM refresh_token other WHERE other.family = t.family AND other.hash <> t.hash
                 AND other.replaced_at IS NOT NULL AND (other.parent = t.parent OR other.parent = t.hash))
         FROM refresh_token t JOIN token_family f ON f.id = t.family JOIN consent ON consent.id = f.consent
         WHERE t.hash = ?1",
    )?;
    let read = |row: &Row<'_>| -> Result<Found, StoreError> {
        Ok(Found {
            grant: read_grant(row)?,
            family: FamilyId::new(Uuid::from_bytes(row.get(6)?)),
            expires_at: TimestampMs::from_millis(row.get(7)?),
            replaced_at: row.get::<_, Option<i64>>(8)?.map(TimestampMs::from_millis),
            revoked: row.get(9)?,
            overtaken: row.get(10)?,
        })
    };
    select.query_row([hash], |row| Ok(read(row))).optional()?.transpose()
}

fn exchange_refresh(
    transaction: &Transaction<'_>,
    exchange: &Exchange,
    now: TimestampMs,
) -> Result<Exchanged, StoreError> {
    let Some(found) = find_refresh(transaction, exchange.hash)? else { return Ok(Exchanged::Refused) };
    if found.grant.application != exchange.application || found.revoked || found.expires_at <= now {
        return Ok(Exchanged::Refused);
    }
    if found.overtaken || found.replaced_at.is_some_and(|at| at.after(exchange.grace) <= now) {
        revoke_family(transaction, found.family, now)?;
        return Ok(Exchanged::Reused);
    }
    let (family, expires_at) = (found.family.uuid(), exchange.expires_at.as_millis());
    transaction.execute(
        "UPDATE refresh_token SET replaced_at = coalesce(replaced_at, ?2) WHERE hash = ?1",
        params![exchange.hash, now.as_millis()],
    )?;
    transaction.execute(
        "INSERT INTO refresh_token (hash, family, parent, expires_at) VALUES (?1, ?2, ?3, ?4)",
        params![exchange.fresh, family.as_bytes(), exchange.hash, expires_at],
    )?;
    transaction.execute(
        "UPDATE token_family SET expires_at = max(expires_at, ?2) WHERE id = ?1",
        params![family.as_bytes(), expires_at],
    )?;
    transaction.execute(
        "DELETE FROM refresh_token WHERE family = ?1 AND expires_at <= ?2",
        params![family.as_bytes(), now.as_millis()],
    )?;
    Ok(Exchanged::Fresh(found.family, found.grant))
}

fn pairing(connection: &Connection, id: PairingId) -> Result<Option<Pairing>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT application, account, redirect_uri, scopes, state, challenge, transport, session_hash, expires_at,
             status, code_hash, code_expires_at, consent, family
         FROM pairing WHERE id = ?1",
    )?;
    let read = |row: &Row<'_>| -> Result<Pairing, StoreError> {
        Ok(Pairing {
            id,
            application: ApplicationId::new(row.get(0)?),
            account: AccountId::new(row.get(1)?),
            redirect_uri: row.get(2)?,
            scopes: list(row, 3, "pairing")?,
            state: row.get(4)?,
            challenge: row.get(5)?,
            transport: row.get(6)?,
            session_hash: row.get(7)?,
            expires_at: TimestampMs::from_millis(row.get(8)?),
            status: word(row, 9, "pairing")?,
            code_hash: row.get(10)?,
            code_expires_at: row.get::<_, Option<i64>>(11)?.map(TimestampMs::from_millis),
            grant: row.get::<_, Option<i64>>(12)?.map(GrantId::new),
            family: row.get::<_, Option<[u8; 16]>>(13)?.map(|bytes| FamilyId::new(Uuid::from_bytes(bytes))),
        })
    };
    select.query_row([id.uuid().as_bytes()], |row| Ok(read(row))).optional()?.transpose()
}

/// Gives a type its words in SQL.
macro_rules! words {
    ($name:ident { $($variant:ident => $text:literal),+ }) => {
        impl $name {
            /// The word for it in SQL and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::io::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(std::io::Error::other(concat!("an unknown ", stringify!($name)))),
                }
            }
        }
    };
}

words!(PairingStatus {
    Requested => "requested",
    Accepted => "accepted",
    Rejected => "rejected",
    Used => "used"
});
words!(IngestionStatus { AwaitingUpload => "awaiting_upload", Done => "done", Error => "error" });
