//! The pull of each protocol: what is new since the last time, into the directory, remembered file by file.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use filebell_client::download::{DownloadError, Downloaded, Expected, relative_path};
use filebell_client::pull::{ChangeEvent, ChangesClient, Http, NextcloudClient, PullError, SageX3Client};
use filebell_client::verify::{self, StandardKey};
use filebell_client::wire::sagex3::read::{ListedFile, Payload};
use filebell_client::wire::{VerifyError, standard};
use filebell_core::secret::Secret;
use filebell_core::time::TimestampSecs;
use http::{HeaderMap, StatusCode};
use md5::Digest;
use tokio::sync::mpsc::UnboundedSender;
use uuid::Uuid;

use super::progress::Progress;
use super::state::State;
use super::{Step, lock};

/// A file of the newest second may change within that second, unseen by a list that counts in seconds. So it is
/// fetched when the second is over.
const SECOND_IS_OVER: Duration = Duration::from_millis(1100);
/// Events asked for at once.
const PAGE_EVENTS: u32 = 500;

/// How notifications are verified, and how is pulled.
pub(super) enum Side {
    Nextcloud {
        key: Secret,
        client: NextcloudClient,
    },
    SageX3 {
        client_id: Secret,
        endpoint: String,
        token: Token,
        delete: bool,
    },
    /// Without an account's password, files are downloaded with the token too.
    Standard {
        key: StandardKey,
        server: String,
        account: String,
        token: Token,
        files: Option<NextcloudClient>,
    },
}

/// An access token, or the file in which somebody renews it.
pub(super) enum Token {
    Text(Secret),
    File(PathBuf),
}

impl Token {
    fn read(&self) -> anyhow::Result<Secret> {
        match self {
            Self::Text(token) => Ok(token.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path);
                Ok(Secret::new(text.with_context(|| format!("{} cannot be read", path.display()))?.trim()))
            }
        }
    }
}

/// What a pull works with.
pub(super) struct Puller {
    pub(super) side: Side,
    pub(super) http: Http,
    pub(super) into: PathBuf,
    pub(super) state: Mutex<State>,
    pub(super) steps: UnboundedSender<Step>,
    /// What is known of files that lie here.
    pub(super) here: Mutex<HashMap<PathBuf, Here>>,
}

/// A file as it lay here, and its content.
#[derive(Clone, Copy)]
pub(super) struct Here {
    modified: SystemTime,
    size: u64,
    md5: [u8; 16],
}

/// What makes a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A notification, or what it left behind.
    Told,
    /// Nobody said anything for a while, or this is the start: what was never told is looked for too.
    Poll,
}

impl Puller {
    /// Verifies a notification and takes it on; what must not be forgotten is on disk when this returns.
    pub(super) fn take_on(&self, headers: &HeaderMap, body: &[u8], now: TimestampSecs) -> Result<(), Refused> {
        match &self.side {
            Side::Nextcloud { key, .. } => verify::nextcloud(key, headers, body).map(drop)?,
            Side::Standard { key, .. } => match verify::standard(key, headers, body, now, verify::TOLERANCE) {
                Ok(_) => (),
                // Signed, and about something that this receiver does not know: as good as done.
                Err(error) if error.is_malformed() => {
                    self.say(Step::Skipped { what: standard::FILES_CHANGED.to_owned(), why: error.to_string() });
                }
                Err(error) => return Err(error.into()),
            },
            Side::SageX3 { client_id, .. } => {
                let pushed = verify::sagex3(client_id, headers, body)?;
                let mut state = lock(&self.state);
                let id = pushed.notification_id;
                state.change(|kept| kept.take_on(id)).map_err(Refused::Disk)?;
            }
        }
        Ok(())
    }

    /// Fetches everything that is new. An error leaves the rest for the next time.
    pub(super) async fn pull(&self, why: Why) -> anyhow::Result<()> {
        match &self.side {
            Side::Nextcloud { client, .. } => self.pull_recent(client).await,
            Side::SageX3 { endpoint, token, delete, .. } => {
                let client = SageX3Client::new(self.http.clone(), endpoint, &token.read()?)?;
                self.pull_told(&client, *delete).await?;
                if why == Why::Poll { self.pull_listed(&client, *delete).await } else { Ok(()) }
            }
            Side::Standard { server, account, token, files, .. } => {
                let client = ChangesClient::new(self.http.clone(), server, &token.read()?)?;
                self.pull_changes(&client, account, files.as_ref()).await
            }
        }
    }

    async fn pull_recent(&self, client: &NextcloudClient) -> anyhow::Result<()> {
        let since = lock(&self.state).kept.since;
        let mut files = client.recent(since).await.context("`recent` cannot be asked")?;
        let listed_at = Instant::now();
        let newest = files.iter().map(|file| file.time).max().unwrap_or_default();
        files.retain(|file| file.r#type == "file" && !lock(&self.state).kept.has(file.time, file.id));
        files.sort_by_key(|file| (file.time, file.id));
        self.say(Step::Pulled { new: files.len() });
        for file in files {
            if file.time == newest {
                tokio::time::sleep(SECOND_IS_OVER.saturating_sub(listed_at.elapsed())).await;
            }
            let mut progress = Progress::new(&file.path);
            let told = |done, total| progress.at(done, total);
            let downloaded = client.download(&file.path, &self.into, &Expected::default(), told).await;
            self.settle(&file.path, downloaded)?;
            lock(&self.state).change(|kept| kept.arrived(file.time, file.id))?;
        }
        Ok(())
    }

    async fn pull_told(&self, client: &SageX3Client, delete: bool) -> anyhow::Result<()> {
        let pending = lock(&self.state).kept.pending.clone();
        self.say(Step::Pulled { new: pending.len() });
        for id in pending {
            self.pull_one(client, id, delete).await?;
            lock(&self.state).change(|kept| kept.finish(id))?;
        }
        Ok(())
    }

    async fn pull_one(&self, client: &SageX3Client, id: Uuid, delete: bool) -> anyhow::Result<()> {
        let what = format!("notification {id}");
        let detail = match client.notification(id).await {
            Ok(detail) => detail,
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.say(Step::Skipped { what, why: "the server knows nothing of it".to_owned() });
                return Ok(());
            }
            Err(error) => return Err(error).with_context(|| format!("the detail of {what} cannot be had")),
        };
        let file = match detail.payload {
            Payload::FileAvailable(file) => file,
            Payload::Other(_) => {
                self.say(Step::Skipped { what, why: "it is not about a file".to_owned() });
                return Ok(());
            }
        };
        if self.place(&file.folder, &file.file_name).is_some_and(|path| path.exists()) {
            // Polling may have brought it before it was told.
            let listed =
                client.list(&file.folder).await.with_context(|| format!("{} cannot be listed", file.folder))?;
            let listed = listed.into_iter().find(|listed| listed.key == file.file_name);
            if let Some(listed) = listed
                && self.is_here(&file.folder, &listed).await
            {
                self.say(Step::Here { what: format!("{}/{}", file.folder, file.file_name) });
                return Ok(());
            }
        }
        self.fetch(client, &file.folder, &file.file_name, delete).await
    }

    /// The safety net: what the listings have and this directory has not.
    async fn pull_listed(&self, client: &SageX3Client, delete: bool) -> anyhow::Result<()> {
        for folder in client.folders().await.context("the folders cannot be listed")? {
            for listed in client.list(&folder).await.with_context(|| format!("{folder} cannot be listed"))? {
                if !self.is_here(&folder, &listed).await {
                    self.fetch(client, &folder, &listed.key, delete).await?;
                }
            }
        }
        Ok(())
    }

    /// Where a file belongs; `None` if its folder or its name cannot be written under.
    fn place(&self, folder: &str, name: &str) -> Option<PathBuf> {
        Some(self.into.join(folder_name(folder)?).join(relative_path(name.as_bytes()).ok()?))
    }

    /// Whether a file lies here with the content that is listed.
    async fn is_here(&self, folder: &str, listed: &ListedFile) -> bool {
        let (Some(path), Some(md5)) = (self.place(folder, &listed.key), listed.md5()) else { return false };
        let known = lock(&self.here).get(&path).copied();
        let file = path.clone();
        let here = tokio::task::spawn_blocking(move || look(&file, known)).await.ok().and_then(Result::ok);
        if let Some(here) = here {
            lock(&self.here).insert(path, here);
        }
        here.is_some_and(|here| here.md5 == md5)
    }

    async fn fetch(&self, client: &SageX3Client, folder: &str, file_name: &str, delete: bool) -> anyhow::Result<()> {
        let name = format!("{folder}/{file_name}");
        let Some(directory) = folder_name(folder).map(|folder| self.into.join(folder)) else {
            self.say(Step::Skipped { what: name, why: "its folder is not a name to write under".to_owned() });
            return Ok(());
        };
        let mut progress = Progress::new(&name);
        let told = |done, total| progress.at(done, total);
        let expected = Expected::default();
        let downloaded = client.download(folder, file_name, &directory, &expected, told).await;
        let is_here = self.settle(&name, downloaded)?;
        if is_here && delete {
            client.delete(folder, file_name).await.with_context(|| format!("{name} cannot be deleted"))?;
            self.say(Step::Deleted { what: name });
        }
        Ok(())
    }

    async fn pull_changes(
        &self,
        client: &ChangesClient,
        account: &str,
        files: Option<&NextcloudClient>,
    ) -> anyhow::Result<()> {
        loop {
            let after = lock(&self.state).kept.cursor.clone();
            let page = client.changes(account, after.as_deref(), PAGE_EVENTS, Duration::ZERO).await;
            let page = page.context("`changes` cannot be asked")?;
            self.say(Step::Pulled { new: page.events.len() });
            for event in &page.events {
                self.say(Step::Event { kind: event.kind.clone(), path: event.path.clone() });
                if event.kind != "deleted" {
                    self.fetch_version(client, files, event).await?;
                }
            }
            lock(&self.state).change(|kept| kept.cursor = Some(page.next))?;
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Fetches the version that an event names. If there is another one by now, a newer event names that.
    async fn fetch_version(
        &self,
        client: &ChangesClient,
        files: Option<&NextcloudClient>,
        event: &ChangeEvent,
    ) -> anyhow::Result<()> {
        if files.is_some() && event.path_base64.is_some() {
            let why = "its name is not UTF-8".to_owned();
            self.say(Step::Skipped { what: event.path.clone(), why });
            return Ok(());
        }
        let mut downloaded = Err(DownloadError::Mismatch("version"));
        // A second try tells a broken transfer from another version.
        for _ in 0..2 {
            let mut progress = Progress::new(&event.path);
            let told = |done, total| progress.at(done, total);
            downloaded = match files {
                Some(files) => files.download(&event.path, &self.into, &event.expected(), told).await,
                None => client.download(event, &self.into, told).await,
            };
            if !matches!(downloaded, Err(DownloadError::Mismatch(_))) {
                break;
            }
        }
        match downloaded {
            Err(DownloadError::Mismatch(_)) => {
                let why = "there is another version by now".to_owned();
                self.say(Step::Skipped { what: event.path.clone(), why });
                Ok(())
            }
            downloaded => self.settle(&event.path, downloaded).map(drop),
        }
    }

    /// Whether the file is here. A file that is gone, or that can never be written, is done with.
    fn settle(&self, name: &str, downloaded: Result<Downloaded, DownloadError>) -> anyhow::Result<bool> {
        let why = match downloaded {
            Ok(downloaded) => {
                let path = downloaded.path.strip_prefix(&self.into).unwrap_or(Path::new(name)).to_owned();
                let (size, resumed_at) = (downloaded.size, downloaded.resumed_at);
                self.say(Step::Downloaded { path, size, sha256: hex::encode(downloaded.sha256), resumed_at });
                return Ok(true);
            }
            Err(DownloadError::Pull(PullError::Status { status: StatusCode::NOT_FOUND, .. })) => {
                "it is not there any more".to_owned()
            }
            Err(DownloadError::Name(error)) => error.to_string(),
            // A file where another name needs a directory, or the other way round: no later try helps.
            Err(DownloadError::Disk { source, .. })
                if matches!(source.kind(), ErrorKind::NotADirectory | ErrorKind::IsADirectory) =>
            {
                format!("another name stands in its way: {source}")
            }
            Err(error) => return Err(error).with_context(|| format!("{name} cannot be downloaded")),
        };
        self.say(Step::Skipped { what: name.to_owned(), why });
        Ok(false)
    }

    pub(super) fn say(&self, step: Step) {
        // Nobody looks any more: the work is done all the same.
        let _ = self.steps.send(step);
    }
}

/// A folder as one name to write under.
fn folder_name(folder: &str) -> Option<PathBuf> {
    relative_path(folder.as_bytes()).ok().filter(|folder| folder.components().count() == 1)
}

/// Reads a file's content, unless it still is what is known. Blocks.
fn look(path: &Path, known: Option<Here>) -> std::io::Result<Here> {
    let metadata = std::fs::metadata(path)?;
    let (modified, size) = (metadata.modified()?, metadata.len());
    if let Some(known) = known.filter(|known| (known.modified, known.size) == (modified, size)) {
        return Ok(known);
    }
    let mut md5 = md5::Md5::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut HashWriter(&mut md5))?;
    Ok(Here { modified, size, md5: md5.finalize().into() })
}

/// Hashes what is written to it.
struct HashWriter<'a>(&'a mut md5::Md5);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Why a notification is not taken on.
pub(super) enum Refused {
    Signature(VerifyError),
    Disk(anyhow::Error),
}

impl From<VerifyError> for Refused {
    fn from(error: VerifyError) -> Self {
        Self::Signature(error)
    }
}
