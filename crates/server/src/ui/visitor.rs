//! Who looks at a page: by the session cookie, or nobody.

use axum::extract::FromRequestParts;
use axum::http::Method;
use axum::http::request::Parts;
use filebell_core::secret::Secret;

use super::frame::Refusal;
use crate::http::browser;
pub(super) use crate::http::browser::SESSION_COOKIE;
use crate::ops::{AccountCaller, Caller, Ops, SignedIn};

/// Somebody who is signed in.
#[derive(Clone)]
pub(super) struct Visitor {
    pub(super) who: SignedIn,
    cookie: Secret,
}

impl Visitor {
    /// Who sent a request; a refusal that leads to the sign-in if nobody is signed in.
    pub(super) async fn of(parts: &mut Parts, ops: &Ops) -> Result<Self, Refusal> {
        // A form cannot be posted again after signing in: the visitor begins anew.
        let back = (parts.method == Method::GET).then(|| parts.uri.to_string());
        let signed_out = || Refusal::SignedOut { back };
        let Some(cookie) = browser::cookie(&parts.headers, SESSION_COOKIE) else { return Err(signed_out()) };
        match ops.signed_in(&cookie).await? {
            Some(who) => Ok(Self { who, cookie }),
            None => Err(signed_out()),
        }
    }

    /// What every form on this visitor's pages carries.
    pub(super) fn form_token(&self, ops: &Ops) -> String {
        ops.form_token(&self.cookie)
    }

    /// Whether this visitor's page sent a form with this token.
    pub(super) fn sent(&self, ops: &Ops, token: &str) -> bool {
        ops.form_fits(&self.cookie, token)
    }

    /// The session's cookie, to end it.
    pub(super) fn cookie(&self) -> &Secret {
        &self.cookie
    }

    /// The same for ops.
    pub(super) fn caller(&self) -> Caller {
        self.who.clone().into()
    }

    /// Whether it is the operator.
    pub(super) fn is_operator(&self) -> bool {
        matches!(self.who, SignedIn::Operator)
    }

    /// Goes on only as the operator.
    pub(super) fn operator(&self) -> Result<(), Refusal> {
        if self.is_operator() { Ok(()) } else { Err(Refusal::OperatorOnly) }
    }

    /// Goes on only as the owner of an account.
    pub(super) fn account(&self) -> Result<&AccountCaller, Refusal> {
        match &self.who {
            SignedIn::Account(caller) => Ok(caller),
            SignedIn::Operator => Err(Refusal::AccountOnly),
        }
    }
}

impl FromRequestParts<Ops> for Visitor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, ops: &Ops) -> Result<Self, Refusal> {
        Self::of(parts, ops).await
    }
}
