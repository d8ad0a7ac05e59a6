use std::path::Path;
use std::time::Duration;

use filebell_core::secret::Secret;
use filebell_core::wire::ocs::Format;
use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::{Http, PullError, base_url, basic, behind, dav_url, headers};
use crate::download::{DownloadError, Downloaded, Expected, Remote, download};
use crate::recent::{RecentFile, read_json, read_xml};

/// A Nextcloud with the File Upload Notification app, or a filebell that speaks like one.
#[derive(Debug, Clone)]
pub struct NextcloudClient {
    http: Http,
    base: Url,
    account: String,
    authorization: HeaderValue,
}

impl NextcloudClient {
    /// A client for the files of `account`; `password` may be an app password.
    pub fn new(http: Http, base: &str, account: &str, password: Secret) -> Result<Self, PullError> {
        let authorization = basic(account, &password)?;
        Ok(Self { http, base: base_url(base)?, account: account.to_owned(), authorization })
    }

    /// The files that arrived at `since` or later (seconds since the Unix epoch), newest first.
    pub async fn recent(&self, since: i64) -> Result<Vec<RecentFile>, PullError> {
        self.recent_as(since, Format::Json).await
    }

    /// The same, asked for in a format of one's choice. Both go by OCS version 1.
    pub async fn recent_as(&self, since: i64, format: Format) -> Result<Vec<RecentFile>, PullError> {
        let (name, accept) = match format {
            Format::Xml => ("xml", "application/xml"),
            Format::Json => ("json", "application/json"),
        };
        let path = format!("ocs/v1.php/apps/file_upload_notification/api/recent?since={since}&format={name}");
        let mut headers = headers(&self.authorization, accept);
        headers.insert(HeaderName::from_static("ocs-apirequest"), HeaderValue::from_static("true"));
        let url = behind(&self.base, &path)?;
        let answer = self.http.call(Method::GET, &url, &headers, Duration::ZERO).await?;
        Ok(match format {
            Format::Xml => read_xml(&answer)?,
            Format::Json => read_json(&answer)?,
        })
    }

    /// Downloads a file by WebDAV to the same path below `directory`.
    ///
    /// `progress` is told the bytes done and, where known, how many there are in all.
    pub async fn download(
        &self,
        path: &str,
        directory: &Path,
        expected: &Expected,
        progress: impl FnMut(u64, Option<u64>),
    ) -> Result<Downloaded, DownloadError> {
        let url = dav_url(&self.base, &self.account, path.as_bytes())?;
        let remote = Remote::new(url).with_authorization(self.authorization.clone());
        download(&self.http, &remote, directory, path.as_bytes(), expected, progress).await
    }
}
