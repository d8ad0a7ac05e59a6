//! The pull side: what changed, the detail of a notification, the listing, the bytes, the delete.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{Cursor, NotificationId, Seq};
use filebell_core::path::FilePath;
use filebell_core::subscription::{Customer, Protocol};
use filebell_core::time::{TimestampMs, TimestampSecs};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::fetches::{FetchedContent, account_reader, application_reader, reader};
use super::{AccountCaller, ApplicationCaller, Caller, Ops, OpsError, SageX3Settings};
use crate::beneath::{Root, is_absence};
use crate::store::{Account, Changes, ChangesOf};

/// The scope that lets an application know of files, list, download and delete (Sage X3 protocol, section 2.4).
const SCOPE_DELIVERY: &str = "api.dataDelivery";
/// How long a notification's detail can be read (the same protocol, GAP-28).
const DETAIL_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Events in one answer at most.
const CHANGES_MAX: u32 = 1000;
/// Read and hashed at a time.
const READ_BYTES: usize = 256 * 1024;
/// How long an answer with no news is held back at most.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What of the journal is asked for.
#[derive(Debug, Clone, Default)]
pub struct ChangesRequest {
    /// Only this account's; an application may leave it out.
    pub account: Option<String>,
    /// From here; `None` for the beginning.
    pub after: Option<Cursor>,
    /// At most so many events; `None` for the most that are given.
    pub limit: Option<u32>,
    /// Hold an answer with no news back so long.
    pub wait: Duration,
}

/// What a notification is about.
#[derive(Debug, Clone)]
pub struct NotificationDetail {
    /// The notification.
    pub id: NotificationId,
    /// Its application's id, as Sage X3 names it.
    pub application_id: String,
    /// Whose file.
    pub customer: Customer,
    /// When the notification was made.
    pub created_at: TimestampMs,
    /// The file's top-level directory.
    pub folder: Vec<u8>,
    /// Its path below that.
    pub file_name: Vec<u8>,
}

/// One page of a folder's files.
#[derive(Debug, Clone)]
pub struct FolderPage {
    /// The files with their content, in byte order of their paths. A file that is gone or being changed and was never
    /// read before is left out: the journal will tell what became of it.
    pub files: Vec<(StoredFile, Version)>,
    /// Whether another page follows.
    pub more: bool,
}

/// A file that can be read.
pub struct OpenFile {
    /// The open file; it stays the same one whatever happens to its name.
    pub file: File,
    /// What the journal last said about it; `None` for a file that has not been told yet.
    pub stored: Option<StoredFile>,
    /// Its path.
    pub path: FilePath,
    ops: Ops,
    reader: String,
}

impl OpenFile {
    /// Its bytes are being handed out, and are what the journal last said.
    pub fn handed_out(&self) {
        if let Some(stored) = &self.stored {
            self.ops.note_file(&self.reader, "download", stored.into());
        }
    }

    /// What changes when the file's content changes, without quotes.
    pub fn tag(&self, inode: u64, size: u64, mtime_ns: i64, ctime_ns: i64) -> String {
        tag(self.stored.as_ref(), inode, size, mtime_ns, ctime_ns)
    }
}

impl Ops {
    /// At most `limit` of the account's files that arrived in or after the second `since`, newest first; those after
    /// `before`, the last one of another page.
    pub async fn recent(
        &self,
        caller: &AccountCaller,
        since: TimestampSecs,
        before: Option<&StoredFile>,
        limit: u32,
    ) -> Result<Vec<StoredFile>, OpsError> {
        let before = before.map(|file| (file.arrived_at.to_secs(), file.id));
        Ok(self.0.store.recent(caller.account.id, since, before, limit).await?)
    }

    /// How many files [`Self::recent`] answers with in all.
    pub async fn recent_count(&self, caller: &AccountCaller, since: TimestampSecs) -> Result<u64, OpsError> {
        Ok(self.0.store.recent_count(caller.account.id, since).await?)
    }

    /// The caller was shown `recent` since a second, `newest` first.
    pub async fn recent_shown(
        &self,
        caller: &AccountCaller,
        since: TimestampSecs,
        newest: &StoredFile,
    ) -> Result<(), OpsError> {
        self.note_recent(caller, since, newest);
        Ok(self.0.store.acknowledge_recent(caller.account.id, newest.arrived_at.to_secs()).await?)
    }

    /// A page of the journal; if there is no news, waits for some.
    pub async fn changes(&self, caller: &Caller, request: ChangesRequest) -> Result<Changes, OpsError> {
        let of = self.changes_of(caller, request.account.as_deref()).await?;
        let after = request.after.unwrap_or(Cursor::new(0));
        let limit = request.limit.unwrap_or(CHANGES_MAX).clamp(1, CHANGES_MAX);
        let mut advanced = self.0.journal.advanced();
        self.must_have_been(after.seq()).await?;
        let deadline = tokio::time::Instant::now() + request.wait.min(WAIT_MAX);
        loop {
            advanced.mark_unchanged();
            let changes = self.0.store.changes(of.clone(), after, limit).await?;
            if !changes.events.is_empty() {
                return Ok(changes);
            }
            match tokio::time::timeout_at(deadline, advanced.changed()).await {
                Ok(Ok(())) => (),
                Ok(Err(_)) | Err(_) => return Ok(changes),
            }
        }
    }

    /// What a notification is about. A notification of another application or account does not exist.
    pub async fn notification_detail(
        &self,
        caller: &ApplicationCaller,
        id: NotificationId,
    ) -> Result<NotificationDetail, OpsError> {
        let missing = || OpsError::NotFound(id.to_string());
        let notification = self.0.store.notification(id).await?.ok_or_else(missing)?;
        if notification.created_at.after(DETAIL_FOR) <= self.0.seams.now() {
            return Err(missing());
        }
        let subscriptions = self.0.store.subscriptions().await?;
        let subscription = subscriptions.into_iter().find(|one| one.id == notification.subscription);
        let subscription = subscription.ok_or_else(missing)?;
        let Protocol::SageX3 { application, customer, .. } = subscription.protocol else { return Err(missing()) };
        if application != caller.application.id || subscription.account != caller.account.id {
            return Err(missing());
        }
        let event = self.event_after(caller.account.clone(), Cursor::after(notification.after.seq)).await?;
        let event = event.filter(|event| event.seq == notification.last.seq).ok_or_else(missing)?;
        let (folder, file_name) = event.path.folder().zip(event.path.below_folder()).ok_or_else(missing)?;
        // The consent may have been narrowed since.
        if !caller.grant.folders.iter().any(|granted| granted.as_bytes() == folder) {
            return Err(missing());
        }
        if self.0.sagex3.consume_once && !self.0.store.consume(id, self.0.seams.now()).await? {
            return Err(missing());
        }
        let read = FetchedContent { account: event.account, file: event.file, arrived_at: event.recorded_at };
        self.note_file(&application_reader(caller), "detail", read);
        Ok(NotificationDetail {
            id,
            application_id: caller.application.application_id.clone(),
            customer,
            created_at: notification.created_at,
            folder: folder.to_vec(),
            file_name: file_name.to_vec(),
        })
    }

    /// Page number `page` (from 1) of a granted folder. A page goes on where the one before it ended, if that was
    /// shown lately: files that come and go meanwhile shift nothing.
    pub async fn folder_page(
        &self,
        caller: &ApplicationCaller,
        folder: &str,
        page: u64,
    ) -> Result<FolderPage, OpsError> {
        let below = granted_folder(caller, folder, SCOPE_DELIVERY)?;
        let page_size = self.0.sagex3.page_size;
        let (account, grant, now) = (caller.account.id, caller.grant.id, self.0.seams.now());
        let look_at = page_size.saturating_add(1);
        let begin = if page > 1 { self.0.pages.begin(grant, folder, page, now) } else { None };
        let mut files = match begin {
            Some(after) => self.0.store.files(account, Some(below), Some(after), look_at).await?,
            None => {
                let skip = page.saturating_sub(1).saturating_mul(page_size.into());
                self.0.store.files_page(account, below, skip, look_at).await?
            }
        };
        let size = usize::try_from(page_size).unwrap_or(usize::MAX);
        let more = files.len() > size;
        files.truncate(size);
        if let Some(last) = files.last().filter(|_| more) {
            self.0.pages.note(grant, folder, page, last.path.clone(), now);
        }
        let files = self.with_versions(&caller.account, files).await?;
        Ok(FolderPage { files, more })
    }

    /// Files with their versions. What a new root came with was never read: that is done now, and remembered.
    async fn with_versions(
        &self,
        account: &Account,
        files: Vec<StoredFile>,
    ) -> Result<Vec<(StoredFile, Version)>, OpsError> {
        let (mut known, mut learned) = (Vec::new(), Vec::new());
        for file in files {
            if let Some(version) = file.version {
                known.push((file, version));
                continue;
            }
            let (root, unread) = (root_of(account)?, file.clone());
            match blocking(move || read_version(&root, &unread)).await {
                Ok(Some(version)) => {
                    learned.push(as_read(&file, version));
                    known.push((file, version));
                }
                Ok(None) => (),
                Err(error) => {
                    tracing::debug!(path = %file.path.to_text(), %error, "a file is left out of a listing");
                }
            }
        }
        self.0.journal.record(learned).await?;
        Ok(known)
    }

    /// Counts a call of an application against its quota of the day.
    pub fn count_call(&self, caller: &ApplicationCaller) -> Result<(), OpsError> {
        match self.0.sagex3.quota_per_day {
            Some(quota) => {
                let counted = self.0.quota.count(caller.application.id, quota, self.0.seams.now());
                counted.map_err(OpsError::Quota)
            }
            None => Ok(()),
        }
    }

    /// What the operator chose for Sage X3.
    pub fn sagex3(&self) -> &SageX3Settings {
        &self.0.sagex3
    }

    /// Opens a file of a granted folder.
    pub async fn open_granted_file(
        &self,
        caller: &ApplicationCaller,
        folder: &str,
        name: &[u8],
    ) -> Result<OpenFile, OpsError> {
        granted_folder(caller, folder, SCOPE_DELIVERY)?;
        let path = FilePath::in_folder(folder.as_bytes(), name)?;
        self.open_file(&caller.account, application_reader(caller), path).await
    }

    /// Opens a file by its path, if it lies in a granted folder.
    pub async fn open_granted_path(&self, caller: &ApplicationCaller, path: FilePath) -> Result<OpenFile, OpsError> {
        let folder = path.folder().map(|folder| String::from_utf8_lossy(folder).into_owned()).unwrap_or_default();
        granted_folder(caller, &folder, SCOPE_DELIVERY)?;
        self.open_file(&caller.account, application_reader(caller), path).await
    }

    /// Opens a file of the caller's own.
    pub async fn open_own_file(&self, caller: &AccountCaller, path: FilePath) -> Result<OpenFile, OpsError> {
        self.open_file(&caller.account, account_reader(caller), path).await
    }

    /// Opens a file of any account, for the operator.
    pub async fn open_any_file(&self, account: &str, path: FilePath) -> Result<OpenFile, OpsError> {
        self.open_file(&self.account(account).await?, reader(&Caller::Operator), path).await
    }

    /// Removes a file of a granted folder. A file that is not there is as good as removed.
    pub async fn remove_granted_file(
        &self,
        caller: &ApplicationCaller,
        folder: &str,
        name: &[u8],
    ) -> Result<(), OpsError> {
        granted_folder(caller, folder, SCOPE_DELIVERY)?;
        let path = FilePath::in_folder(folder.as_bytes(), name)?;
        let root = root_of(&caller.account)?;
        let target = path.clone();
        match blocking(move || Root::open(&root)?.remove_file(&target)).await {
            Ok(()) => (),
            Err(error) if is_absent(&error) => (),
            Err(error) => return Err(OpsError::File(error)),
        }
        let gone = Arrival {
            account: caller.account.id,
            path,
            claim: Claim::Gone,
            source: SourceKind::Upload,
            user: caller.application.name.clone(),
        };
        self.0.journal.record(vec![gone]).await?;
        Ok(())
    }

    async fn open_file(&self, account: &Account, reader: String, path: FilePath) -> Result<OpenFile, OpsError> {
        let root = root_of(account)?;
        let target = path.clone();
        let missing = || OpsError::NotFound(format!("file {}", path.to_text()));
        let file = blocking(move || Root::open(&root)?.open_file(&target))
            .await
            .map_err(|error| if is_absent(&error) { missing() } else { OpsError::File(error) })?;
        let stored = self.0.store.file_at(account.id, path.clone()).await?;
        Ok(OpenFile { file, stored, path, ops: self.clone(), reader })
    }

    /// Whoever is further than the journal would miss what comes until that is as far: it was set back.
    pub(super) async fn must_have_been(&self, seq: Seq) -> Result<(), OpsError> {
        match self.0.store.newest().await?.seq() {
            newest if seq > newest => Err(OpsError::Ahead { newest }),
            _ => Ok(()),
        }
    }

    async fn event_after(&self, account: Account, after: Cursor) -> Result<Option<Event>, OpsError> {
        let of = ChangesOf { account: Some(account.id), folders: None };
        Ok(self.0.store.changes(of, after, 1).await?.events.pop())
    }

    pub(super) async fn changes_of(&self, caller: &Caller, account: Option<&str>) -> Result<ChangesOf, OpsError> {
        match caller {
            Caller::Operator => {
                let account = match account {
                    Some(name) => Some(self.account(name).await?.id),
                    None => None,
                };
                Ok(ChangesOf { account, folders: None })
            }
            Caller::Application(caller) => {
                granted_scope(caller, SCOPE_DELIVERY)?;
                let folders = Some(caller.grant.folders.clone());
                own_changes(&caller.account, account, folders)
            }
            Caller::Account(caller) => own_changes(&caller.account, account, None),
        }
    }
}

/// An account's own changes. Another account's name is not even known to exist.
fn own_changes(own: &Account, asked: Option<&str>, folders: Option<Vec<String>>) -> Result<ChangesOf, OpsError> {
    match asked {
        Some(name) if name != own.name => Err(OpsError::NotFound(format!("account `{name}`"))),
        _ => Ok(ChangesOf { account: Some(own.id), folders }),
    }
}

pub(super) fn granted_folder(caller: &ApplicationCaller, folder: &str, scope: &str) -> Result<FilePath, OpsError> {
    granted_scope(caller, scope)?;
    if !caller.grant.folders.iter().any(|granted| granted == folder) {
        return Err(OpsError::NotGranted(format!("the folder `{folder}`")));
    }
    Ok(FilePath::from_bytes(format!("/{folder}").as_bytes())?)
}

fn granted_scope(caller: &ApplicationCaller, scope: &str) -> Result<(), OpsError> {
    if caller.grant.scopes.iter().any(|granted| granted == scope) {
        return Ok(());
    }
    Err(OpsError::NotGranted(format!("the scope {scope}")))
}

/// Reads a file for its version; `None` if it is not, or does not stay, what is stored of it.
fn read_version(root: &Path, stored: &StoredFile) -> io::Result<Option<Version>> {
    let mut file = Root::open(root)?.open_file(&stored.path)?;
    if !stands_as(&stored.fingerprint, &file.metadata()?) {
        return Ok(None);
    }
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut chunk = vec![0; READ_BYTES];
    let mut left = stored.fingerprint.size;
    loop {
        let count = file.read(&mut chunk)?;
        let bytes = chunk.get(..count).unwrap_or_default();
        // One that grows without end is not read without end.
        let Some(rest) = left.checked_sub(count as u64) else { return Ok(None) };
        if count == 0 {
            break;
        }
        left = rest;
        sha256.update(bytes);
        md5.update(bytes);
    }
    let version =
        Version { sha256: sha256.finalize().into(), md5: md5.finalize().into(), size: stored.fingerprint.size };
    Ok(stands_as(&stored.fingerprint, &file.metadata()?).then_some(version))
}

/// Whether an open file still looks as it did.
fn stands_as(print: &Fingerprint, now: &std::fs::Metadata) -> bool {
    let nanoseconds = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
    (print.inode, print.size, print.mtime_ns, print.ctime_ns)
        == (
            now.ino(),
            now.len(),
            nanoseconds(now.mtime(), now.mtime_nsec()),
            nanoseconds(now.ctime(), now.ctime_nsec()),
        )
}

/// The claim that a file is still the one that is stored, and has this content.
fn as_read(file: &StoredFile, version: Version) -> Arrival {
    Arrival {
        account: file.account,
        path: file.path.clone(),
        claim: Claim::Present(Present {
            fingerprint: file.fingerprint,
            version,
            completeness: Completeness::QuietPeriod,
            moved_from: None,
            announce: Announce::Baseline,
        }),
        source: SourceKind::Folder,
        user: file.user.clone(),
    }
}

/// Whether there is no such file, or a link, a directory or a device stands in its place.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || rustix::io::Errno::from_io_error(error).is_some_and(is_absence)
}

/// What changes when a file's content changes, without quotes: the content's own where the file still is what the
/// journal read, else one of its number, size and time. A file that is opened is answered with the same.
pub(super) fn tag(stored: Option<&StoredFile>, inode: u64, size: u64, mtime_ns: i64, ctime_ns: i64) -> String {
    let version = stored.filter(|stored| {
        let print = &stored.fingerprint;
        (print.inode, print.size, print.mtime_ns, print.ctime_ns) == (inode, size, mtime_ns, ctime_ns)
    });
    match version.and_then(|stored| stored.version) {
        Some(version) => hex::encode(version.md5),
        None => {
            let (secs, nanos) = (ctime_ns.div_euclid(1_000_000_000), ctime_ns.rem_euclid(1_000_000_000));
            format!("{inode:x}-{size:x}-{secs:x}.{nanos:x}")
        }
    }
}

pub(super) fn root_of(account: &Account) -> Result<std::path::PathBuf, OpsError> {
    account.root.clone().ok_or_else(|| OpsError::NotFound(format!("root of account `{}`", account.name)))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
