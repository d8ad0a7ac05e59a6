//! What a person or a program may ask for: the one middle that HTTP, pages and commands share.
//!
//! Every operation takes who is asking; nothing here knows a status code or a flag.

mod admin;
mod applications;
mod dav;
mod deliveries;
mod emit;
mod fetches;
mod files;
mod health;
mod history;
mod ingestion;
mod keys;
mod live;
mod observe;
mod overview;
mod pairing;
mod passwords;
mod pull;
mod room;
mod sagex3;
mod sessions;
mod settings;
mod signed;
mod throttle;
mod tokens;
mod trial;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use filebell_core::endpoint::EndpointUrlError;
use filebell_core::filter::FilterError;
use filebell_core::id::{AccountId, ApplicationId, Seq};
use filebell_core::path::FilePathError;
use filebell_core::secret::Secret;
use tokio::sync::watch;
use url::Url;

pub use admin::{
    AccountChange, AccountRequest, ApplicationRequest, GrantRequest, NEXTCLOUD_INTERVAL, ProtocolRequest,
    SubscriptionChange, SubscriptionRequest, check_name, generate_admin_token, generate_key,
};
pub use dav::Entry;
pub use deliveries::{AttemptShown, Deliveries, Delivery, Replay, ReplayPlan, Search};
pub use emit::Emitted;
pub use files::{FileLife, FileSearch, Files, Life, Telling};
pub use health::{Examine, Examining, Finding, FindingReport, HealthReport};
pub use history::{Point, PointPace, Reach};
pub use ingestion::Ingesting;
pub use live::{Ended, Happening, Live, LiveKind, LivePosition, LiveRequest, Newest, Told};
pub use observe::{
    FetchReport, ScanAnswer, ScanReport, SentReport, ServerReport, SourceReport, StatusReport, StoreReport,
    SubscriptionReport, ToldReport, WhyReport,
};
pub use overview::{Overview, Watches};
pub use pairing::{Answer, Asked, Consent, FolderChoice, PostForm};
pub use pull::{ChangesRequest, FolderPage, NotificationDetail, OpenFile};
pub use room::Usage;
pub use sagex3::{Download, SageX3Settings};
pub use sessions::{SESSION_LIFE, SignedIn};
pub use settings::Connections;
pub use signed::Signed;
pub use tokens::{AskError, Introspection, Issued, TokenPair};
pub use trial::SendTrial;

/// What came of a test delivery.
pub use crate::delivery::{StepName, Trial, TrialStep};
pub use crate::source::upload::{Checksum, Mtime, Placed, Upload, UploadError};

use crate::journal::{Journal, JournalError};
use crate::seams::Seams;
use crate::source::folder::Ignore;
/// What the doors show of the store; its verbs stay behind this room.
pub use crate::store::{
    Account, AppPassword, Application, Attempt, Covered, FilePosition, Grant, IngestionStatus, Listed, Notification,
    NotificationState, Position, Replayed,
};
use crate::store::{Pace, Store, StoreError};
use passwords::Passwords;
use throttle::Throttle;

/// Who asks. Comes only from [`Ops::login`] and [`Ops::bearer`].
#[derive(Debug, Clone)]
pub enum Caller {
    /// The operator, by the admin token.
    Operator,
    /// An application, by an access token, for one account.
    Application(Box<ApplicationCaller>),
    /// An account, by its password, for itself.
    Account(AccountCaller),
}

/// An application that asks on behalf of one account, within one grant.
#[derive(Debug, Clone)]
pub struct ApplicationCaller {
    /// The application.
    pub application: Application,
    /// The account that granted it.
    pub account: Account,
    /// What was granted.
    pub grant: Grant,
}

/// An account that asks, by its password.
#[derive(Debug, Clone)]
pub struct AccountCaller {
    /// The account.
    pub account: Account,
}

/// Why an operation was refused or failed. Refused means unchanged.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// Name or password, or the token, is wrong.
    #[error("the credentials are wrong")]
    Credentials,
    /// Too many wrong passwords: this one was not looked at.
    #[error("too many wrong passwords; try again in half an hour")]
    Throttled,
    /// The token was right once, and has ended.
    #[error("the token has expired")]
    Expired,
    /// The caller is known, and may not.
    #[error("{0} is not granted")]
    NotGranted(String),
    /// There is no such thing, or the caller may not know of it.
    #[error("there is no {0}")]
    NotFound(String),
    /// A name is taken.
    #[error("there is already {0}")]
    Exists(String),
    /// A name cannot be used.
    #[error("`{0}` cannot be a name: use letters, digits and . _ @ - (at most 64, starting with a letter or digit)")]
    Name(String),
    /// An object is declared in the configuration file.
    #[error("{0} is declared in the configuration file; change it there")]
    Managed(String),
    /// It cannot be done to this object; says why, and what to do in its place.
    #[error("{0}")]
    Conflict(String),
    /// Too many do the same just now.
    #[error("{0} are under way; try again in a moment")]
    Busy(&'static str),
    /// A root cannot be used.
    #[error("the root {root} {why}")]
    Root {
        /// The directory, as given.
        root: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// An endpoint cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointUrlError),
    /// A filter cannot be used.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A key cannot be used.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// A puller has seen events that are not in the journal.
    #[error(
        "`after` is beyond the newest event, {newest}: the journal was set back since, as by a restored backup; begin \
         again without `after`"
    )]
    Ahead {
        /// The newest event.
        newest: Seq,
    },
    /// A path is none.
    #[error(transparent)]
    Path(#[from] FilePathError),
    /// A file cannot be opened or removed.
    #[error("the file cannot be used")]
    File(#[source] std::io::Error),
    /// What was uploaded is not what was announced.
    #[error(transparent)]
    Upload(UploadError),
    /// The quota of the account leaves no room for it.
    #[error("the account has no room for it: {required} bytes are needed, {available} are left")]
    NoRoom {
        /// Bytes that are needed.
        required: u64,
        /// Bytes that are left.
        available: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The system gives no randomness.
    #[error("the system gave no randomness")]
    NoRandomness,
    /// There is no key that signs tokens.
    #[error("there is no key that signs tokens: make one with `filebell keys rotate`")]
    NoSigningKey,
    /// A token could not be signed.
    #[error("the tokens could not be signed")]
    Signing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// As many listen as may.
    #[error("too many listen to the stream; end one, or try again later")]
    TooManyListeners,
    /// The application has asked as often as it may today.
    #[error("the quota of today is used up; it begins anew in {0:?}")]
    Quota(Duration),
}

impl From<StoreError> for OpsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Exists(what) => Self::Exists(what),
            StoreError::Missing(what) => Self::NotFound(what),
            other => Self::Store(other),
        }
    }
}

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    store: Store,
    journal: Journal,
    seams: Seams,
    public_url: Url,
    admin_token: Option<Secret>,
    passwords: Passwords,
    throttle: Throttle,
    directory: Mutex<Option<Arc<Directory>>>,
    sagex3: SageX3Settings,
    pages: sagex3::Pages,
    quota: sagex3::Quota,
    rooms: room::Rooms,
    /// Where filebell keeps its own.
    home: OnceLock<PathBuf>,
    /// Only where a server runs.
    served: OnceLock<observe::Served>,
    /// The same.
    post_form: OnceLock<PostForm>,
    /// What had been counted when it was last written down.
    sampled: Mutex<Pace>,
    health: health::Health,
    listeners: live::Listeners,
    /// The same.
    send_trial: OnceLock<SendTrial>,
    /// The same.
    change: OnceLock<watch::Sender<u64>>,
    trials: tokio::sync::Semaphore,
    noted: fetches::Noted,
    /// Which names are never told.
    ignore: OnceLock<Ignore>,
}

/// Who is who, as of one revision of the store.
struct Directory {
    revision: i64,
    accounts: HashMap<String, Account>,
    account_names: HashMap<AccountId, String>,
    applications: HashMap<ApplicationId, Application>,
    keys: keys::KeyRing,
}

impl Ops {
    /// Operations over a store and its journal. `public_url` is the base of every URL handed out; without an
    /// `admin_token` there is no operator.
    pub fn new(store: Store, journal: Journal, seams: Seams, public_url: Url, admin_token: Option<Secret>) -> Self {
        Self::with_sagex3(store, journal, seams, public_url, admin_token, SageX3Settings::default())
    }

    /// The same, with what the operator chose for Sage X3.
    pub fn with_sagex3(
        store: Store,
        journal: Journal,
        seams: Seams,
        public_url: Url,
        admin_token: Option<Secret>,
        sagex3: SageX3Settings,
    ) -> Self {
        Self(Arc::new(Inner {
            passwords: Passwords::new(seams.clone()),
            throttle: Throttle::default(),
            store,
            journal,
            seams,
            public_url,
            admin_token,
            directory: Mutex::new(None),
            sagex3,
            pages: sagex3::Pages::default(),
            quota: sagex3::Quota::default(),
            rooms: room::Rooms::default(),
            home: OnceLock::new(),
            served: OnceLock::new(),
            post_form: OnceLock::new(),
            sampled: Mutex::default(),
            health: health::Health::default(),
            listeners: live::Listeners::default(),
            send_trial: OnceLock::new(),
            change: OnceLock::new(),
            trials: tokio::sync::Semaphore::new(trial::TRIALS_AT_ONCE),
            noted: fetches::Noted::default(),
            ignore: OnceLock::new(),
        }))
    }

    /// The base of every URL handed out, without a slash at its end.
    pub fn public_url(&self) -> &str {
        self.0.public_url.as_str().trim_end_matches('/')
    }

    /// The account with this name and password, which may be one of its app passwords. `from` is the caller's
    /// address, for slowing down who guesses.
    pub async fn login(&self, name: &str, password: Secret, from: Option<IpAddr>) -> Result<AccountCaller, OpsError> {
        let Inner { passwords, throttle, seams, .. } = &*self.0;
        let mark = passwords.mark(&[name.as_bytes(), password.expose().as_bytes()]);
        if !throttle.allows(name, from, &mark, seams.now()) {
            return Err(OpsError::Throttled);
        }
        let directory = self.directory().await?;
        let account = directory.accounts.get(name).cloned();
        let by_app_password = self.app_password(&password).await?.filter(|owner| owner.name == name);
        let right = by_app_password.is_some() || {
            let hash = account.as_ref().and_then(|account| account.password_hash.clone());
            // A name that is unknown costs the same time as a wrong password.
            passwords.check(name, password, hash).await
        };
        match account.filter(|_| right) {
            Some(account) => {
                throttle.right(name, from, mark);
                Ok(AccountCaller { account })
            }
            None => {
                throttle.wrong(name, from, seams.now());
                Err(OpsError::Credentials)
            }
        }
    }

    /// How long no more guesses at the password of this name are looked at from this address; `None` if they are.
    pub fn throttled_for(&self, name: &str, from: Option<IpAddr>) -> Option<Duration> {
        self.0.throttle.spent_for(name, from, self.0.seams.now())
    }

    /// Whoever this bearer token speaks for; an app password is one too.
    pub async fn bearer(&self, token: &Secret) -> Result<Caller, OpsError> {
        if self.0.admin_token.as_ref() == Some(token) {
            return Ok(Caller::Operator);
        }
        if let Some(account) = self.app_password(token).await? {
            return Ok(Caller::Account(AccountCaller { account }));
        }
        Ok(Caller::Application(Box::new(self.access_token(token).await?)))
    }

    /// Tells the names of accounts; an account that has been removed meanwhile has an empty one.
    pub async fn account_names(&self) -> Result<impl Fn(AccountId) -> String + use<>, OpsError> {
        let directory = self.directory().await?;
        Ok(move |account| directory.account_names.get(&account).cloned().unwrap_or_default())
    }

    /// Whether the store answers.
    pub async fn ready(&self) -> Result<(), OpsError> {
        Ok(self.0.store.ping().await?)
    }

    async fn directory(&self) -> Result<Arc<Directory>, OpsError> {
        let revision = self.0.store.revision().await?;
        let cached = self.0.directory.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(directory) = cached.filter(|directory| directory.revision == revision) {
            return Ok(directory);
        }
        let accounts = self.0.store.accounts().await?;
        let directory = Arc::new(Directory {
            revision,
            account_names: accounts.iter().map(|account| (account.id, account.name.clone())).collect(),
            accounts: accounts.into_iter().map(|account| (account.name.clone(), account)).collect(),
            applications: self.0.store.applications().await?.into_iter().map(|one| (one.id, one)).collect(),
            keys: keys::KeyRing::new(self.0.store.signing_keys().await?),
        });
        *self.0.directory.lock().unwrap_or_else(PoisonError::into_inner) = Some(directory.clone());
        Ok(directory)
    }
}
