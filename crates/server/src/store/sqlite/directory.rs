//! Who is who: accounts, applications, grants, subscriptions, tokens.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use filebell_core::endpoint::EndpointUrl;
use filebell_core::filter::{Filter, FilterText};
use filebell_core::id::{AccountId, ApplicationId, FreshIds, GrantId, SubscriptionId};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Cadence, Customer, Protocol, ProtocolKind, Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::super::{
    Account, Application, Grant, NewAccount, NewApplication, NewProtocol, NewSubscription, StoreError, StoreKey,
};
use super::rows::{corrupt, directory, list, signed, unsigned, word};
use super::writer::WriterState;
use super::{SqliteStore, cadence};

impl SqliteStore {
    pub(in crate::store) async fn revision(&self) -> Result<i64, StoreError> {
        self.read(|connection, _| revision(connection)).await
    }

    pub(in crate::store) async fn upsert_account(
        &self,
        account: NewAccount,
        now: TimestampMs,
    ) -> Result<Account, StoreError> {
        self.write(move |transaction, _| {
            touch(transaction)?;
            transaction.execute(
                "INSERT INTO account (name, password_hash, root, customer_url, customer_id, customer_code, managed,
                     created_at, quota_bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (name) DO UPDATE SET password_hash = coalesce(excluded.password_hash, password_hash),
                     root_first_seen_at = iif(root IS excluded.root, root_first_seen_at, NULL),
                     baseline_done = iif(root IS excluded.root, baseline_done, 0),
                     root_dev = iif(root IS excluded.root, root_dev, NULL),
                     root = excluded.root, customer_url = excluded.customer_url,
                     customer_id = excluded.customer_id, customer_code = excluded.customer_code,
                     quota_bytes = iif(excluded.managed, excluded.quota_bytes,
                         coalesce(excluded.quota_bytes, quota_bytes)),
                     managed = excluded.managed",
                params![
                    account.name,
                    account.password_hash,
                    account.root.as_ref().map(|root| root.as_os_str().as_bytes()),
                    account.customer_url,
                    account.customer_id,
                    account.customer_code,
                    account.managed,
                    now.as_millis(),
                    account.quota_bytes.map(signed)
                ],
            )?;
            let sql = format!("{SELECT_ACCOUNT} WHERE name = ?1");
            Ok(transaction.query_row(&sql, [&account.name], read_account)?)
        })
        .await
    }

    pub(in crate::store) async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.read(|connection, _| {
            let mut select = connection.prepare_cached(&format!("{SELECT_ACCOUNT} ORDER BY name"))?;
            Ok(select.query_map([], read_account)?.collect::<Result<_, _>>()?)
        })
        .await
    }

    pub(in crate::store) async fn usage(&self, account: AccountId) -> Result<(u64, Option<u64>), StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached("SELECT used_bytes, quota_bytes FROM account WHERE id = ?1")?;
            let usage = select.query_row([account.get()], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)));
            let (used, quota) = usage.optional()?.ok_or_else(|| StoreError::Missing(account.to_string()))?;
            Ok((unsigned(used), quota.map(unsigned)))
        })
        .await
    }

    pub(in crate::store) async fn set_quota(&self, account: AccountId, quota: Option<u64>) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            touch(transaction)?;
            let written = transaction.execute(
                "UPDATE account SET quota_bytes = ?2 WHERE id = ?1",
                params![account.get(), quota.map(signed)],
            )?;
            if written == 0 { Err(StoreError::Missing(account.to_string())) } else { Ok(()) }
        })
        .await
    }

    pub(in crate::store) async fn remove_account(&self, account: AccountId) -> Result<(), StoreError> {
        self.remove("DELETE FROM account WHERE id = ?1", account.get(), account.to_string()).await
    }

    pub(in crate::store) async fn upsert_application(
        &self,
        application: NewApplication,
        now: TimestampMs,
    ) -> Result<Application, StoreError> {
        self.write(move |transaction, state| {
            touch(transaction)?;
            transaction
                .execute(
                    "INSERT INTO application (name, application_id, client_id, client_secret_hash, redirect_urls,
                         notification_url, signature_encoding, managed, created_at)
                     VALUES (?1, ?2, ?3, coalesce(?4, ''), ?5, ?6, ?7, ?8, ?9)
                     ON CONFLICT (name) DO UPDATE SET client_id = excluded.client_id,
                         client_secret_hash = coalesce(?4, client_secret_hash),
                         redirect_urls = excluded.redirect_urls, notification_url = excluded.notification_url,
                         signature_encoding = excluded.signature_encoding, managed = excluded.managed",
                    params![
                        application.name,
                        application.application_id,
                        application.client_id,
                        application.client_secret_hash,
                        json(&application.redirect_urls)?,
                        application.notification_url,
                        application.signature_encoding,
                        application.managed,
                        now.as_millis()
                    ],
                )
                .map_err(taken(|| format!("an application with the client id {}", application.client_id)))?;
            let sql = format!("{SELECT_APPLICATION} WHERE name = ?1");
            let application = transaction.query_row(&sql, [&application.name], |row| Ok(read_application(row)))??;
            for grant in grants(transaction)?.iter().filter(|grant| grant.application == application.id) {
                write_grant_subscription(transaction, state.key, &application, grant, now)?;
            }
            Ok(application)
        })
        .await
    }

    pub(in crate::store) async fn applications(&self) -> Result<Vec<Application>, StoreError> {
        self.read(|connection, _| applications(connection)).await
    }

    pub(in crate::store) async fn remove_application(&self, application: ApplicationId) -> Result<(), StoreError> {
        self.remove("DELETE FROM application WHERE id = ?1", application.get(), application.to_string()).await
    }

    pub(in crate::store) async fn upsert_grant(
        &self,
        application: ApplicationId,
        account: AccountId,
        folders: Vec<String>,
        scopes: Vec<String>,
        now: TimestampMs,
    ) -> Result<Grant, StoreError> {
        self.write(move |transaction, state| {
            touch(transaction)?;
            let grant = write_grant(transaction, state.key, &GrantText { application, account, folders, scopes }, now)?;
            Ok(grant)
        })
        .await
    }

    pub(in crate::store) async fn grants(&self) -> Result<Vec<Grant>, StoreError> {
        self.read(|connection, _| grants(connection)).await
    }

    pub(in crate::store) async fn upsert_subscription(
        &self,
        subscription: NewSubscription,
        now: TimestampMs,
        mut ids: FreshIds,
    ) -> Result<Subscription, StoreError> {
        self.write(move |transaction, state| upsert_subscription(transaction, state, &subscription, now, &mut ids))
            .await
    }

    pub(in crate::store) async fn subscriptions(&self) -> Result<Vec<Subscription>, StoreError> {
        self.read(|connection, inner| subscriptions(connection, &inner.key)).await
    }

    pub(in crate::store) async fn set_subscription_status(
        &self,
        subscription: SubscriptionId,
        status: SubscriptionStatus,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        self.write(move |transaction, _| set_status(transaction, subscription, status, reason.as_deref())).await
    }

    pub(in crate::store) async fn remove_subscription(&self, subscription: SubscriptionId) -> Result<(), StoreError> {
        self.remove("DELETE FROM subscription WHERE id = ?1", subscription.get(), subscription.to_string()).await
    }

    async fn remove(&self, sql: &'static str, id: i64, name: String) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            touch(transaction)?;
            if transaction.execute(sql, [id])? == 0 {
                return Err(StoreError::Missing(name));
            }
            Ok(())
        })
        .await
    }
}

/// The number of changes made to who is who.
pub(super) fn revision(connection: &Connection) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE key = 'revision'")?;
    Ok(select.query_row([], |row| row.get(0))?)
}

/// Takes in that who is who has changed.
pub(super) fn touch(transaction: &Transaction<'_>) -> Result<(), StoreError> {
    transaction.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'", [])?;
    Ok(())
}

pub(super) fn set_status(
    transaction: &Transaction<'_>,
    subscription: SubscriptionId,
    status: SubscriptionStatus,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    touch(transaction)?;
    let changed = transaction.execute(
        "UPDATE subscription SET status = ?2, status_reason = ?3 WHERE id = ?1",
        params![subscription.get(), status.as_str(), reason],
    )?;
    if changed == 0 { Err(StoreError::Missing(subscription.to_string())) } else { Ok(()) }
}

const SELECT_ACCOUNT: &str =
    "SELECT id, name, password_hash, root, customer_url, customer_id, customer_code, managed, quota_bytes FROM account";

fn read_account(row: &Row<'_>) -> rusqlite::Result<Account> {
    Ok(Account {
        id: AccountId::new(row.get(0)?),
        name: row.get(1)?,
        password_hash: row.get(2)?,
        root: row.get::<_, Option<Vec<u8>>>(3)?.map(directory),
        customer_url: row.get(4)?,
        customer_id: row.get(5)?,
        customer_code: row.get(6)?,
        managed: row.get(7)?,
        quota_bytes: row.get::<_, Option<i64>>(8)?.map(unsigned),
    })
}

const SELECT_APPLICATION: &str = "SELECT id, name, application_id, client_id, client_secret_hash, redirect_urls,
     notification_url, signature_encoding, managed, disabled, previous_secret_hash, previous_secret_until
     FROM application";

fn read_application(row: &Row<'_>) -> Result<Application, StoreError> {
    Ok(Application {
        id: ApplicationId::new(row.get(0)?),
        name: row.get(1)?,
        application_id: row.get(2)?,
        client_id: row.get(3)?,
        client_secret_hash: row.get(4)?,
        redirect_urls: list(row, 5, "application")?,
        notification_url: row.get(6)?,
        signature_encoding: row.get(7)?,
        managed: row.get(8)?,
        disabled: row.get(9)?,
        previous_secret: row
            .get::<_, Option<String>>(10)?
            .zip(row.get::<_, Option<i64>>(11)?.map(TimestampMs::from_millis)),
    })
}

fn applications(connection: &Connection) -> Result<Vec<Application>, StoreError> {
    let mut select = connection.prepare_cached(&format!("{SELECT_APPLICATION} ORDER BY name"))?;
    select.query_map([], |row| Ok(read_application(row)))?.map(|row| row?).collect()
}

pub(super) fn read_grant(row: &Row<'_>) -> Result<Grant, StoreError> {
    Ok(Grant {
        id: GrantId::new(row.get(0)?),
        application: ApplicationId::new(row.get(1)?),
        account: AccountId::new(row.get(2)?),
        folders: list(row, 3, "grant")?,
        scopes: list(row, 4, "grant")?,
        granted_at: TimestampMs::from_millis(row.get(5)?),
    })
}

fn grants(connection: &Connection) -> Result<Vec<Grant>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, application, account, folders, scopes, created_at FROM consent WHERE revoked_at IS NULL ORDER BY id",
    )?;
    select.query_map([], |row| Ok(read_grant(row)))?.map(|row| row?).collect()
}

/// A grant to be written.
pub(super) struct GrantText {
    pub(super) application: ApplicationId,
    pub(super) account: AccountId,
    pub(super) folders: Vec<String>,
    pub(super) scopes: Vec<String>,
}

/// Writes a grant and its subscription; both hold again if they were taken back.
pub(super) fn write_grant(
    transaction: &Transaction<'_>,
    key: &StoreKey,
    text: &GrantText,
    now: TimestampMs,
) -> Result<Grant, StoreError> {
    touch(transaction)?;
    let owner = applications(transaction)?
        .into_iter()
        .find(|one| one.id == text.application)
        .ok_or_else(|| StoreError::Missing(text.application.to_string()))?;
    let (id, granted_at) = transaction.query_row(
        "INSERT INTO consent (application, account, folders, scopes, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (application, account) DO UPDATE SET folders = excluded.folders, scopes = excluded.scopes,
             created_at = iif(revoked_at IS NULL, created_at, excluded.created_at), revoked_at = NULL
         RETURNING id, created_at",
        params![text.application.get(), text.account.get(), json(&text.folders)?, json(&text.scopes)?, now.as_millis()],
        |row| Ok((row.get::<_, i64>(0)?, TimestampMs::from_millis(row.get(1)?))),
    )?;
    transaction.execute(
        "UPDATE subscription SET status = 'active', status_reason = NULL WHERE consent = ?1 AND status = 'revoked'",
        [id],
    )?;
    let grant = Grant {
        id: GrantId::new(id),
        application: text.application,
        account: text.account,
        folders: text.folders.clone(),
        scopes: text.scopes.clone(),
        granted_at,
    };
    write_grant_subscription(transaction, key, &owner, &grant, now)?;
    Ok(grant)
}

/// All subscriptions, by name.
pub(super) fn subscriptions(connection: &Connection, key: &StoreKey) -> Result<Vec<Subscription>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT s.id, s.name, s.account, a.name, s.protocol, s.connection_id, s.url, s.key, s.min_interval_ms,
             s.filter, s.status, s.status_reason, s.managed, p.id, p.client_id, p.signature_encoding,
             a.customer_url, a.customer_id, a.customer_code
         FROM subscription s JOIN account a ON a.id = s.account
             LEFT JOIN consent c ON c.id = s.consent LEFT JOIN application p ON p.id = c.application
         ORDER BY s.name",
    )?;
    select.query_map([], |row| Ok(read_subscription(row, key)))?.map(|row| row?).collect()
}

fn read_subscription(row: &Row<'_>, key: &StoreKey) -> Result<Subscription, StoreError> {
    const WHAT: &str = "subscription";
    let name: String = row.get(1)?;
    let protocol = match word(row, 4, WHAT)? {
        ProtocolKind::Nextcloud => {
            Protocol::Nextcloud { connection_id: row.get::<_, Option<String>>(5)?.unwrap_or_default() }
        }
        ProtocolKind::SageX3 => Protocol::SageX3 {
            application: ApplicationId::new(row.get(13)?),
            client_id: row.get(14)?,
            signature_encoding: word(row, 15, WHAT)?,
            customer: Customer { url: row.get(16)?, id: row.get(17)?, code: row.get(18)? },
        },
        ProtocolKind::Standard => Protocol::Standard,
    };
    let url = row.get_ref(6)?.as_str().map_err(corrupt(WHAT))?;
    let filter: FilterText =
        serde_json::from_str(row.get_ref(9)?.as_str().map_err(corrupt(WHAT))?).map_err(corrupt(WHAT))?;
    let sealed = row.get_ref(7)?.as_blob().map_err(corrupt(WHAT))?;
    Ok(Subscription {
        id: SubscriptionId::new(row.get(0)?),
        account: AccountId::new(row.get(2)?),
        account_name: row.get(3)?,
        protocol,
        endpoint: url.parse::<EndpointUrl>().map_err(corrupt(WHAT))?,
        key: key.open(&place(&name), sealed).ok_or(StoreError::WrongKey)?,
        min_interval: Duration::from_millis(row.get::<_, i64>(8)?.cast_unsigned()),
        filter: Filter::new(filter).map_err(corrupt(WHAT))?,
        status: word(row, 10, WHAT)?,
        status_reason: row.get(11)?,
        managed: row.get(12)?,
        name,
    })
}

/// Writes a subscription, matched by name.
pub(super) fn upsert_subscription(
    transaction: &Transaction<'_>,
    state: &mut WriterState<'_>,
    subscription: &NewSubscription,
    now: TimestampMs,
    ids: &mut FreshIds,
) -> Result<Subscription, StoreError> {
    touch(transaction)?;
    let (key, before) = (state.key, cadence_of(transaction, &subscription.name)?);
    let (protocol, connection_id) = match &subscription.protocol {
        NewProtocol::Nextcloud(connection_id) => (ProtocolKind::Nextcloud, Some(connection_id.as_str())),
        NewProtocol::Standard => (ProtocolKind::Standard, None),
    };
    write_subscription(
        transaction,
        key,
        &Written {
            name: &subscription.name,
            account: subscription.account,
            grant: None,
            protocol,
            connection_id,
            url: &subscription.url,
            key: &subscription.key,
            min_interval: subscription.min_interval,
            filter: &subscription.filter,
            managed: subscription.managed,
        },
        now,
    )?;
    let written = subscriptions(transaction, key)?
        .into_iter()
        .find(|one| one.name == subscription.name)
        .ok_or_else(|| StoreError::Missing(subscription.name.clone()))?;
    if let Some(before) = before {
        cadence::change(transaction, state, written.id, (before, written.cadence()), now, ids)?;
    }
    Ok(written)
}

/// How the subscription with this name gathers its events, if there is one.
fn cadence_of(transaction: &Transaction<'_>, name: &str) -> Result<Option<Cadence>, StoreError> {
    let mut select =
        transaction.prepare_cached("SELECT protocol, min_interval_ms FROM subscription WHERE name = ?1")?;
    let read = |row: &Row<'_>| -> Result<Cadence, StoreError> {
        let min_interval = Duration::from_millis(row.get::<_, i64>(1)?.cast_unsigned());
        Ok(Cadence::of(word(row, 0, "subscription")?, min_interval))
    };
    select.query_row([name], |row| Ok(read(row))).optional()?.transpose()
}

struct Written<'a> {
    name: &'a str,
    account: AccountId,
    grant: Option<GrantId>,
    protocol: ProtocolKind,
    connection_id: Option<&'a str>,
    url: &'a str,
    key: &'a Secret,
    min_interval: Duration,
    filter: &'a FilterText,
    managed: bool,
}

fn write_subscription(
    transaction: &Transaction<'_>,
    key: &StoreKey,
    subscription: &Written<'_>,
    now: TimestampMs,
) -> Result<(), StoreError> {
    let sealed = key.seal(&place(subscription.name), subscription.key).ok_or(StoreError::WrongKey)?;
    transaction.execute(
        "INSERT INTO subscription (name, account, consent, protocol, connection_id, url, key, min_interval_ms, filter,
             status, managed, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'active', ?10, ?11)
         ON CONFLICT (name) DO UPDATE SET account = excluded.account, consent = excluded.consent,
             protocol = excluded.protocol, connection_id = excluded.connection_id, url = excluded.url,
             key = excluded.key, min_interval_ms = excluded.min_interval_ms, filter = excluded.filter,
             managed = excluded.managed",
        params![
            subscription.name,
            subscription.account.get(),
            subscription.grant.map(GrantId::get),
            subscription.protocol.as_str(),
            subscription.connection_id,
            subscription.url,
            sealed,
            i64::try_from(subscription.min_interval.as_millis()).unwrap_or(i64::MAX),
            serde_json::to_string(subscription.filter).map_err(corrupt("filter"))?,
            subscription.managed,
            now.as_millis()
        ],
    )?;
    Ok(())
}

/// A grant of an application with a notification URL is a subscription; one without is none.
fn write_grant_subscription(
    transaction: &Transaction<'_>,
    key: &StoreKey,
    application: &Application,
    grant: &Grant,
    now: TimestampMs,
) -> Result<(), StoreError> {
    let Some(url) = &application.notification_url else {
        transaction.execute("DELETE FROM subscription WHERE consent = ?1", [grant.id.get()])?;
        return Ok(());
    };
    let account: String =
        transaction.query_row("SELECT name FROM account WHERE id = ?1", [grant.account.get()], |row| row.get(0))?;
    write_subscription(
        transaction,
        key,
        &Written {
            name: &format!("{}/{account}", application.name),
            account: grant.account,
            grant: Some(grant.id),
            protocol: ProtocolKind::SageX3,
            connection_id: None,
            url,
            key: &Secret::new(application.client_id.as_str()),
            min_interval: Duration::ZERO,
            filter: &FilterText { folders: grant.folders.clone(), ..FilterText::default() },
            managed: application.managed,
        },
        now,
    )
}

/// Where a subscription's key is sealed for.
fn place(name: &str) -> String {
    format!("subscription/{name}")
}

pub(super) fn json(texts: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(texts).map_err(corrupt("list"))
}

/// Tells a taken name or client id from other failures.
fn taken(what: impl FnOnce() -> String) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Exists(what()),
        _ => error.into(),
    }
}
