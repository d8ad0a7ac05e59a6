//! What an account sets for itself: the connection to its receiver, and passwords for its clients.

use filebell_core::endpoint::EndpointUrl;
use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::{ProtocolKind, Subscription};
use filebell_core::wire::nextcloud::settings::Settings;

use super::admin::{random_text, token_hash};
use super::{AccountCaller, Ops, OpsError, check_name};
use crate::store::{Account, AppPassword, NewProtocol, NewSubscription, connection_name};

/// What every app password begins with: so that no other password is looked for among them.
pub(super) const APP_PASSWORD_PREFIX: &str = "fbp_";

/// How an account's receivers are told by the Nextcloud protocol.
#[derive(Debug, Clone)]
pub struct Connections {
    /// What the account has posted.
    pub settings: Option<Settings>,
    /// What came of it, if it names somebody to tell.
    pub own: Option<Subscription>,
    /// What the operator set up.
    pub others: Vec<Subscription>,
}

impl Ops {
    /// What the account has posted; `None` before that.
    pub async fn connection(&self, caller: &AccountCaller) -> Result<Option<Settings>, OpsError> {
        let text = self.0.store.connection(caller.account.id).await?;
        Ok(text.and_then(|text| Settings::from_json(text.expose())))
    }

    /// How the account's receivers are told by the Nextcloud protocol.
    pub async fn connections(&self, caller: &AccountCaller) -> Result<Connections, OpsError> {
        let (settings, own_name) = (self.connection(caller).await?, connection_name(&caller.account.name));
        let mut others = self.subscriptions().await?;
        others.retain(|one| one.account == caller.account.id && one.protocol.kind() == ProtocolKind::Nextcloud);
        let at = others.iter().position(|one| one.name == own_name);
        Ok(Connections { settings, own: at.map(|at| others.remove(at)), others })
    }

    /// Keeps what the account posted. If it names somebody to tell, they are told from now on.
    ///
    /// A URL that nothing can be sent to is kept too, as in the original, and nothing is sent to it.
    pub async fn set_connection(&self, caller: &AccountCaller, settings: &Settings) -> Result<(), OpsError> {
        let account = &caller.account;
        let connection = settings.connection().filter(|connection| connection.url.parse::<EndpointUrl>().is_ok());
        let subscription = connection.map(|connection| NewSubscription {
            name: connection_name(&account.name),
            account: account.id,
            protocol: NewProtocol::Nextcloud(connection.id),
            url: connection.url,
            key: connection.key,
            min_interval: connection.min_interval,
            filter: FilterText::default(),
            managed: false,
        });
        let (text, now, ids) = (Secret::new(settings.to_json()), self.0.seams.now(), self.0.seams.fresh_ids());
        Ok(self.0.store.put_connection(account.id, text, subscription, now, ids).await?)
    }

    /// Forgets what the account posted; nobody is told any more. What was owed is kept.
    pub async fn remove_connection(&self, caller: &AccountCaller) -> Result<(), OpsError> {
        Ok(self.0.store.remove_connection(caller.account.id).await?)
    }

    /// Random hex digits for a new connection, twice as many as `bytes`. Nothing is kept.
    pub fn connection_secret(&self, bytes: usize) -> Result<Secret, OpsError> {
        let mut random = vec![0; bytes];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| OpsError::NoRandomness)?;
        Ok(Secret::new(hex::encode(random)))
    }

    /// Makes a password for one client of an account; it is shown this once.
    pub async fn add_app_password(&self, account: &str, name: &str) -> Result<Secret, OpsError> {
        check_name(name)?;
        let account = self.account(account).await?;
        let password = random_text(APP_PASSWORD_PREFIX)?;
        let now = self.0.seams.now();
        self.0.store.add_app_password(account.id, name.to_owned(), token_hash(&password), now).await?;
        Ok(password)
    }

    /// An account's app passwords, by name.
    pub async fn app_passwords(&self, account: &str) -> Result<Vec<AppPassword>, OpsError> {
        Ok(self.0.store.app_passwords(self.account(account).await?.id).await?)
    }

    /// Ends an app password.
    pub async fn remove_app_password(&self, account: &str, name: &str) -> Result<(), OpsError> {
        Ok(self.0.store.remove_app_password(self.account(account).await?.id, name.to_owned()).await?)
    }

    /// The account whose app password this is.
    pub(super) async fn app_password(&self, password: &Secret) -> Result<Option<Account>, OpsError> {
        if !password.expose().starts_with(APP_PASSWORD_PREFIX) {
            return Ok(None);
        }
        let id = self.0.store.use_app_password(token_hash(password), self.0.seams.now()).await?;
        let directory = self.directory().await?;
        let name = id.and_then(|id| directory.account_names.get(&id));
        Ok(name.and_then(|name| directory.accounts.get(name)).cloned())
    }
}
