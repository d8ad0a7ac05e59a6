//! Tokens: made from a consent, exchanged, checked, revoked.
//!
//! They are JWTs, so that an application can read when they end; whether they still count is asked of the store at
//! every call, so that what is taken back ends at once.

use std::time::Duration;

use filebell_core::id::{ApplicationId, FamilyId, PairingId};
use filebell_core::secret::Secret;
use filebell_core::wire::sagex3::Failure;
use filebell_core::wire::sagex3::ask::{TokenGrant, TokenRequest, read_code, same_customer, verifier_fits};
use filebell_core::wire::sign::same;
use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::admin::random_uuid;
use super::keys::ALGORITHM;
use super::{ApplicationCaller, Ops, OpsError};
use crate::store::{Account, Application, Exchange, Exchanged, Grant, NewFamily, PairingStatus, StoreError};

/// How long a refresh token that was exchanged may be given again: the answer may have been lost.
const GRACE: Duration = Duration::from_secs(60);
/// How far the clocks of two of our processes may differ.
const SKEW_SECS: i64 = 60;
/// The header field `typ` of the two kinds, so that none is taken for the other.
const ACCESS: &str = "at+jwt";
const REFRESH: &str = "rt+jwt";

/// Why a request at the door of consent and tokens was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Refused, in the words of the protocol.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// It failed.
    #[error(transparent)]
    Failed(#[from] OpsError),
}

impl From<StoreError> for AskError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// An access token and its refresh token, shown once.
#[derive(Debug, Clone)]
pub struct TokenPair {
    /// To call the pull side.
    pub access: Secret,
    /// To be exchanged for a new pair.
    pub refresh: Secret,
    /// What the pair may do, blank-separated.
    pub scope: String,
    /// How long the access token lives.
    pub access_for: Duration,
}

/// What a request for tokens is answered with.
#[derive(Debug, Clone)]
pub struct Issued {
    /// To call the pull side.
    pub access: Secret,
    /// To be exchanged for a new pair; none for a client that asks for itself.
    pub refresh: Option<Secret>,
    /// What they may do, blank-separated.
    pub scope: String,
    /// How long the access token lives.
    pub access_for: Duration,
}

/// What a token is (RFC 7662); only said of one that counts.
#[derive(Debug, Clone)]
pub struct Introspection {
    /// What it may do, blank-separated.
    pub scope: String,
    /// The client id of whom it was given to.
    pub client_id: String,
    /// The customer's id.
    pub subject: String,
    /// The account's name.
    pub account: String,
    /// When it ends, in seconds.
    pub expires_at: i64,
    /// When it was made, in seconds.
    pub issued_at: i64,
    /// Who made it, and for whom.
    pub issuer: String,
}

/// What a token says (section 3.3). `sid` is ours: the family, by which it can be taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    region: String,
    sub: String,
    azp: String,
    scopes: String,
    sid: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<Uuid>,
}

/// Whose tokens are made, and what they may do.
struct Holder<'a> {
    application: &'a Application,
    account: &'a Account,
    grant: &'a Grant,
}

impl Ops {
    /// Makes a pair of tokens for what an account granted an application.
    pub async fn issue_tokens(
        &self,
        application: &str,
        account: &str,
        access_for: Duration,
    ) -> Result<TokenPair, OpsError> {
        let (application, account) = (self.application(application).await?, self.account(account).await?);
        let grants = self.grants().await?;
        let grant = grants
            .iter()
            .find(|grant| (grant.application, grant.account) == (application.id, account.id))
            .ok_or_else(|| OpsError::NotFound(format!("grant of `{}` to `{}`", account.name, application.name)))?;
        let holder = Holder { application: &application, account: &account, grant };
        let (family, jti) = (random_family()?, random_uuid()?);
        self.0.store.open_family(self.new_family(family, grant, Some(jti)), self.0.seams.now()).await?;
        let issued = self.sign_pair(&holder, family, Some(jti), access_for).await?;
        let refresh = issued.refresh.ok_or(OpsError::NoRandomness)?;
        Ok(TokenPair { access: issued.access, refresh, scope: issued.scope, access_for })
    }

    /// Answers a request for tokens, checked in the order of the protocol (section 9): the application, then what it
    /// gives.
    pub async fn tokens(&self, request: TokenRequest) -> Result<Issued, AskError> {
        let application = self.authenticate(&request.client_id, &request.client_secret).await?;
        match request.grant {
            TokenGrant::Code { code, redirect_uri, verifier } => {
                self.exchange_code(&application, &code, &redirect_uri, verifier.as_deref()).await
            }
            TokenGrant::Refresh { token } => self.exchange_refresh(&application, &token).await,
            TokenGrant::Client { customer } => self.client_token(&application, customer.as_deref()).await,
        }
    }

    /// The application with this client id and secret, if it is not disabled.
    pub async fn authenticate(&self, client_id: &str, secret: &Secret) -> Result<Application, AskError> {
        let directory = self.directory().await?;
        let application = directory.applications.values().find(|one| one.client_id == client_id).cloned();
        let application = application.ok_or(Failure::UnknownClient)?;
        if application.disabled {
            return Err(Failure::ApplicationDisabled.into());
        }
        let previous = application.previous_secret.as_ref().filter(|(_, until)| self.0.seams.now() < *until);
        let hashes = [Some(application.client_secret_hash.clone()), previous.map(|(hash, _)| hash.clone())];
        let name = format!("client/{client_id}");
        for hash in hashes.into_iter().flatten() {
            if self.0.passwords.check(&name, secret.clone(), Some(hash)).await {
                return Ok(application);
            }
        }
        Err(Failure::UnknownClient.into())
    }

    async fn exchange_code(
        &self,
        application: &Application,
        code: &Secret,
        redirect_uri: &str,
        verifier: Option<&str>,
    ) -> Result<Issued, AskError> {
        if !application.redirect_urls.iter().any(|known| known == redirect_uri) {
            return Err(Failure::UnknownRedirect.into());
        }
        let (id, proof) = read_code(code).ok_or(Failure::PairingNotFound)?;
        let now = self.0.seams.now();
        let pairing = self.0.store.pairing(id).await?.filter(|one| one.application == application.id);
        let pairing = pairing.ok_or(Failure::PairingNotFound)?;
        match pairing.status {
            PairingStatus::Requested if pairing.expires_at <= now => return Err(Failure::Expired.into()),
            PairingStatus::Requested | PairingStatus::Rejected => return Err(Failure::PairingNotAccepted.into()),
            PairingStatus::Accepted | PairingStatus::Used => (),
        }
        if !pairing.code_hash.is_some_and(|hash| same(&hash, &secret_hash(&proof))) {
            return Err(Failure::PairingNotFound.into());
        }
        if pairing.redirect_uri != redirect_uri {
            return Err(Failure::UnknownRedirect.into());
        }
        if pairing.status == PairingStatus::Used {
            return Err(self.code_used_twice(id).await);
        }
        if pairing.code_expires_at.is_none_or(|at| at <= now) {
            return Err(Failure::Expired.into());
        }
        if !verifier_fits(pairing.challenge.as_deref(), verifier) {
            return Err(Failure::PairingNotFound.into());
        }
        let grants = self.0.store.grants().await?;
        let grant = grants.into_iter().find(|grant| Some(grant.id) == pairing.grant).ok_or(Failure::PairingNotFound)?;
        let account = self.account_of(&grant).await?.ok_or(Failure::UnknownCustomer)?;
        let (family, jti) = (random_family()?, random_uuid()?);
        let new = self.new_family(family, &grant, Some(jti));
        if !self.0.store.use_code(id, new, now).await? {
            return Err(self.code_used_twice(id).await);
        }
        let holder = Holder { application, account: &account, grant: &grant };
        Ok(self.sign_pair(&holder, family, Some(jti), self.0.sagex3.access_for).await?)
    }

    /// A code that comes twice was stolen, now or before: what came of it ends (RFC 6749, 4.1.2).
    async fn code_used_twice(&self, id: PairingId) -> AskError {
        let revoke = async {
            if let Some(family) = self.0.store.pairing(id).await?.and_then(|pairing| pairing.family) {
                self.0.store.revoke_family(family, self.0.seams.now()).await?;
            }
            Ok::<_, StoreError>(())
        };
        match revoke.await {
            Ok(()) => Failure::PairingNotFound.into(),
            Err(error) => error.into(),
        }
    }

    async fn exchange_refresh(&self, application: &Application, token: &Secret) -> Result<Issued, AskError> {
        let claims = match self.claims(token, REFRESH).await {
            Ok(claims) if claims.azp == application.application_id => claims,
            Ok(_) | Err(OpsError::Credentials | OpsError::Expired) => return Err(Failure::Expired.into()),
            Err(error) => return Err(error.into()),
        };
        let (old, fresh) = (claims.jti.ok_or(Failure::Expired)?, random_uuid()?);
        let now = self.0.seams.now();
        let exchange = Exchange {
            hash: id_hash(old),
            application: application.id,
            fresh: id_hash(fresh),
            expires_at: now.after(self.0.sagex3.refresh_for),
            grace: GRACE,
        };
        let (family, grant) = match self.0.store.exchange_refresh(exchange, now).await? {
            Exchanged::Fresh(family, grant) => (family, grant),
            Exchanged::Refused => return Err(Failure::Expired.into()),
            Exchanged::Reused => {
                tracing::warn!(application.name, "a refresh token came twice; all tokens of its pairing are revoked");
                return Err(Failure::Expired.into());
            }
        };
        let account = self.account_of(&grant).await?.ok_or(Failure::Expired)?;
        let holder = Holder { application, account: &account, grant: &grant };
        Ok(self.sign_pair(&holder, family, Some(fresh), self.0.sagex3.access_for).await?)
    }

    /// A token for the application's own grant; where there are several, `customer` says of which customer.
    async fn client_token(&self, application: &Application, customer: Option<&str>) -> Result<Issued, AskError> {
        let mut found = Vec::new();
        for grant in self.0.store.grants().await?.into_iter().filter(|grant| grant.application == application.id) {
            let account = self.account_of(&grant).await?;
            let asked = |account: &Account| {
                customer.is_none_or(|text| {
                    [&account.name, &account.customer_id].contains(&&text.to_owned())
                        || same_customer(&account.customer_url, text)
                })
            };
            found.extend(account.filter(asked).map(|account| (grant, account)));
        }
        let (grant, account) = match (found.pop(), found.is_empty()) {
            (Some(one), true) => one,
            (Some(_), false) => return Err(Failure::InvalidParameter("customer").into()),
            (None, _) => return Err(Failure::UnknownCustomer.into()),
        };
        let family = random_family()?;
        self.0.store.open_family(self.new_family(family, &grant, None), self.0.seams.now()).await?;
        let holder = Holder { application, account: &account, grant: &grant };
        Ok(self.sign_pair(&holder, family, None, self.0.sagex3.access_for).await?)
    }

    fn new_family(&self, id: FamilyId, grant: &Grant, refresh: Option<Uuid>) -> NewFamily {
        let life = if refresh.is_some() { self.0.sagex3.refresh_for } else { self.0.sagex3.access_for };
        NewFamily { id, grant: grant.id, expires_at: self.0.seams.now().after(life), refresh: refresh.map(id_hash) }
    }

    async fn sign_pair(
        &self,
        holder: &Holder<'_>,
        family: FamilyId,
        refresh: Option<Uuid>,
        access_for: Duration,
    ) -> Result<Issued, OpsError> {
        let now = self.0.seams.now();
        let scope = scope_text(holder.grant);
        let claims = |life, jti| Claims {
            iss: self.issuer(),
            aud: self.issuer(),
            iat: now.to_secs().as_secs(),
            exp: now.after(life).to_secs().as_secs(),
            region: self.0.sagex3.region.clone(),
            sub: subject(holder.account),
            azp: holder.application.application_id.clone(),
            scopes: scope.clone(),
            sid: family.uuid(),
            nbf: None,
            jti,
        };
        let access = self.sign(&claims(access_for, None), ACCESS).await?;
        let refresh = match refresh {
            Some(jti) => Some(self.sign(&claims(self.0.sagex3.refresh_for, Some(jti)), REFRESH).await?),
            None => None,
        };
        Ok(Issued { access, refresh, scope, access_for })
    }

    async fn sign(&self, claims: &Claims, kind: &str) -> Result<Secret, OpsError> {
        let directory = self.with_signing_key().await?;
        let (kid, key) = directory.keys.signing().ok_or(OpsError::NoSigningKey)?;
        let header = Header { typ: Some(kind.into()), kid: Some(kid.clone()), ..Header::new(ALGORITHM) };
        let text = jsonwebtoken::encode(&header, claims, key);
        text.map(Secret::new).map_err(|error| OpsError::Signing(Box::new(error)))
    }

    /// What a token of this kind says, if it was made here and has not ended.
    async fn claims(&self, token: &Secret, kind: &str) -> Result<Claims, OpsError> {
        let header = jsonwebtoken::decode_header(token.expose()).map_err(|_| OpsError::Credentials)?;
        if header.alg != ALGORITHM || header.typ.as_deref() != Some(kind) {
            return Err(OpsError::Credentials);
        }
        let directory = self.directory().await?;
        let key = header.kid.as_deref().and_then(|kid| directory.keys.verifying(kid)).ok_or(OpsError::Credentials)?;
        let mut validation = Validation::new(ALGORITHM);
        // The time is ours to tell, below.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.set_issuer(&[self.issuer()]);
        validation.set_audience(&[self.issuer()]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let decoded = jsonwebtoken::decode::<Claims>(token.expose(), key, &validation);
        let claims = decoded.map_err(|_| OpsError::Credentials)?.claims;
        let now = self.0.seams.now().to_secs().as_secs();
        if now < claims.nbf.unwrap_or(claims.iat.saturating_sub(SKEW_SECS)) {
            return Err(OpsError::Credentials);
        }
        if claims.exp <= now { Err(OpsError::Expired) } else { Ok(claims) }
    }

    /// Whoever an access token speaks for.
    pub(super) async fn access_token(&self, token: &Secret) -> Result<ApplicationCaller, OpsError> {
        let claims = self.claims(token, ACCESS).await?;
        let grant = self.0.store.family_grant(FamilyId::new(claims.sid)).await?.ok_or(OpsError::Credentials)?;
        self.caller_of(grant).await?.ok_or(OpsError::Credentials)
    }

    /// Who asks under this grant; `None` if its application is disabled or one of the two is gone.
    pub(super) async fn caller_of(&self, grant: Grant) -> Result<Option<ApplicationCaller>, OpsError> {
        let directory = self.directory().await?;
        let application = directory.applications.get(&grant.application).filter(|one| !one.disabled).cloned();
        let account = self.account_of(&grant).await?;
        Ok(application.zip(account).map(|(application, account)| ApplicationCaller { application, account, grant }))
    }

    async fn account_of(&self, grant: &Grant) -> Result<Option<Account>, OpsError> {
        let directory = self.directory().await?;
        Ok(directory.account_names.get(&grant.account).and_then(|name| directory.accounts.get(name)).cloned())
    }

    /// The application that a token of ours was given to, even if it has been revoked since.
    pub async fn bearer_application(&self, token: &Secret) -> Result<Application, OpsError> {
        let claims = self.claims(token, ACCESS).await?;
        let directory = self.directory().await?;
        let found = directory.applications.values().find(|one| one.application_id == claims.azp);
        found.cloned().ok_or(OpsError::Credentials)
    }

    /// Ends a token of this application with all others of its pairing. A token that is none, or has ended, or is of
    /// another application, changes nothing.
    pub async fn revoke_token(&self, application: &Application, token: &Secret) -> Result<(), OpsError> {
        for kind in [REFRESH, ACCESS] {
            match self.claims(token, kind).await {
                Ok(claims) if claims.azp == application.application_id => {
                    let family = FamilyId::new(claims.sid);
                    return Ok(self.0.store.revoke_family(family, self.0.seams.now()).await?);
                }
                Ok(_) | Err(OpsError::Credentials | OpsError::Expired) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The same for a refresh token that is named by its id only.
    pub async fn revoke_token_id(&self, application: &Application, id: Uuid) -> Result<(), OpsError> {
        match self.0.store.refresh_token(id_hash(id)).await? {
            Some(found) if found.grant.application == application.id => {
                Ok(self.0.store.revoke_family(found.family, self.0.seams.now()).await?)
            }
            _ => Ok(()),
        }
    }

    /// What a token of this application is; `None` for one that does not count.
    pub async fn introspect(
        &self,
        application: ApplicationId,
        token: &Secret,
    ) -> Result<Option<Introspection>, OpsError> {
        let mut found = None;
        for kind in [ACCESS, REFRESH] {
            match self.claims(token, kind).await {
                Ok(claims) => found = Some(claims),
                Err(OpsError::Credentials | OpsError::Expired) => (),
                Err(error) => return Err(error),
            }
        }
        let Some(claims) = found else { return Ok(None) };
        if let Some(jti) = claims.jti
            && !self.0.store.refresh_token(id_hash(jti)).await?.is_some_and(|token| token.live)
        {
            return Ok(None);
        }
        let Some(grant) = self.0.store.family_grant(FamilyId::new(claims.sid)).await? else { return Ok(None) };
        let caller = self.caller_of(grant).await?.filter(|caller| caller.application.id == application);
        Ok(caller.map(|caller| Introspection {
            scope: scope_text(&caller.grant),
            client_id: caller.application.client_id,
            subject: claims.sub,
            account: caller.account.name,
            expires_at: claims.exp,
            issued_at: claims.iat,
            issuer: claims.iss,
        }))
    }

    /// Who makes tokens: the bare host (section 3.3).
    fn issuer(&self) -> String {
        self.0.public_url.host_str().unwrap_or_default().to_owned()
    }
}

/// The scopes and folders of a grant as one blank-separated text (section 3.2).
pub(super) fn scope_text(grant: &Grant) -> String {
    let folders = grant.folders.iter().map(|folder| format!("folder.{folder}"));
    grant.scopes.iter().cloned().chain(folders).collect::<Vec<_>>().join(" ")
}

/// Whom a token is about: the customer's id, or the account where none was given.
fn subject(account: &Account) -> String {
    if account.customer_id.is_empty() { account.id.to_string() } else { account.customer_id.clone() }
}

fn random_family() -> Result<FamilyId, OpsError> {
    Ok(FamilyId::new(random_uuid()?))
}

fn id_hash(id: Uuid) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

/// For texts that are random enough to need no slow hash.
pub(super) fn secret_hash(secret: &Secret) -> [u8; 32] {
    Sha256::digest(secret.expose().as_bytes()).into()
}
