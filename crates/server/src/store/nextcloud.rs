//! The verbs that only the Nextcloud protocol needs.

use std::collections::HashMap;

use filebell_core::id::{AccountId, FreshIds};
use filebell_core::path::FilePath;
use filebell_core::secret::Secret;
use filebell_core::time::TimestampMs;

use super::{NewSubscription, Store, StoreError, dispatch};

/// A password made for one client of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPassword {
    /// Unique in its account.
    pub name: String,
    /// When it was made.
    pub created_at: TimestampMs,
    /// When it was last used, to the minute; `None` if never.
    pub last_used_at: Option<TimestampMs>,
}

/// A dead property of WebDAV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// `{namespace}local`.
    pub name: String,
    /// XML that can stand in any element.
    pub value: String,
}

/// The name of the subscription that an account's own connection is.
pub fn connection_name(account: &str) -> String {
    format!("nextcloud/{account}")
}

impl Store {
    /// What an account posted to connect its receiver.
    pub async fn connection(&self, account: AccountId) -> Result<Option<Secret>, StoreError> {
        dispatch!(self, connection(account))
    }

    /// Keeps what an account posted, and writes the subscription that comes of it; without one, the subscription
    /// named [`connection_name`] is paused.
    pub async fn put_connection(
        &self,
        account: AccountId,
        settings: Secret,
        subscription: Option<NewSubscription>,
        now: TimestampMs,
        ids: FreshIds,
    ) -> Result<(), StoreError> {
        dispatch!(self, put_connection(account, settings, subscription, now, ids))
    }

    /// Forgets what an account posted, and pauses its subscription.
    pub async fn remove_connection(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, remove_connection(account))
    }

    /// Keeps an app password; its name is unique in its account.
    pub async fn add_app_password(
        &self,
        account: AccountId,
        name: String,
        hash: [u8; 32],
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, add_app_password(account, name, hash, now))
    }

    /// An account's app passwords, by name.
    pub async fn app_passwords(&self, account: AccountId) -> Result<Vec<AppPassword>, StoreError> {
        dispatch!(self, app_passwords(account))
    }

    /// Forgets an app password.
    pub async fn remove_app_password(&self, account: AccountId, name: String) -> Result<(), StoreError> {
        dispatch!(self, remove_app_password(account, name))
    }

    /// The account whose app password this is; its use is noted to the minute.
    pub async fn use_app_password(&self, hash: [u8; 32], now: TimestampMs) -> Result<Option<AccountId>, StoreError> {
        dispatch!(self, use_app_password(hash, now))
    }

    /// The properties of what lies at these paths, by path and name. The root's path is empty.
    pub async fn properties(
        &self,
        account: AccountId,
        paths: Vec<Vec<u8>>,
    ) -> Result<HashMap<Vec<u8>, Vec<Property>>, StoreError> {
        dispatch!(self, properties(account, paths))
    }

    /// Sets properties, or removes those without a value, all or none.
    pub async fn set_properties(
        &self,
        account: AccountId,
        path: Vec<u8>,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), StoreError> {
        dispatch!(self, set_properties(account, path, changes))
    }

    /// Gives the properties of what lies at and below `from` to what lies at and below `to`.
    pub async fn copy_properties(&self, account: AccountId, from: FilePath, to: FilePath) -> Result<(), StoreError> {
        dispatch!(self, copy_properties(account, from, to))
    }

    /// As [`Self::copy_properties`], and takes them from where they were. Files do this when their move is recorded;
    /// directories are not recorded.
    pub async fn move_properties(&self, account: AccountId, from: FilePath, to: FilePath) -> Result<(), StoreError> {
        dispatch!(self, move_properties(account, from, to))
    }

    /// Forgets the properties of what lay at and below `path`.
    pub async fn remove_properties(&self, account: AccountId, path: FilePath) -> Result<(), StoreError> {
        dispatch!(self, remove_properties(account, path))
    }
}
