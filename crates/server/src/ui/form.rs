//! Posted forms: read, bounded, and proved to come from a page of the same session.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};

use super::frame::Refusal;
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::Ops;

/// The largest form.
const FORM_BYTES_MAX: usize = 256 * 1024;

/// The fields of a form, before it is known where it came from.
pub(super) struct Fields(Query);

impl Fields {
    /// The last value of a field, without white space around it; empty if there is none.
    pub(super) fn text(&self, name: &str) -> String {
        self.0.last_text(name).unwrap_or_default().trim().to_owned()
    }

    /// The last value of a field as it was typed; empty if there is none.
    pub(super) fn verbatim(&self, name: &str) -> String {
        self.0.last_text(name).unwrap_or_default()
    }

    /// Every value of a field.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.all(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

impl<S: Sync> FromRequest<S> for Fields {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = to_bytes(request.into_body(), FORM_BYTES_MAX).await.map_err(|_| Refusal::TooLarge)?;
        Ok(Self(Query::new(Some(&String::from_utf8_lossy(&bytes)))))
    }
}

/// A form that a signed-in visitor posted from one of our pages.
pub(super) struct Posted {
    /// Who.
    pub(super) visitor: Visitor,
    /// What.
    pub(super) fields: Fields,
}

impl FromRequest<Ops> for Posted {
    type Rejection = Refusal;

    async fn from_request(request: Request, ops: &Ops) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::of(&mut parts, ops).await?;
        let fields = Fields::from_request(Request::from_parts(parts, body), ops).await?;
        if !visitor.sent(ops, &fields.verbatim("csrf")) {
            return Err(Refusal::Forged);
        }
        Ok(Self { visitor, fields })
    }
}
