//! The file system below the protocol layer: one request's view of one account, made of operations.

use std::io::SeekFrom;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, FsError, FsFuture, FsResult, FsStream, OpenOptions, ReadDirMeta,
};
use filebell_core::path::FilePath;
use futures_util::{FutureExt, StreamExt, stream};

use super::Refusal;
use crate::ops::{AccountCaller, Checksum, Entry, Mtime, Ops, OpsError, Upload, UploadError};

/// Entries of a directory that are looked up together.
const PAGE_ENTRIES: usize = 500;

/// One request's view of its account.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) ops: Ops,
    pub(super) caller: AccountCaller,
    pub(super) about: Arc<About>,
}

/// What the protocol layer does not pass on, and what it has no words for.
#[derive(Default)]
pub(super) struct About {
    /// The time of change that an uploaded file is to get.
    pub(super) mtime: Option<Mtime>,
    /// Whether this request writes a file: a lock on nothing makes none.
    pub(super) writes: bool,
    /// A file that is written over at once by what comes there, and so not removed first.
    pub(super) replaced: Option<FilePath>,
    /// Why the request was refused, where the protocol layer would say something else.
    pub(super) refusal: Mutex<Option<Refusal>>,
}

impl About {
    fn refuse(&self, why: Refusal) -> FsError {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        FsError::GeneralFailure
    }

    /// Why the request was refused, if it was.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Tree {
    fn wrong(&self, error: OpsError) -> FsError {
        match error {
            OpsError::NotFound(_) => FsError::NotFound,
            OpsError::Exists(_) => FsError::Exists,
            OpsError::NotGranted(_) | OpsError::Path(_) => FsError::Forbidden,
            OpsError::File(error) => match FsError::from(&error) {
                FsError::GeneralFailure | FsError::InsufficientStorage => {
                    self.about.refuse(OpsError::File(error).into())
                }
                kind => kind,
            },
            other => self.about.refuse(other.into()),
        }
    }

    /// The same where it may be the room at a path that is missing.
    fn refused_at(&self, path: &FilePath, error: OpsError) -> FsError {
        match error {
            error @ OpsError::NoRoom { .. } => self.about.refuse(Refusal::no_room(Some(path), error)),
            other => self.wrong(other),
        }
    }

    async fn entry(&self, path: &DavPath) -> FsResult<Entry> {
        self.ops.entry(&self.caller, file_path(path)?).await.map_err(|error| self.wrong(error))
    }
}

/// The path below the root; `None` for the root itself.
fn file_path(path: &DavPath) -> FsResult<Option<FilePath>> {
    let bytes = path.as_bytes();
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    if bytes.is_empty() { Ok(None) } else { FilePath::from_bytes(bytes).map(Some).map_err(|_| FsError::Forbidden) }
}

/// The root is neither removed nor renamed nor written.
fn below_root(path: &DavPath) -> FsResult<FilePath> {
    file_path(path)?.ok_or(FsError::Forbidden)
}

impl DavFileSystem for Tree {
    fn open<'a>(&'a self, path: &'a DavPath, options: OpenOptions) -> FsFuture<'a, Box<dyn DavFile>> {
        async move {
            let path = below_root(path)?;
            if !options.write || options.append {
                return Err(FsError::Forbidden);
            }
            if !self.about.writes {
                return Ok(Box::new(Nothing) as Box<dyn DavFile>);
            }
            if options.create_new || !options.create {
                let there = self.ops.entry(&self.caller, Some(path.clone())).await.is_ok();
                if there && options.create_new {
                    return Err(FsError::Exists);
                }
                if !there && !options.create {
                    return Err(FsError::NotFound);
                }
            }
            let checksum = options.checksum.as_deref().and_then(Checksum::parse);
            let upload = self.ops.begin_upload(&self.caller, path.clone(), options.size, checksum.clone()).await;
            let upload = upload.map_err(|error| self.refused_at(&path, error))?;
            let tree = self.clone();
            Ok(Box::new(Written { tree, path, upload: Some(upload), size: options.size, checksum }) as Box<dyn DavFile>)
        }
        .boxed()
    }

    fn read_dir<'a>(&'a self, path: &'a DavPath, _: ReadDirMeta) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        async move {
            let directory = file_path(path)?;
            let names = self.ops.names(&self.caller, directory.clone()).await.map_err(|error| self.wrong(error))?;
            let pages: Vec<Vec<Vec<u8>>> = names.chunks(PAGE_ENTRIES).map(<[_]>::to_vec).collect();
            let tree = self.clone();
            let entries = stream::iter(pages).then(move |names| {
                let (tree, directory) = (tree.clone(), directory.clone());
                async move {
                    let entries = tree.ops.entries(&tree.caller, directory, names).await;
                    stream::iter(match entries {
                        Ok(entries) => entries.into_iter().map(|entry| Ok(Listed::boxed(entry))).collect(),
                        Err(error) => vec![Err(tree.wrong(error))],
                    })
                }
            });
            Ok(entries.flatten().boxed() as FsStream<Box<dyn DavDirEntry>>)
        }
        .boxed()
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        async move { Ok(Box::new(Standing::of(&self.entry(path).await?)) as Box<dyn DavMetaData>) }.boxed()
    }

    fn create_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        async move {
            let path = file_path(path)?.ok_or(FsError::Exists)?;
            self.ops.make_directory(&self.caller, path).await.map_err(|error| self.wrong(error))
        }
        .boxed()
    }

    fn remove_dir<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        async move {
            let path = below_root(path)?;
            self.ops.remove_directory(&self.caller, path).await.map_err(|error| self.wrong(error))
        }
        .boxed()
    }

    fn remove_file<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, ()> {
        async move {
            let path = below_root(path)?;
            if self.about.replaced.as_ref() == Some(&path) {
                return Ok(());
            }
            self.ops.remove_file(&self.caller, path).await.map_err(|error| self.wrong(error))
        }
        .boxed()
    }

    fn rename<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        async move {
            let (from, to) = (below_root(from)?, below_root(to)?);
            self.ops.rename(&self.caller, from, to).await.map_err(|error| self.wrong(error))
        }
        .boxed()
    }

    fn copy<'a>(&'a self, from: &'a DavPath, to: &'a DavPath) -> FsFuture<'a, ()> {
        async move {
            let (from, to) = (below_root(from)?, below_root(to)?);
            self.ops.copy_file(&self.caller, from, to).await.map_err(|error| self.wrong(error))
        }
        .boxed()
    }
}

/// A file or directory as the protocol layer asks about it.
#[derive(Debug, Clone)]
struct Standing {
    directory: bool,
    size: u64,
    mtime_ns: i64,
    tag: String,
}

impl Standing {
    fn of(entry: &Entry) -> Self {
        let print = &entry.look.print;
        Self { directory: entry.is_directory(), size: print.size, mtime_ns: print.mtime_ns, tag: entry.tag() }
    }
}

impl DavMetaData for Standing {
    fn len(&self) -> u64 {
        self.size
    }

    fn modified(&self) -> FsResult<SystemTime> {
        Ok(UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.mtime_ns).unwrap_or(0)))
    }

    fn is_dir(&self) -> bool {
        self.directory
    }

    fn etag(&self) -> Option<String> {
        Some(self.tag.clone())
    }
}

struct Listed {
    name: Vec<u8>,
    standing: Standing,
}

impl Listed {
    fn boxed(entry: Entry) -> Box<dyn DavDirEntry> {
        let name = entry.path.as_ref().map(|path| path.name().to_vec()).unwrap_or_default();
        Box::new(Self { name, standing: Standing::of(&entry) })
    }
}

impl DavDirEntry for Listed {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let standing: Box<dyn DavMetaData> = Box::new(self.standing.clone());
        async { Ok(standing) }.boxed()
    }
}

/// A file that is being uploaded. Until the flush at its end there is none.
struct Written {
    tree: Tree,
    path: FilePath,
    upload: Option<Upload>,
    size: Option<u64>,
    checksum: Option<Checksum>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DavFile for Written {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        // What is answered is read from the disk and the journal instead.
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn write_buf(&'_ mut self, mut buf: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        self.write_bytes(bytes)
    }

    fn write_bytes(&'_ mut self, bytes: Bytes) -> FsFuture<'_, ()> {
        async move {
            let upload = self.upload.as_mut().ok_or(FsError::GeneralFailure)?;
            let written = upload.write(bytes).await;
            written.map_err(|error: UploadError| self.tree.refused_at(&self.path, error.into()))
        }
        .boxed()
    }

    fn read_bytes(&'_ mut self, _: usize) -> FsFuture<'_, Bytes> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn seek(&'_ mut self, _: SeekFrom) -> FsFuture<'_, u64> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        async move {
            let upload = self.upload.take().ok_or(FsError::GeneralFailure)?;
            let Tree { ops, caller, about } = &self.tree;
            let checksum = self.checksum.take();
            let ended = ops.end_upload(caller, &self.path, upload, self.size, about.mtime, checksum).await;
            ended.map(|_| ()).map_err(|error| self.tree.refused_at(&self.path, error))
        }
        .boxed()
    }
}

/// What a lock on a path without a file opens.
#[derive(Debug)]
struct Nothing;

impl DavFile for Nothing {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn write_buf(&'_ mut self, _: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn write_bytes(&'_ mut self, _: Bytes) -> FsFuture<'_, ()> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn read_bytes(&'_ mut self, _: usize) -> FsFuture<'_, Bytes> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn seek(&'_ mut self, _: SeekFrom) -> FsFuture<'_, u64> {
        async { Err(FsError::NotImplemented) }.boxed()
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        async { Ok(()) }.boxed()
    }
}
