//! An application's life after it was registered, and taking a grant back.

use std::time::Duration;

use filebell_core::secret::Secret;
use filebell_core::subscription::SignatureEncoding;

use super::admin::{hash, random_text};
use super::{ApplicationRequest, Caller, GrantRequest, Ops, OpsError};
use crate::store::{Application, Grant};

impl Ops {
    /// Gives an application a new secret, shown once; the one it has counts for `overlap` more.
    pub async fn rotate_application_secret(&self, name: &str, overlap: Duration) -> Result<Secret, OpsError> {
        let application = self.unmanaged_application(name).await?;
        let secret = random_text("fbs_")?;
        let until = self.0.seams.now().after(overlap);
        self.0.store.rotate_application_secret(application.id, hash(secret.clone()).await?, until).await?;
        Ok(secret)
    }

    /// Changes where an application is told and where a pairing may return to. Its id and secret stay.
    pub async fn change_application(
        &self,
        name: &str,
        redirect_urls: Vec<String>,
        notification_url: Option<String>,
        signature_encoding: SignatureEncoding,
    ) -> Result<Application, OpsError> {
        let application = self.unmanaged_application(name).await?;
        let request = ApplicationRequest {
            name: application.name,
            client_id: Some(application.client_id),
            client_secret: None,
            redirect_urls,
            notification_url,
            signature_encoding,
            managed: false,
        };
        Ok(self.write_application(request).await?.0)
    }

    /// Disables an application, or enables it again: while it is disabled it gets no token, none of its tokens
    /// counts, and it is told nothing; what it is owed is kept.
    pub async fn set_application_disabled(&self, name: &str, disabled: bool) -> Result<(), OpsError> {
        let application = self.application(name).await?;
        self.0.store.set_application_disabled(application.id, disabled).await?;
        self.tell_of_change();
        Ok(())
    }

    /// The grants that a caller may know of, each with the names of its application and account.
    pub async fn grants_of(&self, caller: &Caller) -> Result<Vec<(Grant, String, String)>, OpsError> {
        let directory = self.directory().await?;
        let mut grants = self.grants().await?;
        match caller {
            Caller::Operator => (),
            Caller::Account(caller) => grants.retain(|grant| grant.account == caller.account.id),
            Caller::Application(caller) => grants.retain(|grant| grant.id == caller.grant.id),
        }
        let named = |grant: Grant| {
            let application = directory.applications.get(&grant.application)?.name.clone();
            let account = directory.account_names.get(&grant.account)?.clone();
            Some((grant, application, account))
        };
        Ok(grants.into_iter().filter_map(named).collect())
    }

    /// Takes a grant back, as its account or the operator: its tokens end at once, what is pending for it ends as
    /// `revoked`. An application may give up its own.
    pub async fn revoke_grant(&self, caller: &Caller, application: &str, account: &str) -> Result<(), OpsError> {
        let missing = || OpsError::NotFound(format!("grant of `{account}` to `{application}`"));
        let grants = self.grants_of(caller).await?;
        let found = grants.into_iter().find(|(_, of, by)| (of.as_str(), by.as_str()) == (application, account));
        let (grant, ..) = found.ok_or_else(missing)?;
        if self.0.store.revoke_grant(grant.id, self.0.seams.now()).await? {
            tracing::info!(application.name = application, account.name = account, "a grant was taken back");
            self.tell_of_change();
            Ok(())
        } else {
            Err(missing())
        }
    }

    /// Writes a grant that the configuration declares. One that was taken back stays so: the account's word counts
    /// more than the file's. Answers whether it was written.
    pub async fn declare_grant(&self, request: GrantRequest) -> Result<bool, OpsError> {
        let (application, account) =
            (self.application(&request.application).await?, self.account(&request.account).await?);
        let revoked = self.0.store.revoked_grants().await?;
        if revoked.iter().any(|grant| (grant.application, grant.account) == (application.id, account.id)) {
            return Ok(false);
        }
        self.write_grant(request).await.map(|_| true)
    }

    async fn unmanaged_application(&self, name: &str) -> Result<Application, OpsError> {
        let application = self.application(name).await?;
        if application.managed {
            return Err(OpsError::Managed(format!("application `{name}`")));
        }
        Ok(application)
    }
}
