use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filebell_core::secret::Secret;
use filebell_core::wire::percent_encode;
use http::{HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use super::{Http, PullError, base_url, bearer, behind, dav_url, headers};
use crate::download::{DownloadError, Downloaded, Expected, Remote, download};

/// The journal of a filebell.
#[derive(Debug, Clone)]
pub struct ChangesClient {
    http: Http,
    base: Url,
    authorization: HeaderValue,
}

/// What changed after a cursor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Changes {
    /// The events, oldest first.
    pub events: Vec<ChangeEvent>,
    /// Where to go on. Keep it once the events are safe; it is there even when nothing changed.
    pub next: String,
    /// Whether there is more to be had at once.
    pub more: bool,
}

/// One event of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ChangeEvent {
    /// Its number: increasing, never reused.
    pub seq: i64,
    /// Its id, `evt_<32 hex digits>`.
    pub id: String,
    /// `created`, `updated`, `moved` or `deleted`.
    pub kind: String,
    /// Whose file.
    pub account: String,
    /// Where it lies; U+FFFD stands for what is not UTF-8. Hostile until proven otherwise.
    pub path: String,
    /// The exact bytes of a path that is not UTF-8, in base64.
    #[serde(default)]
    pub path_base64: Option<String>,
    /// Where it lay before it was moved.
    #[serde(default)]
    pub previous_path: Option<String>,
    /// The file's number, stable over rewrites and renames.
    pub file_id: i64,
    /// Its size in bytes; none for a deleted file.
    #[serde(default)]
    pub size: Option<u64>,
    /// SHA-256 of its content in hex; none for a deleted file.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Its own time of last change, RFC 3339.
    #[serde(default)]
    pub mtime: Option<String>,
    /// When the journal recorded the event, RFC 3339.
    #[serde(default)]
    pub recorded_at: String,
    /// Who wrote it.
    #[serde(default)]
    pub user: String,
    /// Who noticed: `folder`, `upload` or another source.
    #[serde(default)]
    pub source: String,
    /// How it is known to be whole.
    #[serde(default)]
    pub completeness: Option<String>,
}

impl ChangeEvent {
    /// The exact bytes of the path.
    pub fn path_bytes(&self) -> Vec<u8> {
        let exact = self.path_base64.as_ref().and_then(|text| STANDARD.decode(text).ok());
        exact.unwrap_or_else(|| self.path.clone().into_bytes())
    }

    /// What a download of this version must turn out to be.
    pub fn expected(&self) -> Expected {
        let mut sha256 = [0; 32];
        let read = self.sha256.as_ref().and_then(|digits| hex::decode_to_slice(digits, &mut sha256).ok());
        Expected { size: self.size, sha256: read.map(|()| sha256), md5: None }
    }
}

impl ChangesClient {
    /// A client for the server at `base`, with the token of an application or of the operator.
    pub fn new(http: Http, base: &str, token: &Secret) -> Result<Self, PullError> {
        Ok(Self { http, base: base_url(base)?, authorization: bearer(token)? })
    }

    /// At most `limit` events of `account` after a cursor; none begins at the beginning.
    ///
    /// Where nothing has changed, the server answers after `wait` (whole seconds) at the latest.
    pub async fn changes(
        &self,
        account: &str,
        after: Option<&str>,
        limit: u32,
        wait: Duration,
    ) -> Result<Changes, PullError> {
        let after = after.map(|cursor| format!("&after={}", percent_encode(cursor.as_bytes()))).unwrap_or_default();
        let (account, wait_secs) = (percent_encode(account.as_bytes()), wait.as_secs());
        let query = format!("api/v1/changes?account={account}{after}&limit={limit}&wait={wait_secs}");
        let headers = headers(&self.authorization, "application/json");
        let answer = self.http.call(Method::GET, &behind(&self.base, &query)?, &headers, wait).await?;
        serde_json::from_slice(&answer).map_err(|error| PullError::Answer(error.to_string()))
    }

    /// Downloads the file of an event by WebDAV to the same path below `directory`.
    ///
    /// If the file has changed since, the content is not the one that the event names and is refused; a newer event
    /// will name it.
    pub async fn download(
        &self,
        event: &ChangeEvent,
        directory: &Path,
        progress: impl FnMut(u64, Option<u64>),
    ) -> Result<Downloaded, DownloadError> {
        let path = event.path_bytes();
        let remote =
            Remote::new(dav_url(&self.base, &event.account, &path)?).with_authorization(self.authorization.clone());
        download(&self.http, &remote, directory, &path, &event.expected(), progress).await
    }
}
