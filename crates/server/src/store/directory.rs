//! The verbs about who is who, and who wants to know.

use std::time::Duration;

use filebell_core::id::{AccountId, ApplicationId, FreshIds, GrantId, SubscriptionId};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Subscription, SubscriptionStatus};
use filebell_core::time::TimestampMs;

use super::{Store, StoreError, dispatch};

/// An account: the owner of a tree of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique: the user name of the Nextcloud protocol.
    pub name: String,
    /// Argon2 hash of its password, in PHC form; `None` if it cannot log in.
    pub password_hash: Option<String>,
    /// The directory its files lie in; `None` if it has no watched tree.
    pub root: Option<std::path::PathBuf>,
    /// Sage X3 customer URL.
    pub customer_url: String,
    /// Sage X3 customer id.
    pub customer_id: String,
    /// Sage X3 customer code.
    pub customer_code: String,
    /// How many bytes it may hold; `None` as many as it likes.
    pub quota_bytes: Option<u64>,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// An account to be written; matched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// See [`Account::name`].
    pub name: String,
    /// See [`Account::password_hash`]; `None` keeps the one stored.
    pub password_hash: Option<String>,
    /// See [`Account::root`].
    pub root: Option<std::path::PathBuf>,
    /// See [`Account::customer_url`].
    pub customer_url: String,
    /// See [`Account::customer_id`].
    pub customer_id: String,
    /// See [`Account::customer_code`].
    pub customer_code: String,
    /// See [`Account::quota_bytes`]; `None` keeps the one stored, unless it is declared in the configuration file.
    pub quota_bytes: Option<u64>,
    /// See [`Account::managed`].
    pub managed: bool,
}

/// An application: a third-party program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// Its name, unique.
    pub name: String,
    /// Its id in Sage X3 details and tokens: a UUID, another than the client id.
    pub application_id: String,
    /// Its public id, unique; also the key of its notification signatures.
    pub client_id: String,
    /// Argon2 hash of its client secret, in PHC form.
    pub client_secret_hash: String,
    /// Where a pairing may return to.
    pub redirect_urls: Vec<String>,
    /// Where it is told; `None` tells it nothing.
    pub notification_url: Option<String>,
    /// `hex` or `base64`.
    pub signature_encoding: String,
    /// Declared in the configuration file.
    pub managed: bool,
    /// Refused everywhere, and told nothing, until it is enabled again.
    pub disabled: bool,
    /// Hash of the secret before this one, and until when it still counts.
    pub previous_secret: Option<(String, TimestampMs)>,
}

/// An application to be written; matched by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewApplication {
    /// See [`Application::name`].
    pub name: String,
    /// See [`Application::application_id`]; used only when the application is new.
    pub application_id: String,
    /// See [`Application::client_id`].
    pub client_id: String,
    /// See [`Application::client_secret_hash`]; `None` keeps the one stored.
    pub client_secret_hash: Option<String>,
    /// See [`Application::redirect_urls`].
    pub redirect_urls: Vec<String>,
    /// See [`Application::notification_url`].
    pub notification_url: Option<String>,
    /// See [`Application::signature_encoding`].
    pub signature_encoding: String,
    /// See [`Application::managed`].
    pub managed: bool,
}

/// An account's consent that an application may see certain folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who may see.
    pub application: ApplicationId,
    /// Whose files.
    pub account: AccountId,
    /// Which top-level directories.
    pub folders: Vec<String>,
    /// What it may do, such as `api.dataDelivery`.
    pub scopes: Vec<String>,
    /// Since when it holds.
    pub granted_at: TimestampMs,
}

/// A subscription to be written; matched by name.
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Unique name.
    pub name: String,
    /// Whose events.
    pub account: AccountId,
    /// `nextcloud` with its connection id, or `standard`. Sage X3 subscriptions are made by grants.
    pub protocol: NewProtocol,
    /// Where it is told.
    pub url: String,
    /// What it is signed with.
    pub key: Secret,
    /// The least time between two sends.
    pub min_interval: Duration,
    /// Which events.
    pub filter: filebell_core::filter::FilterText,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// The protocols a subscription can be made for by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewProtocol {
    /// Nextcloud's File Upload Notification, with the connection id.
    Nextcloud(String),
    /// Standard Webhooks.
    Standard,
}

impl Store {
    /// Writes an account, matched by name.
    pub async fn upsert_account(&self, account: NewAccount, now: TimestampMs) -> Result<Account, StoreError> {
        dispatch!(self, upsert_account(account, now))
    }

    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        dispatch!(self, accounts())
    }

    /// Removes an account with its subscriptions, grants, files and events. The directory tree is not touched.
    pub async fn remove_account(&self, account: AccountId) -> Result<(), StoreError> {
        dispatch!(self, remove_account(account))
    }

    /// Writes an application, matched by name; its grants' subscriptions follow its notification URL.
    pub async fn upsert_application(
        &self,
        application: NewApplication,
        now: TimestampMs,
    ) -> Result<Application, StoreError> {
        dispatch!(self, upsert_application(application, now))
    }

    /// All applications, by name.
    pub async fn applications(&self) -> Result<Vec<Application>, StoreError> {
        dispatch!(self, applications())
    }

    /// Removes an application with its grants, their subscriptions and tokens.
    pub async fn remove_application(&self, application: ApplicationId) -> Result<(), StoreError> {
        dispatch!(self, remove_application(application))
    }

    /// Writes a grant, matched by application and account; one that was taken back holds again. With a notification URL it is also a subscription, named
    /// `APPLICATION/ACCOUNT`.
    pub async fn upsert_grant(
        &self,
        application: ApplicationId,
        account: AccountId,
        folders: Vec<String>,
        scopes: Vec<String>,
        now: TimestampMs,
    ) -> Result<Grant, StoreError> {
        dispatch!(self, upsert_grant(application, account, folders, scopes, now))
    }

    /// All grants that were not taken back.
    pub async fn grants(&self) -> Result<Vec<Grant>, StoreError> {
        dispatch!(self, grants())
    }

    /// Writes a subscription, matched by name. What it is owed stays owed, also when its interval is another.
    pub async fn upsert_subscription(
        &self,
        subscription: NewSubscription,
        now: TimestampMs,
        ids: FreshIds,
    ) -> Result<Subscription, StoreError> {
        dispatch!(self, upsert_subscription(subscription, now, ids))
    }

    /// All subscriptions, by name.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, StoreError> {
        dispatch!(self, subscriptions())
    }

    /// Pauses, resumes or disables a subscription.
    pub async fn set_subscription_status(
        &self,
        subscription: SubscriptionId,
        status: SubscriptionStatus,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        dispatch!(self, set_subscription_status(subscription, status, reason))
    }

    /// Removes a subscription with all it is owed.
    pub async fn remove_subscription(&self, subscription: SubscriptionId) -> Result<(), StoreError> {
        dispatch!(self, remove_subscription(subscription))
    }
}
