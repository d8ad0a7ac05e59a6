//! Posted forms: read, bounded, and proved to come from a page of the same session.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use super::frame::{Refusal, told};
use super::visitor::Visitor;
use crate::http::Query;
use crate::ops::{Ops, OpsError};

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

/// A form as it is shown: what stands in its fields, and what is wrong with them.
#[derive(Default)]
pub(super) struct Form {
    values: Vec<(&'static str, String)>,
    wrong: Vec<(&'static str, String)>,
}

impl Form {
    /// What was typed into these fields; for fields of secrets leave them out.
    pub(super) fn typed(fields: &Fields, names: &[&'static str]) -> Self {
        Self { values: names.iter().map(|name| (*name, fields.text(name))).collect(), wrong: Vec::new() }
    }

    /// The same with this in a field.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, value.into()));
        self
    }

    /// Notes what is wrong with a field; the first word counts.
    pub(super) fn refuse(&mut self, name: &'static str, why: impl Into<String>) {
        if self.wrong(name).is_none() {
            self.wrong.push((name, why.into()));
        }
    }

    /// Takes a refusal of ops to the field it is about, if it is about one.
    pub(super) fn refuse_by(mut self, error: OpsError, field: Option<&'static str>) -> Result<Self, Refusal> {
        let Some(field) = field else { return Err(error.into()) };
        let (_, why) = told(&error);
        self.refuse(field, why);
        Ok(self)
    }

    /// What stands in a field.
    pub(super) fn value(&self, name: &str) -> &str {
        self.values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// What is wrong with a field.
    pub(super) fn wrong(&self, name: &str) -> Option<&str> {
        self.wrong.iter().find(|(known, _)| *known == name).map(|(_, why)| why.as_str())
    }

    /// Whether nothing is wrong.
    pub(super) fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// With which status the form is shown.
    pub(super) fn status(&self) -> StatusCode {
        if self.is_right() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
    }
}

/// The parts of a field of which one stands on each line, or between commas.
pub(super) fn items(text: &str) -> Vec<String> {
    text.split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
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
