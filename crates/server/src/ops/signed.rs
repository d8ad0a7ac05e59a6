//! URLs that speak for themselves: bound to one grant, one path, one use and a time, and worth nothing once the grant
//! is taken back.

use std::time::Duration;

use filebell_core::id::GrantId;
use filebell_core::wire::percent_encode;
use filebell_core::wire::sign::{self, hmac_sha256};

use super::{ApplicationCaller, OpenFile, Ops, OpsError};

/// How long such a URL counts (Sage X3 protocol, section 6.2).
const COUNTS_FOR: Duration = Duration::from_secs(60 * 60);

/// What a signed URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Download,
    Upload,
}

/// A signed URL as it was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// Under which grant.
    pub grant: i64,
    /// The folder, or the upload.
    pub folder: &'a str,
    /// The file's name below it.
    pub name: &'a [u8],
    /// Until when it counts, in seconds.
    pub expires: i64,
    /// The signature in hex.
    pub signature: &'a str,
}

impl Ops {
    /// Where a granted file can be fetched without a token, for an hour.
    pub fn download_url(&self, caller: &ApplicationCaller, folder: &str, name: &[u8]) -> String {
        let expires = self.0.seams.now().after(COUNTS_FOR).to_secs().as_secs();
        let grant = caller.grant.id.get();
        let signature = sign::hex(&self.signature(Purpose::Download, grant, folder, name, expires));
        format!(
            "{}/v1/storage/{grant}/{}/{}?expires={expires}&signature={signature}",
            self.public_url(),
            percent_encode(folder.as_bytes()),
            percent_encode(name)
        )
    }

    /// Opens a file by a signed URL. One that is wrong or over, and one whose grant no longer covers it, are the same.
    pub async fn open_signed_file(&self, url: &Signed<'_>) -> Result<OpenFile, OpsError> {
        let caller = self.signed_caller(Purpose::Download, url).await?;
        self.open_granted_file(&caller, url.folder, url.name).await
    }

    /// Where an announced upload is to be put, for an hour.
    pub(super) fn upload_url(&self, grant: GrantId, upload: &str) -> String {
        let expires = self.0.seams.now().after(COUNTS_FOR).to_secs().as_secs();
        let signature = sign::hex(&self.signature(Purpose::Upload, grant.get(), upload, b"", expires));
        let (base, grant) = (self.public_url(), grant.get());
        format!("{base}/v1/storage/{grant}/{upload}?expires={expires}&signature={signature}")
    }

    /// Who was given a signed URL, if it counts.
    pub(super) async fn signed_caller(
        &self,
        purpose: Purpose,
        url: &Signed<'_>,
    ) -> Result<ApplicationCaller, OpsError> {
        let expected = self.signature(purpose, url.grant, url.folder, url.name, url.expires);
        let given = sign::unhex(url.signature).ok_or(OpsError::Credentials)?;
        if !sign::same(&expected, &given) {
            return Err(OpsError::Credentials);
        }
        if url.expires <= self.0.seams.now().to_secs().as_secs() {
            return Err(OpsError::Expired);
        }
        let grants = self.0.store.grants().await?;
        let grant = grants.into_iter().find(|grant| grant.id.get() == url.grant).ok_or(OpsError::Credentials)?;
        self.caller_of(grant).await?.ok_or(OpsError::Credentials)
    }

    fn signature(&self, purpose: Purpose, grant: i64, folder: &str, name: &[u8], expires: i64) -> sign::Tag {
        let purpose = match purpose {
            Purpose::Download => "download",
            Purpose::Upload => "upload",
        };
        let key = self.0.store.derived_key("signed-url");
        let head = format!("{purpose}\0{grant}\0{expires}\0{folder}\0");
        hmac_sha256(&key, &[head.as_bytes(), name])
    }
}
