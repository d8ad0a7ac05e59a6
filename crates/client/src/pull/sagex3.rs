use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use filebell_core::secret::Secret;
use filebell_core::wire::percent_encode;
use filebell_core::wire::sagex3::read::{Detail, ListedFile, Listing};
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;
use uuid::Uuid;

use super::{Http, PullError, base_url, bearer, behind, headers};
use crate::download::{DownloadError, Downloaded, Expected, Remote, download};

const JSON: &str = "application/json";

/// The data delivery of Sage X3, or a filebell that speaks like it, with the access token of one customer.
#[derive(Debug, Clone)]
pub struct SageX3Client {
    http: Http,
    endpoint: Url,
    authorization: HeaderValue,
}

impl SageX3Client {
    /// The most redirects a download follows.
    pub const REDIRECTS_MAX: u8 = 3;

    /// A client for `endpoint`, which ends in `/v1`. An access token lives minutes; make a new client for a new one.
    pub fn new(http: Http, endpoint: &str, access_token: &Secret) -> Result<Self, PullError> {
        Ok(Self { http, endpoint: base_url(endpoint)?, authorization: bearer(access_token)? })
    }

    /// The detail of a notification. Store it at once: nothing promises that it can be read twice.
    ///
    /// The address is built from the endpoint and the id; the `detailUrl` of the push is never asked.
    pub async fn notification(&self, id: Uuid) -> Result<Detail, PullError> {
        let answer = self.get(&format!("notification/{id}")).await?;
        Ok(Detail::from_json(&answer)?)
    }

    /// The names of the folders that were granted.
    pub async fn folders(&self) -> Result<Vec<String>, PullError> {
        let folders: Folders = serde_json::from_slice(&self.get("folders").await?)
            .map_err(|error| PullError::Answer(format!("the list of folders cannot be read: {error}")))?;
        Ok(folders.folders.into_iter().map(|folder| folder.name).collect())
    }

    /// The most pages of a listing that are asked for.
    pub const PAGES_MAX: usize = 100_000;

    /// All files of a folder, over all pages. A file that moves between pages is listed once.
    pub async fn list(&self, folder: &str) -> Result<Vec<ListedFile>, PullError> {
        let mut files = Vec::new();
        let (mut pages, mut keys) = (HashSet::new(), HashSet::new());
        let mut link = Some(percent_encode(folder.as_bytes()));
        // A page that was there before ends it: a server that goes in circles is not followed for ever.
        while let Some(page) = link.take().filter(|page| pages.insert(page.clone())) {
            if pages.len() > Self::PAGES_MAX {
                return Err(PullError::Answer(format!("the listing has more than {} pages", Self::PAGES_MAX)));
            }
            let listing = Listing::from_json(&self.get(&format!("datadelivery/{page}")).await?)?;
            files.extend(listing.items.into_iter().filter(|file| keys.insert(file.key.clone())));
            link = listing.next;
        }
        Ok(files)
    }

    /// Downloads a file of a folder to its name below `directory`; names with `/` become sub-directories.
    ///
    /// The server answers with a redirect to its storage, which is followed without the token, or with the bytes.
    pub async fn download(
        &self,
        folder: &str,
        name: &str,
        directory: &Path,
        expected: &Expected,
        progress: impl FnMut(u64, Option<u64>),
    ) -> Result<Downloaded, DownloadError> {
        let remote = Remote::new(behind(&self.endpoint, &file_path(folder, name))?)
            .with_authorization(self.authorization.clone())
            .following_redirects(Self::REDIRECTS_MAX);
        download(&self.http, &remote, directory, name.as_bytes(), expected, progress).await
    }

    /// Deletes a file, as an application has to do when the bytes are safe. One that is gone already is no error.
    pub async fn delete(&self, folder: &str, name: &str) -> Result<(), PullError> {
        let url = behind(&self.endpoint, &file_path(folder, name))?;
        let deleted = self.http.call(Method::DELETE, &url, &headers(&self.authorization, JSON), Duration::ZERO).await;
        match deleted {
            Err(error) if error.status() != Some(StatusCode::NOT_FOUND) => Err(error),
            _ => Ok(()),
        }
    }

    async fn get(&self, path: &str) -> Result<bytes::Bytes, PullError> {
        let url = behind(&self.endpoint, path)?;
        self.http.call(Method::GET, &url, &headers(&self.authorization, JSON), Duration::ZERO).await
    }
}

#[derive(Deserialize)]
struct Folders {
    folders: Vec<Folder>,
}

#[derive(Deserialize)]
struct Folder {
    name: String,
}

fn file_path(folder: &str, name: &str) -> String {
    format!("datadelivery/{}?filename={}", percent_encode(folder.as_bytes()), percent_encode(name.as_bytes()))
}
