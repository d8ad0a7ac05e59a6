//! Who is who: accounts, applications, grants, subscriptions, tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use filebell_core::endpoint::EndpointUrl;
use filebell_core::filter::{Filter, FilterText};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Protocol, ProtocolKind, SignatureEncoding, Subscription, SubscriptionStatus};
use filebell_core::wire::nextcloud;
use filebell_core::wire::standard::StandardKey;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use super::{Ops, OpsError, passwords};
use crate::beneath::keep_apart;
use crate::store::{
    Account, Application, Grant, NewAccount, NewApplication, NewProtocol, NewSubscription, Notification,
    connection_name,
};

/// The longest name of an account, application or subscription, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// An account as it is asked for.
#[derive(Debug, Clone)]
pub struct AccountRequest {
    /// Its name.
    pub name: String,
    /// Its password; `None` keeps the one it has.
    pub password: Option<Secret>,
    /// The directory its files lie in.
    pub root: Option<PathBuf>,
    /// Sage X3 customer URL.
    pub customer_url: String,
    /// Sage X3 customer id.
    pub customer_id: String,
    /// Sage X3 customer code.
    pub customer_code: String,
    /// How many bytes it may hold; `None` keeps the quota it has, or, where it is declared in the configuration file,
    /// lets it hold as many as it likes.
    pub quota_bytes: Option<u64>,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// An application as it is asked for.
#[derive(Debug, Clone)]
pub struct ApplicationRequest {
    /// Its name.
    pub name: String,
    /// Its public id; `None` makes one up, or keeps the one it has.
    pub client_id: Option<String>,
    /// Its secret; `None` makes one up, or keeps the one it has.
    pub client_secret: Option<Secret>,
    /// Where a pairing may return to.
    pub redirect_urls: Vec<String>,
    /// Where it is told.
    pub notification_url: Option<String>,
    /// How its signatures are written.
    pub signature_encoding: SignatureEncoding,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// A grant as it is asked for.
#[derive(Debug, Clone)]
pub struct GrantRequest {
    /// The application's name.
    pub application: String,
    /// The account's name.
    pub account: String,
    /// Which top-level directories.
    pub folders: Vec<String>,
    /// What it may do.
    pub scopes: Vec<String>,
}

/// A subscription as it is asked for.
#[derive(Debug, Clone)]
pub struct SubscriptionRequest {
    /// Its name.
    pub name: String,
    /// The account's name.
    pub account: String,
    /// How it is told.
    pub protocol: ProtocolRequest,
    /// Where it is told.
    pub url: String,
    /// What it is signed with; `None` makes one up.
    pub key: Option<Secret>,
    /// The least time between two sends; whole seconds for `nextcloud`.
    pub min_interval: Duration,
    /// Which events.
    pub filter: FilterText,
    /// Declared in the configuration file.
    pub managed: bool,
}

/// A protocol as it is asked for. Sage X3 subscriptions come from grants.
#[derive(Debug, Clone)]
pub enum ProtocolRequest {
    /// Nextcloud's File Upload Notification, with its connection id.
    Nextcloud {
        /// Carried verbatim as `id`.
        connection_id: String,
    },
    /// Standard Webhooks.
    Standard,
}

/// What is to be changed of an account; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// Its password.
    pub password: Option<Secret>,
    /// The directory its files lie in, or none at all.
    pub root: Option<Option<PathBuf>>,
    /// Sage X3 customer URL.
    pub customer_url: Option<String>,
    /// Sage X3 customer id.
    pub customer_id: Option<String>,
    /// Sage X3 customer code.
    pub customer_code: Option<String>,
    /// How many bytes it may hold, or as many as it likes.
    pub quota_bytes: Option<Option<u64>>,
}

/// What is to be changed of a subscription; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionChange {
    /// Where it is told.
    pub url: Option<String>,
    /// The connection id of the Nextcloud protocol.
    pub connection_id: Option<String>,
    /// What it is signed with.
    pub key: Option<Secret>,
    /// The least time between two sends.
    pub min_interval: Option<Duration>,
    /// Which events.
    pub filter: Option<FilterText>,
}

impl Ops {
    /// Adds an account; its name must be free.
    pub async fn add_account(&self, request: AccountRequest) -> Result<Account, OpsError> {
        match self.account(&request.name).await {
            Ok(_) => Err(OpsError::Exists(format!("an account `{}`", request.name))),
            Err(OpsError::NotFound(_)) => self.write_account(request).await,
            Err(error) => Err(error),
        }
    }

    /// Changes an account. With a new root, what was known of the files in the old one is forgotten.
    pub async fn change_account(&self, name: &str, change: AccountChange) -> Result<Account, OpsError> {
        let account = self.account(name).await?;
        if account.managed {
            return Err(OpsError::Managed(format!("account `{name}`")));
        }
        let request = AccountRequest {
            name: account.name,
            password: change.password,
            root: change.root.unwrap_or(account.root),
            customer_url: change.customer_url.unwrap_or(account.customer_url),
            customer_id: change.customer_id.unwrap_or(account.customer_id),
            customer_code: change.customer_code.unwrap_or(account.customer_code),
            quota_bytes: None,
            managed: false,
        };
        let mut written = self.write_account(request).await?;
        if let Some(quota) = change.quota_bytes {
            self.set_quota(name, quota).await?;
            written.quota_bytes = quota;
        }
        Ok(written)
    }

    /// Writes an account, matched by name.
    pub async fn write_account(&self, request: AccountRequest) -> Result<Account, OpsError> {
        check_name(&request.name)?;
        let root = match &request.root {
            Some(root) => Some(self.check_root(&request.name, root).await?),
            None => None,
        };
        let password_hash = match request.password {
            Some(password) => self.new_password(&request.name, password).await?,
            None => None,
        };
        let account = NewAccount {
            name: request.name,
            password_hash,
            root,
            customer_url: request.customer_url,
            customer_id: request.customer_id,
            customer_code: request.customer_code,
            quota_bytes: request.quota_bytes,
            managed: request.managed,
        };
        Ok(self.0.store.upsert_account(account, self.0.seams.now()).await?)
    }

    /// The hash of a new password, `None` if it is the one before. A new one signs out whoever knew the old one.
    async fn new_password(&self, name: &str, password: Secret) -> Result<Option<String>, OpsError> {
        if let Some(known) = self.directory().await?.accounts.get(name).filter(|known| known.password_hash.is_some()) {
            if self.0.passwords.check(name, password.clone(), known.password_hash.clone()).await {
                return Ok(None);
            }
            self.0.store.end_sessions_of(known.id).await?;
        }
        Ok(Some(hash(password).await?))
    }

    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<Account>, OpsError> {
        Ok(self.0.store.accounts().await?)
    }

    /// The account with this name.
    pub async fn account(&self, name: &str) -> Result<Account, OpsError> {
        let directory = self.directory().await?;
        directory.accounts.get(name).cloned().ok_or_else(|| OpsError::NotFound(format!("account `{name}`")))
    }

    /// Removes an account with all that filebell knows of it. Its files stay.
    pub async fn remove_account(&self, name: &str) -> Result<(), OpsError> {
        let account = self.account(name).await?;
        if account.managed {
            return Err(OpsError::Managed(format!("account `{name}`")));
        }
        Ok(self.0.store.remove_account(account.id).await?)
    }

    /// Adds an application; its name must be free. Answers it with its client secret.
    pub async fn add_application(
        &self,
        request: ApplicationRequest,
    ) -> Result<(Application, Option<Secret>), OpsError> {
        match self.application(&request.name).await {
            Ok(_) => Err(OpsError::Exists(format!("an application `{}`", request.name))),
            Err(OpsError::NotFound(_)) => self.write_application(request).await,
            Err(error) => Err(error),
        }
    }

    /// Writes an application, matched by name. Answers it with its client secret, if one was made or given.
    pub async fn write_application(
        &self,
        request: ApplicationRequest,
    ) -> Result<(Application, Option<Secret>), OpsError> {
        check_name(&request.name)?;
        for url in request.redirect_urls.iter().chain(&request.notification_url) {
            url.parse::<EndpointUrl>()?;
        }
        let known = self.applications().await?.into_iter().find(|one| one.name == request.name);
        let secret = match (request.client_secret, &known) {
            (Some(secret), _) => Some(secret),
            (None, Some(_)) => None,
            (None, None) => Some(random_text("fbs_")?),
        };
        let secret_hash = match &secret {
            Some(secret) => Some(hash(secret.clone()).await?),
            None => None,
        };
        let client_id = request.client_id.or(known.map(|known| known.client_id));
        let application = NewApplication {
            name: request.name,
            application_id: random_uuid()?.to_string(),
            client_id: client_id.map_or_else(|| random_uuid().map(|uuid| uuid.to_string()), Ok)?,
            client_secret_hash: secret_hash,
            redirect_urls: request.redirect_urls,
            notification_url: request.notification_url,
            signature_encoding: request.signature_encoding.to_string(),
            managed: request.managed,
        };
        Ok((self.0.store.upsert_application(application, self.0.seams.now()).await?, secret))
    }

    /// All applications, by name.
    pub async fn applications(&self) -> Result<Vec<Application>, OpsError> {
        Ok(self.0.store.applications().await?)
    }

    /// The application with this name.
    pub async fn application(&self, name: &str) -> Result<Application, OpsError> {
        let found = self.applications().await?.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| OpsError::NotFound(format!("application `{name}`")))
    }

    /// Removes an application with its grants and tokens.
    pub async fn remove_application(&self, name: &str) -> Result<(), OpsError> {
        let application = self.application(name).await?;
        if application.managed {
            return Err(OpsError::Managed(format!("application `{name}`")));
        }
        Ok(self.0.store.remove_application(application.id).await?)
    }

    /// Writes a grant, matched by application and account.
    pub async fn write_grant(&self, request: GrantRequest) -> Result<Grant, OpsError> {
        let application = self.application(&request.application).await?;
        let account = self.account(&request.account).await?;
        Filter::new(FilterText { folders: request.folders.clone(), ..FilterText::default() })?;
        let now = self.0.seams.now();
        Ok(self.0.store.upsert_grant(application.id, account.id, request.folders, request.scopes, now).await?)
    }

    /// All grants.
    pub async fn grants(&self) -> Result<Vec<Grant>, OpsError> {
        Ok(self.0.store.grants().await?)
    }

    /// Adds a subscription; its name must be free. Answers it with its key.
    pub async fn add_subscription(&self, request: SubscriptionRequest) -> Result<Subscription, OpsError> {
        match self.subscription(&request.name).await {
            Ok(_) => Err(OpsError::Exists(format!("a subscription `{}`", request.name))),
            Err(OpsError::NotFound(_)) => self.write_subscription(request).await,
            Err(error) => Err(error),
        }
    }

    /// Changes a subscription that the operator added.
    pub async fn change_subscription(&self, name: &str, change: SubscriptionChange) -> Result<Subscription, OpsError> {
        let known = self.operators_subscription(name).await?;
        let protocol = match (known.protocol, change.connection_id) {
            (Protocol::Nextcloud { connection_id }, given) => {
                ProtocolRequest::Nextcloud { connection_id: given.unwrap_or(connection_id) }
            }
            (_, None) => ProtocolRequest::Standard,
            (_, Some(_)) => return Err(OpsError::Conflict(format!("subscription `{name}` has no connection id"))),
        };
        let request = SubscriptionRequest {
            name: known.name,
            account: known.account_name,
            protocol,
            url: change.url.unwrap_or_else(|| known.endpoint.to_string()),
            key: Some(change.key.unwrap_or(known.key)),
            min_interval: change.min_interval.unwrap_or(known.min_interval),
            filter: change.filter.unwrap_or_else(|| known.filter.text().clone()),
            managed: false,
        };
        self.write_subscription(request).await
    }

    /// Gives a subscription a fresh key, shown once. It signs from here on, also what was sent before and is repeated.
    pub async fn rotate_subscription_key(&self, name: &str) -> Result<Secret, OpsError> {
        let key = generate_key(self.operators_subscription(name).await?.protocol.kind())?;
        self.change_subscription(name, SubscriptionChange { key: Some(key.clone()), ..SubscriptionChange::default() })
            .await?;
        Ok(key)
    }

    /// A subscription that is the operator's to change.
    async fn operators_subscription(&self, name: &str) -> Result<Subscription, OpsError> {
        let subscription = self.subscription(name).await?;
        self.why_fixed(&subscription).map_or(Ok(subscription), Err)
    }

    /// Why the operator cannot change a subscription, if that is so.
    pub fn why_fixed(&self, subscription: &Subscription) -> Option<OpsError> {
        let name = &subscription.name;
        if subscription.managed {
            return Some(OpsError::Managed(format!("subscription `{name}`")));
        }
        if subscription.protocol.kind() == ProtocolKind::SageX3 {
            let why = format!("subscription `{name}` follows its application and grant; change those");
            return Some(OpsError::Conflict(why));
        }
        (*name == connection_name(&subscription.account_name)).then(|| {
            OpsError::Conflict(format!(
                "subscription `{name}` is the account's own connection; only the account changes it"
            ))
        })
    }

    /// Writes a subscription, matched by name. Answers it with its key.
    pub async fn write_subscription(&self, request: SubscriptionRequest) -> Result<Subscription, OpsError> {
        check_name(&request.name)?;
        request.url.parse::<EndpointUrl>()?;
        Filter::new(request.filter.clone())?;
        let account = self.account(&request.account).await?;
        let kind = match request.protocol {
            ProtocolRequest::Nextcloud { .. } => ProtocolKind::Nextcloud,
            ProtocolRequest::Standard => ProtocolKind::Standard,
        };
        let key = match request.key {
            Some(key) => key,
            None => generate_key(kind)?,
        };
        let wrong_key = |error: &dyn std::error::Error| OpsError::Key(error.to_string());
        let (protocol, key) = match request.protocol {
            ProtocolRequest::Nextcloud { connection_id } => {
                let key = nextcloud::common_key(key.expose()).map_err(|error| wrong_key(&error))?;
                (NewProtocol::Nextcloud(connection_id), key)
            }
            ProtocolRequest::Standard => {
                let key = StandardKey::parse(&key).map_err(|error| wrong_key(&error))?;
                (NewProtocol::Standard, key.to_text())
            }
        };
        let subscription = NewSubscription {
            name: request.name,
            account: account.id,
            protocol,
            url: request.url,
            key,
            min_interval: request.min_interval,
            filter: request.filter,
            managed: request.managed,
        };
        let (now, ids) = (self.0.seams.now(), self.0.seams.fresh_ids());
        Ok(self.0.store.upsert_subscription(subscription, now, ids).await?)
    }

    /// All subscriptions, by name.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, OpsError> {
        Ok(self.0.store.subscriptions().await?)
    }

    /// The subscription with this name.
    pub async fn subscription(&self, name: &str) -> Result<Subscription, OpsError> {
        let found = self.subscriptions().await?.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| OpsError::NotFound(format!("subscription `{name}`")))
    }

    /// Pauses or resumes a subscription. What it is owed is kept.
    pub async fn set_subscription_status(&self, name: &str, status: SubscriptionStatus) -> Result<(), OpsError> {
        let subscription = self.subscription(name).await?;
        if subscription.status == SubscriptionStatus::Revoked {
            return Err(OpsError::NotFound(format!("grant behind subscription `{name}`: it was taken back")));
        }
        self.0.store.set_subscription_status(subscription.id, status, None).await?;
        self.tell_of_change();
        Ok(())
    }

    /// Removes a subscription with all it is owed.
    pub async fn remove_subscription(&self, name: &str) -> Result<(), OpsError> {
        let subscription = self.subscription(name).await?;
        if subscription.managed {
            return Err(OpsError::Managed(format!("subscription `{name}`")));
        }
        if subscription.protocol.kind() == ProtocolKind::SageX3 {
            return Err(OpsError::Conflict(format!("subscription `{name}` comes from a grant; take that back")));
        }
        Ok(self.0.store.remove_subscription(subscription.id).await?)
    }

    /// At most `limit` notifications of a subscription, newest first.
    pub async fn notifications(&self, name: &str, limit: u32) -> Result<Vec<Notification>, OpsError> {
        let subscription = self.subscription(name).await?;
        Ok(self.0.store.notifications(subscription.id, limit).await?)
    }

    /// Makes the dead notifications of a subscription pending again; answers how many.
    pub async fn replay_dead(&self, name: &str) -> Result<u64, OpsError> {
        let subscription = self.subscription(name).await?;
        Ok(self.0.store.replay_dead(subscription.id, self.0.seams.now()).await?)
    }

    /// From now on whoever listens hears at once that somebody is to be told no more, or again. Every other change, and
    /// those of commands, are noticed a moment later.
    pub fn telling(&self, change: watch::Sender<u64>) {
        // A second call changes nothing; there is one app to call it.
        let _ = self.0.change.set(change);
    }

    pub(super) fn tell_of_change(&self) {
        if let Some(change) = self.0.change.get() {
            change.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
    }

    /// From now on no root may hold `data_dir`, or be it: filebell's own keys lie there.
    pub fn keeping(&self, data_dir: PathBuf) {
        // A second call changes nothing; whoever opens the data directory calls it.
        let _ = self.0.home.set(data_dir);
    }

    /// Whether an account's root, as it was once accepted, still holds nothing of filebell's own.
    pub fn check_root_of(&self, account: &Account) -> Result<(), OpsError> {
        account.root.as_deref().map_or(Ok(()), |root| self.check_home(root, root))
    }

    fn check_home(&self, root: &Path, given: &Path) -> Result<(), OpsError> {
        let apart = self.0.home.get().map_or(Ok(()), |home| keep_apart(root, home));
        apart.map_err(|error| OpsError::Root { root: given.display().to_string(), why: error.to_string() })
    }

    /// A root must be a directory of its own: two accounts never see one file.
    async fn check_root(&self, name: &str, root: &Path) -> Result<PathBuf, OpsError> {
        let wrong = |why: String| OpsError::Root { root: root.display().to_string(), why };
        let real = std::fs::canonicalize(root).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => wrong("does not exist; make it first (mkdir -p)".into()),
            _ => wrong(format!("cannot be opened: {error}")),
        })?;
        if !real.is_dir() {
            return Err(wrong("is not a directory".into()));
        }
        self.check_home(&real, root)?;
        for other in self.accounts().await?.iter().filter(|other| other.name != name) {
            if let Some(taken) =
                other.root.as_deref().filter(|taken| real.starts_with(taken) || taken.starts_with(&real))
            {
                let (taken, other) = (taken.display(), &other.name);
                return Err(wrong(format!(
                    "overlaps {taken}, the root of account `{other}`; give each account a directory of its own"
                )));
            }
        }
        Ok(real)
    }
}

/// A fresh key for a protocol: 32 hex digits for `nextcloud`, `whsec_…` for `standard`.
pub fn generate_key(kind: ProtocolKind) -> Result<Secret, OpsError> {
    match kind {
        ProtocolKind::Nextcloud => Ok(Secret::new(hex::encode(random_bytes::<16>()?))),
        ProtocolKind::Standard | ProtocolKind::SageX3 => {
            let key = StandardKey::from_bytes(random_bytes::<32>()?.to_vec());
            key.map(|key| key.to_text()).map_err(|error| OpsError::Key(error.to_string()))
        }
    }
}

/// A connection of the Nextcloud protocol is told at most so often if nothing else is said.
pub const NEXTCLOUD_INTERVAL: Duration = Duration::from_secs(10);

/// A fresh admin token.
pub fn generate_admin_token() -> Result<Secret, OpsError> {
    random_text("fbo_")
}

/// Whether a text can be the name of an account, application or subscription.
pub fn check_name(name: &str) -> Result<(), OpsError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
    let begins_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if begins_well && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(OpsError::Name(name.to_owned()))
    }
}

pub(super) fn token_hash(token: &Secret) -> [u8; 32] {
    Sha256::digest(token.expose().as_bytes()).into()
}

pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N], OpsError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| OpsError::NoRandomness)?;
    Ok(bytes)
}

pub(super) fn random_text(prefix: &str) -> Result<Secret, OpsError> {
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random_bytes::<32>()?))))
}

pub(super) fn random_uuid() -> Result<Uuid, OpsError> {
    Ok(uuid::Builder::from_random_bytes(random_bytes()?).into_uuid())
}

pub(super) async fn hash(password: Secret) -> Result<String, OpsError> {
    let hashed = tokio::task::spawn_blocking(move || passwords::hash(&password)).await;
    hashed.ok().flatten().ok_or(OpsError::NoRandomness)
}
