//! Pairing: an application asks, the account's person logs in and decides, the application gets a code.
//!
//! Nothing is shown, and nothing goes anywhere, before the redirect URL was found among those registered.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use filebell_core::endpoint::{EndpointUrl, EndpointUrlError};
use filebell_core::id::PairingId;
use filebell_core::path::FilePath;
use filebell_core::secret::Secret;
use filebell_core::wire::sagex3::Failure;
use filebell_core::wire::sagex3::ask::{self, Authorise, Transport, same_customer};
use filebell_core::wire::sign::{self, hmac_sha256};
use url::form_urlencoded;

use super::admin::{random_text, random_uuid};
use super::tokens::{AskError, secret_hash};
use super::{Ops, OpsError};
use crate::beneath::{Kind, Look, Root};
use crate::store::{Account, Application, Pairing, PairingStatus};

/// How long a request for consent can be decided (GAP-19).
const REQUEST_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How long its code can be exchanged after that (GAP-19).
const CODE_FOR: Duration = Duration::from_secs(10 * 60);
/// What an application is told of a rejection (GAP-7).
const REJECTED: &str = "The pairing request has been rejected.";

/// A request for consent whose application and redirect URL are in order.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The application's name.
    pub application: String,
    /// Set if nobody can consent, because there is no such customer: goes to the application at once.
    pub refused: Option<Answer>,
}

/// What goes to the application.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The application's name.
    pub application: String,
    /// Where it goes; one of the registered redirect URLs.
    pub redirect_uri: String,
    /// How it travels.
    pub transport: Transport,
    /// The application's own text.
    pub state: String,
    /// The code, or what went wrong.
    pub outcome: Result<Secret, String>,
}

/// Posts a form to a URL; where it did not arrive, says why for a person to read.
pub type PostForm = Box<dyn Fn(EndpointUrl, Vec<u8>) -> Posting + Send + Sync>;
type Posting = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Answer {
    /// The fields that the application gets.
    pub fn fields(&self) -> [(&'static str, &str); 2] {
        let outcome = match &self.outcome {
            Ok(code) => ("authorizationCode", code.expose()),
            Err(error) => ("error", error.as_str()),
        };
        [outcome, ("state", &self.state)]
    }
}

/// What a person is asked.
#[derive(Debug, Clone)]
pub struct Consent {
    /// Who asks.
    pub application: String,
    /// Who is asked.
    pub account: String,
    /// What for.
    pub scopes: Vec<String>,
    /// The folders to choose from.
    pub folders: Vec<FolderChoice>,
    /// Where the answer will go.
    pub redirect_uri: String,
    /// Proves that a decision comes from the page it was asked on.
    pub csrf: String,
}

/// A folder to choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderChoice {
    /// Its name.
    pub name: String,
    /// Whether it was granted before.
    pub chosen: bool,
}

impl Ops {
    /// Checks a request for consent as far as it can be checked before anybody has logged in.
    pub async fn asked(&self, request: &Authorise) -> Result<Asked, AskError> {
        let application = self.asking_application(request).await?;
        request.check_scopes()?;
        let accounts = self.accounts().await?;
        let known = accounts.iter().any(|account| same_customer(&account.customer_url, &request.customer));
        let refused = (!known).then(|| Answer {
            application: application.name.clone(),
            redirect_uri: request.redirect_uri.clone(),
            // Nobody has logged in: the server posts nothing for whoever that is, the browser may.
            transport: match request.transport.unwrap_or(self.0.sagex3.callback) {
                Transport::Server => Transport::Form,
                other => other,
            },
            state: request.state.clone(),
            outcome: Err(Failure::UnknownCustomer.to_string()),
        });
        Ok(Asked { application: application.name, refused })
    }

    async fn asking_application(&self, request: &Authorise) -> Result<Application, AskError> {
        let directory = self.directory().await?;
        let application = directory.applications.values().find(|one| one.client_id == request.client_id);
        let application = application.ok_or(Failure::UnknownClient)?;
        if application.disabled {
            return Err(Failure::ApplicationDisabled.into());
        }
        if !application.redirect_urls.contains(&request.redirect_uri) {
            return Err(Failure::UnknownRedirect.into());
        }
        Ok(application.clone())
    }

    /// The account's person has given name and password: keeps the request. Answers its id, and the secret that the
    /// browser shows from here on. Another customer's account is as wrong as a wrong password.
    pub async fn begin_pairing(
        &self,
        request: &Authorise,
        name: &str,
        password: Secret,
        from: Option<IpAddr>,
    ) -> Result<(PairingId, Secret), AskError> {
        let application = self.asking_application(request).await?;
        request.check_scopes()?;
        let account = self.login(name, password, from).await?.account;
        if !same_customer(&account.customer_url, &request.customer) {
            return Err(OpsError::Credentials.into());
        }
        let (id, session) = (PairingId::new(random_uuid()?), random_text("")?);
        let now = self.0.seams.now();
        let pairing = Pairing {
            id,
            application: application.id,
            account: account.id,
            redirect_uri: request.redirect_uri.clone(),
            scopes: request.scopes.clone(),
            state: request.state.clone(),
            challenge: request.challenge.clone(),
            transport: request.transport.unwrap_or(self.0.sagex3.callback).as_str().to_owned(),
            session_hash: secret_hash(&session),
            expires_at: now.after(REQUEST_FOR),
            status: PairingStatus::Requested,
            code_hash: None,
            code_expires_at: None,
            grant: None,
            family: None,
        };
        self.0.store.add_pairing(pairing, now).await?;
        Ok((id, session))
    }

    /// What the browser with this session is to decide.
    pub async fn consent(&self, id: PairingId, session: &Secret) -> Result<Consent, AskError> {
        let (pairing, application, account) = self.waiting_pairing(id, session).await?;
        Ok(Consent {
            application: application.name,
            folders: self.folder_choices(&pairing, &account).await?,
            account: account.name,
            scopes: pairing.scopes,
            redirect_uri: pairing.redirect_uri,
            csrf: self.csrf(&format!("consent/{id}"), session),
        })
    }

    /// The person accepts, for these folders; at least one, and each of those to choose from.
    pub async fn accept_pairing(
        &self,
        id: PairingId,
        session: &Secret,
        csrf: &str,
        folders: Vec<String>,
    ) -> Result<Answer, AskError> {
        let (pairing, application, account) = self.deciding(id, session, csrf).await?;
        let choices = self.folder_choices(&pairing, &account).await?;
        let folders: BTreeSet<String> = folders.into_iter().collect();
        if folders.is_empty() || !folders.iter().all(|folder| choices.iter().any(|choice| &choice.name == folder)) {
            return Err(Failure::InvalidParameter("folder").into());
        }
        let proof = random_text("")?;
        let now = self.0.seams.now();
        let folders = folders.into_iter().collect();
        let accepted = self.0.store.accept_pairing(id, folders, secret_hash(&proof), now.after(CODE_FOR), now).await?;
        if !accepted {
            return Err(Failure::PairingNotFound.into());
        }
        tracing::info!(application.name, account.name, "paired by consent");
        Ok(answer(application, pairing, Ok(ask::code(id, &proof))))
    }

    /// The person rejects.
    pub async fn reject_pairing(&self, id: PairingId, session: &Secret, csrf: &str) -> Result<Answer, AskError> {
        let (pairing, application, _) = self.deciding(id, session, csrf).await?;
        if !self.0.store.reject_pairing(id).await? {
            return Err(Failure::PairingNotFound.into());
        }
        Ok(answer(application, pairing, Err(REJECTED.to_owned())))
    }

    /// From now on `post` carries the answers that the server itself is to post.
    pub fn posting(&self, post: PostForm) {
        // A second call changes nothing; there is one app to call it.
        let _ = self.0.post_form.set(post);
    }

    /// Posts an answer to the application; says for a person to read why it did not arrive.
    pub async fn tell(&self, answer: &Answer) -> Result<(), String> {
        let post = self.0.post_form.get().ok_or_else(|| "no server is running".to_owned())?;
        let to: EndpointUrl = answer.redirect_uri.parse().map_err(|error: EndpointUrlError| error.to_string())?;
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(answer.fields()).finish();
        let told = post(to, form.into_bytes()).await;
        if let Err(why) = &told {
            tracing::warn!(answer.application, why, "the answer to a pairing request did not arrive");
        }
        told
    }

    /// Proves that a form comes from a page that was shown to the browser with this session.
    pub fn csrf(&self, page: &str, session: &Secret) -> String {
        let key = self.0.store.derived_key("csrf");
        sign::hex(&hmac_sha256(&key, &[page.as_bytes(), b"\0", session.expose().as_bytes()]))
    }

    /// Whether it does.
    pub fn csrf_fits(&self, page: &str, session: &Secret, given: &str) -> bool {
        sign::same(self.csrf(page, session).as_bytes(), given.as_bytes())
    }

    /// A fresh text for a browser to show.
    pub fn fresh_session(&self) -> Result<Secret, OpsError> {
        random_text("")
    }

    async fn deciding(
        &self,
        id: PairingId,
        session: &Secret,
        csrf: &str,
    ) -> Result<(Pairing, Application, Account), AskError> {
        if !self.csrf_fits(&format!("consent/{id}"), session, csrf) {
            return Err(Failure::PairingNotFound.into());
        }
        self.waiting_pairing(id, session).await
    }

    async fn waiting_pairing(
        &self,
        id: PairingId,
        session: &Secret,
    ) -> Result<(Pairing, Application, Account), AskError> {
        let shown = secret_hash(session);
        let pairing = self.0.store.pairing(id).await?.filter(|one| sign::same(&one.session_hash, &shown));
        let pairing = pairing.ok_or(Failure::PairingNotFound)?;
        if pairing.status != PairingStatus::Requested {
            return Err(Failure::PairingNotFound.into());
        }
        if pairing.expires_at <= self.0.seams.now() {
            return Err(Failure::Expired.into());
        }
        let directory = self.directory().await?;
        let application = directory.applications.get(&pairing.application).cloned().ok_or(Failure::UnknownClient)?;
        if application.disabled {
            return Err(Failure::ApplicationDisabled.into());
        }
        // The redirect URLs may have been changed since it was asked.
        if !application.redirect_urls.contains(&pairing.redirect_uri) {
            return Err(Failure::UnknownRedirect.into());
        }
        let account = directory.account_names.get(&pairing.account).and_then(|name| directory.accounts.get(name));
        let account = account.cloned().ok_or(Failure::UnknownCustomer)?;
        Ok((pairing, application, account))
    }

    /// The account's folders on disk, and those it granted this application before.
    async fn folder_choices(&self, pairing: &Pairing, account: &Account) -> Result<Vec<FolderChoice>, AskError> {
        let grants = self.0.store.grants().await?;
        let grant = grants
            .into_iter()
            .find(|grant| (grant.application, grant.account) == (pairing.application, pairing.account));
        let before: BTreeSet<String> = grant.into_iter().flat_map(|grant| grant.folders).collect();
        let mut names = before.clone();
        if let Some(root) = account.root.clone() {
            let listing = tokio::task::spawn_blocking(move || directories(&Root::open(&root)?)).await;
            let listed = listing.map_err(std::io::Error::other).and_then(|listed| listed).map_err(OpsError::File)?;
            let usable = |name: &String| FilePath::in_folder(name.as_bytes(), b"x").is_ok();
            names.extend(listed.into_iter().filter_map(|name| String::from_utf8(name).ok()).filter(usable));
        }
        Ok(names.into_iter().map(|name| FolderChoice { chosen: before.contains(&name), name }).collect())
    }
}

/// The top-level directories, but hidden ones.
fn directories(root: &Root) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = root.list(None)?;
    names.retain(|name| !name.starts_with(b"."));
    let looks = root.look_in(None, &names)?;
    let is_directory = |look: &Option<Look>| look.as_ref().is_some_and(|look| look.kind == Kind::Directory);
    Ok(names.into_iter().zip(looks).filter(|(_, look)| is_directory(look)).map(|(name, _)| name).collect())
}

fn answer(application: Application, pairing: Pairing, outcome: Result<Secret, String>) -> Answer {
    Answer {
        application: application.name,
        redirect_uri: pairing.redirect_uri,
        transport: pairing.transport.parse().unwrap_or(Transport::Form),
        state: pairing.state,
        outcome,
    }
}
