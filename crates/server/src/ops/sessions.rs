//! Signing in to the pages: an account by its password, the operator by the admin token.

use std::net::IpAddr;
use std::time::Duration;

use filebell_core::secret::Secret;

use super::admin::{random_text, token_hash};
use super::{AccountCaller, Caller, Ops, OpsError};
use crate::store::SessionBounds;

/// How long a session lasts that nobody uses.
const SESSION_IDLE: Duration = Duration::from_secs(12 * 60 * 60);
/// How long a session lasts at most.
pub const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// What forms of a session are proved by.
const FORMS: &str = "pages";
/// Under what name wrong admin tokens are counted: no account has it.
const OPERATOR: &str = "";

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub enum SignedIn {
    /// The operator.
    Operator,
    /// The owner of an account.
    Account(AccountCaller),
}

impl From<SignedIn> for Caller {
    fn from(signed_in: SignedIn) -> Self {
        match signed_in {
            SignedIn::Operator => Self::Operator,
            SignedIn::Account(caller) => Self::Account(caller),
        }
    }
}

impl Ops {
    /// Signs an account in. What is answered is for the browser's cookie, and kept nowhere else.
    pub async fn sign_in(&self, name: &str, password: Secret, from: Option<IpAddr>) -> Result<Secret, OpsError> {
        let caller = self.login(name, password, from).await?;
        let (cookie, now) = (random_text("")?, self.0.seams.now());
        self.0.store.begin_session(token_hash(&cookie), Some(caller.account.id), self.session_bounds(), now).await?;
        tracing::info!(account.name = caller.account.name, "signed in");
        Ok(cookie)
    }

    /// Signs the operator in.
    pub async fn sign_in_operator(&self, token: &Secret, from: Option<IpAddr>) -> Result<Secret, OpsError> {
        let now = self.0.seams.now();
        let mark = self.0.passwords.mark(&[b"operator", token.expose().as_bytes()]);
        if !self.0.throttle.allows(OPERATOR, from, &mark, now) {
            return Err(OpsError::Throttled);
        }
        if self.0.admin_token.as_ref() != Some(token) {
            self.0.throttle.wrong(OPERATOR, from, now);
            return Err(OpsError::Credentials);
        }
        self.0.throttle.right(OPERATOR, from, mark);
        let cookie = random_text("")?;
        self.0.store.begin_session(token_hash(&cookie), None, self.session_bounds(), now).await?;
        tracing::info!("the operator signed in");
        Ok(cookie)
    }

    /// Who is signed in with this cookie; `None` if nobody is, or not any more.
    pub async fn signed_in(&self, cookie: &Secret) -> Result<Option<SignedIn>, OpsError> {
        let found = self.0.store.use_session(token_hash(cookie), self.session_bounds(), self.0.seams.now()).await?;
        let Some(session) = found else { return Ok(None) };
        let Some(account) = session.account else { return Ok(Some(SignedIn::Operator)) };
        let directory = self.directory().await?;
        let account = directory.account_names.get(&account).and_then(|name| directory.accounts.get(name)).cloned();
        Ok(account.map(|account| SignedIn::Account(AccountCaller { account })))
    }

    /// Ends a session.
    pub async fn sign_out(&self, cookie: &Secret) -> Result<(), OpsError> {
        Ok(self.0.store.end_session(token_hash(cookie)).await?)
    }

    /// What every form of a session carries, so that no other site can post it.
    pub fn form_token(&self, cookie: &Secret) -> String {
        self.csrf(FORMS, cookie)
    }

    /// Whether a form came from a page of this session.
    pub fn form_fits(&self, cookie: &Secret, given: &str) -> bool {
        self.csrf_fits(FORMS, cookie, given)
    }

    fn session_bounds(&self) -> SessionBounds {
        let now = self.0.seams.now();
        SessionBounds { begun_after: now.before(SESSION_LIFE), used_after: now.before(SESSION_IDLE) }
    }
}
