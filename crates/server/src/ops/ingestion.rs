//! Uploads of an application (Sage X3 protocol, section 6.4): announced with its token, put to a signed URL, followed.
//! What was put is an arrival like any other.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use filebell_core::id::IngestionId;
use filebell_core::path::FilePath;

use super::admin::random_uuid;
use super::pull::{granted_folder, root_of};
use super::signed::{Purpose, Signed};
use super::{ApplicationCaller, Ops, OpsError};
use crate::beneath::Root;
use crate::source::upload::{Target, Upload};
use crate::store::{Account, Ingestion, IngestionStatus};

/// The scope that lets an application put files.
const SCOPE_INGESTION: &str = "api.dataIngestion";
/// How long an upload can be followed.
const FOLLOWED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An upload under way to its announced place.
#[derive(Debug)]
pub struct Ingesting {
    id: IngestionId,
    account: Account,
    root: PathBuf,
    path: FilePath,
    upload: Upload,
}

impl Ingesting {
    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), OpsError> {
        Ok(self.upload.write(bytes).await?)
    }
}

impl Ops {
    /// Announces an upload; answers it and where its bytes are to be put. A name that exists is refused.
    pub async fn announce_upload(
        &self,
        caller: &ApplicationCaller,
        folder: &str,
        name: &[u8],
    ) -> Result<(Ingestion, String), OpsError> {
        granted_folder(caller, folder, SCOPE_INGESTION)?;
        let path = FilePath::in_folder(folder.as_bytes(), name)?;
        must_be_free(root_of(&caller.account)?, path).await?;
        let now = self.0.seams.now();
        let ingestion = Ingestion {
            id: IngestionId::new(random_uuid()?),
            grant: caller.grant.id,
            folder: folder.to_owned(),
            file_name: name.to_vec(),
            status: IngestionStatus::AwaitingUpload,
            created_at: now,
            changed_at: now,
        };
        self.0.store.add_ingestion(ingestion.clone(), now.before(FOLLOWED_FOR)).await?;
        let url = self.upload_url(ingestion.grant, &ingestion.id.uuid().to_string());
        Ok((ingestion, url))
    }

    /// How far an upload of this caller's has come.
    pub async fn upload_status(&self, caller: &ApplicationCaller, id: IngestionId) -> Result<Ingestion, OpsError> {
        let found = self.0.store.ingestion(id).await?.map(|(ingestion, _)| ingestion);
        let found = found.filter(|ingestion| ingestion.grant == caller.grant.id);
        found.ok_or_else(|| OpsError::NotFound(format!("upload {id}")))
    }

    /// Begins to take the bytes of an announced upload, by its signed URL; so many, as far as that is known. One that
    /// is done is done.
    pub async fn begin_ingestion(&self, url: &Signed<'_>, size: Option<u64>) -> Result<Ingesting, OpsError> {
        let caller = self.signed_caller(Purpose::Upload, url).await?;
        let missing = || OpsError::NotFound("upload".to_owned());
        let id = uuid::Uuid::try_parse(url.folder).map(IngestionId::new).map_err(|_| missing())?;
        let ingestion = self.upload_status(&caller, id).await?;
        // The consent may have been narrowed since it was announced.
        granted_folder(&caller, &ingestion.folder, SCOPE_INGESTION)?;
        if ingestion.status == IngestionStatus::Done {
            return Err(OpsError::Exists("this upload".to_owned()));
        }
        let path = FilePath::in_folder(ingestion.folder.as_bytes(), &ingestion.file_name)?;
        let root = root_of(&caller.account)?;
        must_be_free(root.clone(), path.clone()).await?;
        self.must_fit(&caller.account, &path, size.unwrap_or(0)).await?;
        let bytes_max = self.room_at(&caller.account, &path).await?;
        make_parents(root.clone(), path.clone()).await?;
        let left_out = self.is_left_out(&path);
        let target = Target { account: caller.account.id, path: path.clone(), user: caller.application.name, left_out };
        let tag = (self.0.seams.fresh_ids())().simple().to_string();
        let upload = Upload::begin(self.0.journal.clone(), root.clone(), target, None, bytes_max, tag).await?;
        Ok(Ingesting { id, account: caller.account, root, path, upload })
    }

    /// All bytes have come: the file is put in its place and told, if `size`, where it is known, is right.
    pub async fn end_ingestion(&self, ingesting: Ingesting, size: Option<u64>) -> Result<(), OpsError> {
        let Ingesting { id, account, root, path, upload } = ingesting;
        let placed = async {
            must_be_free(root, path.clone()).await?;
            self.place(&account, &path, upload, size, None).await
        };
        let status = match placed.await {
            Ok(_) => Ok(IngestionStatus::Done),
            Err(error) => Err(error),
        };
        let word = *status.as_ref().unwrap_or(&IngestionStatus::Error);
        self.0.store.set_ingestion_status(id, word, self.0.seams.now()).await?;
        status.map(|_| ())
    }

    /// The bytes broke off, or were too many. They may be put again.
    pub async fn break_off_ingestion(&self, ingesting: Ingesting) -> Result<(), OpsError> {
        let now = self.0.seams.now();
        Ok(self.0.store.set_ingestion_status(ingesting.id, IngestionStatus::Error, now).await?)
    }
}

async fn must_be_free(root: PathBuf, path: FilePath) -> Result<(), OpsError> {
    let target = path.clone();
    let looked = tokio::task::spawn_blocking(move || Root::open(&root)?.look(Some(&target)).map(|_| ())).await;
    match looked.map_err(io::Error::other).and_then(|looked| looked) {
        Ok(()) => Err(OpsError::Exists(format!("file {}", path.to_text()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpsError::File(error)),
    }
}

/// Makes the directories that a file is to lie in.
async fn make_parents(root: PathBuf, path: FilePath) -> Result<(), OpsError> {
    let made = tokio::task::spawn_blocking(move || {
        let root = Root::open(&root)?;
        let mut parents: Vec<FilePath> = std::iter::successors(path.parent(), FilePath::parent).collect();
        parents.reverse();
        for parent in parents {
            match root.make_directory(&parent) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => (),
            }
        }
        Ok(())
    });
    made.await.map_err(io::Error::other).and_then(|made| made).map_err(OpsError::File)
}
