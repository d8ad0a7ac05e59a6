//! An account's own tree, read and written: what WebDAV is made of.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Present, SourceKind};
use filebell_core::event::StoredFile;
use filebell_core::id::FileId;
use filebell_core::path::FilePath;
use tokio::io::AsyncReadExt;

use super::pull::{blocking, root_of};
use super::{AccountCaller, Ops, OpsError};
use crate::beneath::{Kind, Look, OWN_PREFIX, Root, is_absence};
use crate::source::upload::{Checksum, Mtime, Placed, Target, Upload, UploadError};
use crate::store::{Asked, Property};

/// Files of a moved directory that are claimed together.
const MOVED_FILES: u32 = 1000;
/// Read at a time while copying.
const COPY_BYTES: usize = 1 << 20;
/// Where the checksum that came with an upload is kept, and beside it which content it is of.
const CHECKSUM_PROPERTY: &str = "{http://owncloud.org/ns}checksums";
/// Where the pieces of chunked uploads lie; a name of our own, shown to nobody.
const PIECES: &[u8] = b".filebell-pieces";
/// How long pieces may lie about before a new chunked upload sweeps them away.
const PIECES_KEPT_NS: i64 = 24 * 60 * 60 * 1_000_000_000;
/// Directories are numbered by their inode, far from where files are numbered.
const DIRECTORY_IDS: u64 = 1 << 40;

/// A file or directory as it stands.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where; `None` for the root.
    pub path: Option<FilePath>,
    /// What lies there.
    pub look: Look,
    /// What the journal knows of it.
    pub stored: Option<StoredFile>,
    /// Its dead properties.
    pub properties: Vec<Property>,
    /// The account's newest event: whatever changes below a directory changes its tag.
    newest: i64,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.look.kind == Kind::Directory
    }

    /// What changes when it changes, without quotes.
    pub fn tag(&self) -> String {
        let print = &self.look.print;
        match (&self.stored, self.is_directory()) {
            (_, true) => format!("{:x}-{:x}-{:x}", print.inode, print.ctime_ns, self.newest),
            (stored, false) => {
                super::pull::tag(stored.as_ref(), print.inode, print.size, print.mtime_ns, print.ctime_ns)
            }
        }
    }

    /// A number that stays with it when it moves.
    pub fn file_id(&self) -> u64 {
        let stored = self.stored.as_ref().map(|stored| stored.id).map(FileId::get);
        stored.map_or(DIRECTORY_IDS.saturating_add(self.look.print.inode), i64::cast_unsigned)
    }

    /// The checksum that came with its content.
    pub fn checksum(&self) -> Option<&str> {
        let stored = self.stored.as_ref()?;
        let property = self.properties.iter().find(|property| property.name == CHECKSUM_PROPERTY)?;
        let (of, checksum) = property.value.split_once(' ')?;
        (of == hex::encode(stored.version?.sha256)).then_some(checksum)
    }
}

impl Ops {
    /// What lies at a path of the caller's; `None` for the root.
    pub async fn entry(&self, caller: &AccountCaller, path: Option<FilePath>) -> Result<Entry, OpsError> {
        let root = root_of(&caller.account)?;
        let target = checked(path)?;
        let wanted = target.clone();
        let look = blocking(move || Root::open(&root)?.look(wanted.as_ref())).await.map_err(absent)?;
        let mut entries = self.known(caller, vec![(target, look)]).await?;
        entries.pop().ok_or_else(|| OpsError::NotFound("file".into()))
    }

    /// The names in a directory of the caller's, in byte order.
    pub async fn names(&self, caller: &AccountCaller, directory: Option<FilePath>) -> Result<Vec<Vec<u8>>, OpsError> {
        let root = root_of(&caller.account)?;
        let directory = checked(directory)?;
        blocking(move || Root::open(&root)?.list(directory.as_ref())).await.map_err(absent)
    }

    /// What lies in a directory under these names; what is neither file nor directory is left out.
    pub async fn entries(
        &self,
        caller: &AccountCaller,
        directory: Option<FilePath>,
        names: Vec<Vec<u8>>,
    ) -> Result<Vec<Entry>, OpsError> {
        let root = root_of(&caller.account)?;
        let directory = checked(directory)?;
        let below = directory.clone();
        let looks = blocking(move || {
            let looks = Root::open(&root)?.look_in(below.as_ref(), &names)?;
            Ok(names.into_iter().zip(looks).collect::<Vec<_>>())
        });
        let looks = looks.await.map_err(absent)?.into_iter().filter_map(|(name, look)| {
            let path = match &directory {
                Some(directory) => directory.child(&name),
                None => FilePath::from_bytes(&[b"/".as_slice(), &name].concat()),
            };
            Some((Some(path.ok()?), look?))
        });
        self.known(caller, looks.collect()).await
    }

    /// Joins what the disk says with what the store says.
    async fn known(
        &self,
        caller: &AccountCaller,
        looks: Vec<(Option<FilePath>, Look)>,
    ) -> Result<Vec<Entry>, OpsError> {
        let (store, account) = (&self.0.store, caller.account.id);
        let shown: Vec<_> = looks.into_iter().filter(|(_, look)| look.kind != Kind::Other).collect();
        let asked = shown.iter().filter(|(_, look)| look.kind == Kind::File).filter_map(|(path, _)| path.clone());
        let rows = store.known(account, asked.map(|path| Asked { path, inode: None }).collect()).await?;
        let mut rows: HashMap<FilePath, StoredFile> =
            rows.into_iter().filter_map(|known| known.row).map(|row| (row.path.clone(), row)).collect();
        let paths = shown.iter().map(|(path, _)| bytes_of(path.as_ref())).collect();
        let mut properties = store.properties(account, paths).await?;
        let newest = match shown.iter().any(|(_, look)| look.kind == Kind::Directory) {
            true => store.newest_of(account).await?.get(),
            false => 0,
        };
        let entry = |(path, look): (Option<FilePath>, Look)| Entry {
            stored: path.as_ref().and_then(|path| rows.remove(path)),
            properties: properties.remove(&bytes_of(path.as_ref())).unwrap_or_default(),
            path,
            look,
            newest,
        };
        Ok(shown.into_iter().map(entry).collect())
    }

    /// How many bytes the journal knows below a directory; `None` is the root.
    pub async fn bytes_below(&self, caller: &AccountCaller, directory: Option<FilePath>) -> Result<u64, OpsError> {
        match directory {
            Some(directory) => Ok(self.0.store.bytes_below(caller.account.id, directory).await?),
            None => Ok(self.usage(&caller.account).await?.used),
        }
    }

    /// Begins to write a file of the caller's, of so many bytes, as far as that is known.
    pub async fn begin_upload(
        &self,
        caller: &AccountCaller,
        path: FilePath,
        size: Option<u64>,
        checksum: Option<Checksum>,
    ) -> Result<Upload, OpsError> {
        let path = checked_path(path)?;
        self.must_fit(&caller.account, &path, size.unwrap_or(0)).await?;
        let bytes_max = self.room_at(&caller.account, &path).await?;
        let root = root_of(&caller.account)?;
        let left_out = self.is_left_out(&path);
        let target = Target { account: caller.account.id, path, user: caller.account.name.clone(), left_out };
        let tag = (self.0.seams.fresh_ids())().simple().to_string();
        Ok(Upload::begin(self.0.journal.clone(), root, target, checksum, bytes_max, tag).await?)
    }

    /// Ends an upload. The checksum it came with is kept for who asks for it.
    pub async fn end_upload(
        &self,
        caller: &AccountCaller,
        path: &FilePath,
        upload: Upload,
        size: Option<u64>,
        mtime: Option<Mtime>,
        checksum: Option<Checksum>,
    ) -> Result<Placed, OpsError> {
        let placed = self.place(&caller.account, path, upload, size, mtime).await?;
        if let Some(checksum) = checksum {
            let value = format!("{} {}", hex::encode(placed.version.sha256), checksum.to_text());
            let changes = vec![(CHECKSUM_PROPERTY.to_owned(), Some(value))];
            self.0.store.set_properties(caller.account.id, path.as_bytes().to_vec(), changes).await?;
        }
        Ok(placed)
    }

    /// Makes a directory.
    pub async fn make_directory(&self, caller: &AccountCaller, path: FilePath) -> Result<(), OpsError> {
        let (root, path) = (root_of(&caller.account)?, checked_path(path)?);
        blocking(move || Root::open(&root)?.make_directory(&path)).await.map_err(absent)
    }

    /// Removes a file of the caller's, and tells it.
    pub async fn remove_file(&self, caller: &AccountCaller, path: FilePath) -> Result<(), OpsError> {
        let (root, path) = (root_of(&caller.account)?, checked_path(path)?);
        let target = path.clone();
        blocking(move || Root::open(&root)?.remove_file(&target)).await.map_err(absent)?;
        self.0.journal.record(vec![arrival(caller, path, Claim::Gone)]).await?;
        Ok(())
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, caller: &AccountCaller, path: FilePath) -> Result<(), OpsError> {
        let (root, path) = (root_of(&caller.account)?, checked_path(path)?);
        let target = path.clone();
        blocking(move || Root::open(&root)?.remove_directory(&target)).await.map_err(absent)?;
        Ok(self.0.store.remove_properties(caller.account.id, path).await?)
    }

    /// Moves a file or a directory, and tells every file that moved. A file in the way goes.
    pub async fn rename(&self, caller: &AccountCaller, from: FilePath, to: FilePath) -> Result<(), OpsError> {
        let (root, from, to) = (root_of(&caller.account)?, checked_path(from)?, checked_path(to)?);
        let (old, new) = (from.clone(), to.clone());
        let look = blocking(move || {
            let root = Root::open(&root)?;
            root.rename(&old, &new)?;
            root.look(Some(&new))
        });
        let look = look.await.map_err(absent)?;
        self.0.store.move_properties(caller.account.id, from.clone(), to.clone()).await?;
        if look.kind == Kind::Directory {
            return self.rename_below(caller, &from, &to).await;
        }
        let row = self.0.store.file_at(caller.account.id, from.clone()).await?;
        let moved: Vec<Arrival> = row.into_iter().flat_map(|row| self.moved(caller, &row, to.clone(), look)).collect();
        self.0.journal.record(moved).await?;
        Ok(())
    }

    async fn rename_below(&self, caller: &AccountCaller, from: &FilePath, to: &FilePath) -> Result<(), OpsError> {
        let account = caller.account.id;
        let mut after = None;
        loop {
            let rows = self.0.store.files(account, Some(from.clone()), after, MOVED_FILES).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.path.clone());
            let root = root_of(&caller.account)?;
            let mut targets = Vec::new();
            for row in rows {
                let below = row.path.as_bytes().get(from.as_bytes().len()..).unwrap_or_default();
                targets.push((FilePath::from_bytes(&[to.as_bytes(), below].concat())?, row));
            }
            let looks = blocking(move || {
                let root = Root::open(&root)?;
                Ok(targets
                    .into_iter()
                    .map(|(target, row)| (root.look(Some(&target)).ok(), target, row))
                    .collect::<Vec<_>>())
            });
            let looks = looks.await.map_err(OpsError::File)?;
            // A file that is not there has been moved on meanwhile; the watcher sees where.
            let arrivals = looks
                .into_iter()
                .filter_map(|(look, target, row)| Some(self.moved(caller, &row, target, look?)))
                .flatten();
            self.0.journal.record(arrivals.collect()).await?;
        }
    }

    /// Where a file lies now, told as a move of what it was; the old place is told as gone if another file came there, or
    /// if the new name is one that is never told. What was never read, or was not told under its old name, is left to the
    /// source, which reads it and tells it then.
    fn moved(&self, caller: &AccountCaller, row: &StoredFile, to: FilePath, look: Look) -> Vec<Arrival> {
        let gone = arrival(caller, row.path.clone(), Claim::Gone);
        if self.is_left_out(&to) {
            return vec![gone];
        }
        let Some(version) = row.version else { return Vec::new() };
        let present = Present {
            fingerprint: look.print,
            version,
            completeness: Completeness::Renamed,
            moved_from: Some(row.path.clone()),
            announce: Announce::News,
        };
        // If a row lay at the new place, that one is written over, and the old one goes for itself.
        vec![arrival(caller, to, Claim::Present(present)), gone]
    }

    /// Copies a file, and tells the copy.
    pub async fn copy_file(&self, caller: &AccountCaller, from: FilePath, to: FilePath) -> Result<(), OpsError> {
        let open = self.open_own_file(caller, from.clone()).await?;
        let size = open.file.metadata().map_err(OpsError::File)?.len();
        let mut upload = self.begin_upload(caller, to.clone(), Some(size), None).await?;
        let size = self.feed(open.file, &mut upload).await?;
        self.place(&caller.account, &to, upload, Some(size), None).await?;
        Ok(self.0.store.copy_properties(caller.account.id, from, to).await?)
    }

    async fn feed(&self, file: std::fs::File, upload: &mut Upload) -> Result<u64, OpsError> {
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(COPY_BYTES);
        let mut size = 0_u64;
        loop {
            let mut piece = Vec::with_capacity(COPY_BYTES);
            let read = file.read_buf(&mut piece).await.map_err(OpsError::File)?;
            if read == 0 {
                return Ok(size);
            }
            size = size.saturating_add(read as u64);
            upload.write(Bytes::from(piece)).await?;
        }
    }

    /// Sets dead properties, or removes those without a value.
    pub async fn set_properties(
        &self,
        caller: &AccountCaller,
        path: Option<FilePath>,
        changes: Vec<(String, Option<String>)>,
    ) -> Result<(), OpsError> {
        let path = bytes_of(checked(path)?.as_ref());
        Ok(self.0.store.set_properties(caller.account.id, path, changes).await?)
    }

    /// Sets when a file or directory of the caller's was last changed. Tells nobody: its content is the same.
    pub async fn set_mtime(&self, caller: &AccountCaller, path: FilePath, mtime: Mtime) -> Result<(), OpsError> {
        let (root, path) = (root_of(&caller.account)?, checked_path(path)?);
        let target = path.clone();
        let looks = blocking(move || {
            let root = Root::open(&root)?;
            let before = root.look(Some(&target))?;
            root.set_mtime(&target, mtime.into())?;
            Ok((before, root.look(Some(&target))?))
        });
        let (before, after) = looks.await.map_err(absent)?;
        // What the journal knew well it goes on knowing. Anything else is left to the source, which reads it.
        let row = self.0.store.file_at(caller.account.id, path.clone()).await?;
        let version = row.filter(|row| row.fingerprint == before.print).and_then(|row| row.version);
        if let Some(version) = version {
            let present = Present {
                fingerprint: after.print,
                version,
                completeness: Completeness::Committed,
                moved_from: None,
                announce: Announce::News,
            };
            self.0.journal.record(vec![arrival(caller, path, Claim::Present(present))]).await?;
        }
        Ok(())
    }

    /// Copies the dead properties of a directory.
    pub async fn copy_properties(&self, caller: &AccountCaller, from: FilePath, to: FilePath) -> Result<(), OpsError> {
        Ok(self.0.store.copy_properties(caller.account.id, from, to).await?)
    }

    // --- uploads in pieces

    /// Makes room for the pieces of an upload, and sweeps away what others left long ago.
    pub async fn begin_pieces(&self, caller: &AccountCaller, transfer: &[u8]) -> Result<(), OpsError> {
        let (root, all, own) = (root_of(&caller.account)?, pieces(None)?, pieces(Some(transfer))?);
        let now_ns = self.0.seams.now().as_millis().saturating_mul(1_000_000);
        blocking(move || {
            let root = Root::open(&root)?;
            match root.make_directory(&all) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Ok(()) | Err(_) => (),
            }
            let names = root.list(Some(&all))?;
            let looks = root.look_in(Some(&all), &names)?;
            for (name, look) in names.iter().zip(looks) {
                let old = look.is_some_and(|look| now_ns.saturating_sub(look.print.mtime_ns) > PIECES_KEPT_NS);
                if let Ok(path) = all.child(name)
                    && old
                {
                    remove_pieces(&root, &path)?;
                }
            }
            root.make_directory(&own)
        })
        .await
        .map_err(absent)
    }

    /// Keeps one piece.
    pub async fn write_piece(
        &self,
        caller: &AccountCaller,
        transfer: &[u8],
        name: &[u8],
        bytes: impl futures_util::Stream<Item = Result<Bytes, io::Error>> + Unpin,
        size: Option<u64>,
    ) -> Result<(), OpsError> {
        use futures_util::StreamExt;
        let path = piece(transfer, name)?;
        let root = root_of(&caller.account)?;
        let tag = (self.0.seams.fresh_ids())().simple().to_string();
        let staged = blocking(move || Root::open(&root)?.stage(&path, &tag)).await.map_err(absent)?;
        let mut bytes = bytes;
        let mut file = tokio::fs::File::from_std(staged.file.try_clone().map_err(OpsError::File)?);
        file.set_max_buf_size(COPY_BYTES);
        let mut received = 0_u64;
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(OpsError::File)?;
            received = received.saturating_add(piece.len() as u64);
            tokio::io::AsyncWriteExt::write_all(&mut file, &piece).await.map_err(OpsError::File)?;
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(OpsError::File)?;
        if let Some(expected) = size.filter(|expected| *expected != received) {
            return Err(UploadError::Size { expected, received }.into());
        }
        blocking(move || staged.place()).await.map_err(OpsError::File)?;
        Ok(())
    }

    /// Makes a file of the pieces, in the order of their numbers.
    pub async fn end_pieces(
        &self,
        caller: &AccountCaller,
        transfer: &[u8],
        to: FilePath,
        size: Option<u64>,
        mtime: Option<Mtime>,
        checksum: Option<Checksum>,
    ) -> Result<Placed, OpsError> {
        let directory = pieces(Some(transfer))?;
        let root = root_of(&caller.account)?;
        let below = directory.clone();
        let mut names = blocking(move || Root::open(&root)?.list(Some(&below))).await.map_err(absent)?;
        // `2` comes before `10`, and `0000002` where others are padded.
        names.sort_by_key(|name| {
            let digits = name.iter().position(|byte| *byte != b'0').unwrap_or(name.len());
            let digits = name.get(digits..).unwrap_or_default().to_vec();
            (digits.len(), digits)
        });
        let (below, all) = (root_of(&caller.account)?, names.clone());
        let looks = blocking(move || Root::open(&below)?.look_in(Some(&directory), &all)).await.map_err(absent)?;
        let whole = looks.into_iter().flatten().map(|look| look.print.size).sum();
        let mut upload = self.begin_upload(caller, to.clone(), Some(whole), checksum.clone()).await?;
        for name in names {
            let (root, path) = (root_of(&caller.account)?, piece(transfer, &name)?);
            let file = blocking(move || Root::open(&root)?.open_file(&path)).await.map_err(absent)?;
            self.feed(file, &mut upload).await?;
        }
        let placed = self.end_upload(caller, &to, upload, size, mtime, checksum).await?;
        self.remove_pieces(caller, transfer).await?;
        Ok(placed)
    }

    /// Gives an upload in pieces up.
    pub async fn remove_pieces(&self, caller: &AccountCaller, transfer: &[u8]) -> Result<(), OpsError> {
        let (root, directory) = (root_of(&caller.account)?, pieces(Some(transfer))?);
        blocking(move || remove_pieces(&Root::open(&root)?, &directory)).await.map_err(absent)
    }
}

fn remove_pieces(root: &Root, directory: &FilePath) -> io::Result<()> {
    for name in root.list(Some(directory))? {
        if let Ok(path) = directory.child(&name) {
            root.remove_file(&path)?;
        }
    }
    root.remove_directory(directory)
}

fn pieces(transfer: Option<&[u8]>) -> Result<FilePath, OpsError> {
    let all = FilePath::from_bytes(&[b"/".as_slice(), PIECES].concat())?;
    match transfer {
        None => Ok(all),
        Some(transfer) if transfer.contains(&b'/') => Err(OpsError::NotFound("upload".into())),
        Some(transfer) => Ok(all.child(transfer)?),
    }
}

fn piece(transfer: &[u8], name: &[u8]) -> Result<FilePath, OpsError> {
    if name.is_empty() || !name.iter().all(u8::is_ascii_digit) {
        return Err(OpsError::NotFound("piece: its name is a number".into()));
    }
    Ok(pieces(Some(transfer))?.child(name)?)
}

fn arrival(caller: &AccountCaller, path: FilePath, claim: Claim) -> Arrival {
    Arrival { account: caller.account.id, path, claim, source: SourceKind::Upload, user: caller.account.name.clone() }
}

fn bytes_of(path: Option<&FilePath>) -> Vec<u8> {
    path.map(|path| path.as_bytes().to_vec()).unwrap_or_default()
}

/// Names of our own are nobody's.
fn checked_path(path: FilePath) -> Result<FilePath, OpsError> {
    let ours = path.relative().split(|byte| *byte == b'/').any(|name| name.starts_with(OWN_PREFIX));
    if ours { Err(OpsError::NotGranted("a name that begins with `.filebell-`".into())) } else { Ok(path) }
}

fn checked(path: Option<FilePath>) -> Result<Option<FilePath>, OpsError> {
    path.map(checked_path).transpose()
}

/// Tells what is not there, or may not be seen, from what cannot be read.
pub(super) fn absent(error: io::Error) -> OpsError {
    let errno = rustix::io::Errno::from_io_error(&error);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpsError::NotFound("file".into()),
        _ if errno.is_some_and(is_absence) => OpsError::NotFound("file".into()),
        io::ErrorKind::AlreadyExists => OpsError::Exists("a file or directory of this name".into()),
        _ => OpsError::File(error),
    }
}
