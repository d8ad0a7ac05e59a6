//! Uploads: bytes come in by HTTP, and are a file only when all of them are on disk.
//!
//! Written to a file without a name, hashed on the way, synced, named, and only then claimed: a watcher of the same
//! tree finds the file as the journal knows it, and nothing is told twice.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};

use aws_lc_rs::digest;
use bytes::Bytes;
use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Present, SourceKind, Version};
use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use md5::Md5;
use rustix::fs::{Timespec, Timestamps, futimens};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::beneath::{Kind, Root, Staged};
use crate::journal::{Journal, JournalError};

/// Gathered before it is written and hashed on a helping thread; a slow sender holds no thread.
const GATHER_BYTES: usize = 1 << 20;

/// Why an upload came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The file could not be written: no such directory, disk full.
    #[error("the upload cannot be written")]
    File(#[source] io::Error),
    /// A directory lies where the file should.
    #[error("a directory has this name")]
    Directory,
    /// Fewer or more bytes came than were announced.
    #[error("{expected} bytes were announced and {received} came")]
    Size {
        /// Announced.
        expected: u64,
        /// Came.
        received: u64,
    },
    /// What came is not what was sent.
    #[error("the checksum of what arrived is another than the one announced")]
    Checksum,
    /// More came than there is room for.
    #[error("there is no room for more than {available} bytes")]
    NoRoom {
        /// Bytes that came.
        received: u64,
        /// Bytes there was room for.
        available: u64,
    },
    /// The file is there, and could not be recorded; a watcher will find it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A checksum as a client announces it: `SHA1:…`, `MD5:…`, `ADLER32:…` or `SHA256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    kind: ChecksumKind,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChecksumKind {
    Sha1,
    Md5,
    Adler32,
    Sha256,
}

impl Checksum {
    /// Reads a header; `None` for a kind that is not known, which is not checked.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, hex) = text.trim().split_once(':')?;
        let kind = match kind.to_ascii_uppercase().as_str() {
            "SHA1" => ChecksumKind::Sha1,
            "MD5" => ChecksumKind::Md5,
            "ADLER32" => ChecksumKind::Adler32,
            "SHA256" => ChecksumKind::Sha256,
            _ => return None,
        };
        Some(Self { kind, hex: hex.to_ascii_lowercase() })
    }

    /// As clients write it.
    pub fn to_text(&self) -> String {
        let kind = match self.kind {
            ChecksumKind::Sha1 => "SHA1",
            ChecksumKind::Md5 => "MD5",
            ChecksumKind::Adler32 => "ADLER32",
            ChecksumKind::Sha256 => "SHA256",
        };
        format!("{kind}:{}", self.hex)
    }
}

/// Where an upload goes.
#[derive(Debug, Clone)]
pub struct Target {
    /// Whose file.
    pub account: AccountId,
    /// Where it will lie.
    pub path: FilePath,
    /// Who uploads.
    pub user: String,
    /// Its name is one that is never told: nobody is, until it gets its real one.
    pub left_out: bool,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Whether a file lay there before.
    pub replaced: bool,
    /// The content.
    pub version: Version,
}

/// An upload under way. Dropping it leaves nothing behind.
pub struct Upload {
    journal: Journal,
    target: Target,
    /// `None` while a helping thread has it, and after a failure.
    work: Option<Work>,
    busy: Option<JoinHandle<io::Result<Work>>>,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    received: u64,
    /// More than so many bytes are refused.
    bytes_max: u64,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Upload {
    /// Begins an upload beneath an open root, of at most so many bytes. `tag` is not used twice.
    pub async fn begin(
        journal: Journal,
        root: std::path::PathBuf,
        target: Target,
        checksum: Option<Checksum>,
        bytes_max: Option<u64>,
        tag: String,
    ) -> Result<Self, UploadError> {
        let path = target.path.clone();
        let begun = blocking(move || {
            let staged = Root::open(&root)?.stage(&path, &tag)?;
            let directory = staged.replaces()?.is_some_and(|look| look.kind != Kind::File);
            Ok((!directory).then(|| Work::new(staged, checksum)))
        });
        let work = begun.await.map_err(UploadError::File)?.ok_or(UploadError::Directory)?;
        Ok(Self {
            journal,
            target,
            work: Some(work),
            busy: None,
            gathered: Vec::new(),
            gathered_bytes: 0,
            received: 0,
            bytes_max: bytes_max.unwrap_or(u64::MAX),
        })
    }

    /// How many bytes have come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes. While a piece is being written the next one gathers.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), UploadError> {
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received > self.bytes_max {
            return Err(UploadError::NoRoom { received: self.received, available: self.bytes_max });
        }
        self.gathered_bytes = self.gathered_bytes.saturating_add(bytes.len());
        self.gathered.push(bytes);
        if self.gathered_bytes >= GATHER_BYTES { self.pass_on().await } else { Ok(()) }
    }

    /// The end: checks, syncs, names and records the file. Only when this answers is there a file at all.
    pub async fn commit(mut self, size: Option<u64>, mtime: Option<Mtime>) -> Result<Placed, UploadError> {
        let mut work = self.work().await?;
        let rest = std::mem::take(&mut self.gathered);
        let _turn = turn_at(&self.target).lock().await;
        let placed = blocking_task(move || {
            rest.iter().try_for_each(|piece| work.write(piece)).map_err(UploadError::File)?;
            work.place(size, mtime)
        });
        let (present, replaced) = placed.await?;
        let version = present.version;
        let arrival = Arrival {
            account: self.target.account,
            path: self.target.path.clone(),
            claim: Claim::Present(present),
            source: SourceKind::Upload,
            user: self.target.user.clone(),
        };
        if !self.target.left_out {
            self.journal.record(vec![arrival]).await?;
        }
        Ok(Placed { replaced, version })
    }

    async fn pass_on(&mut self) -> Result<(), UploadError> {
        let mut work = self.work().await?;
        let pieces = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        self.busy = Some(tokio::task::spawn_blocking(move || {
            for piece in pieces {
                work.write(&piece)?;
            }
            Ok(work)
        }));
        Ok(())
    }

    /// Waits for the piece that is being written.
    async fn work(&mut self) -> Result<Work, UploadError> {
        if let Some(busy) = self.busy.take() {
            let work = busy.await.map_err(|error| UploadError::File(io::Error::other(error)))?;
            return work.map_err(UploadError::File);
        }
        self.work.take().ok_or_else(|| UploadError::File(io::Error::other("an upload that failed goes on")))
    }
}

/// A time of change that the sender gives a file: seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtime {
    /// Whole seconds.
    pub secs: i64,
    /// And so many nanoseconds.
    pub nanos: u32,
}

impl From<Mtime> for Timespec {
    fn from(mtime: Mtime) -> Self {
        Self { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() }
    }
}

/// What is being written, and what is known of it so far.
#[derive(Debug)]
struct Work {
    staged: Staged,
    sha256: Sha256,
    md5: Md5,
    extra: Option<(Checksum, Extra)>,
    size: u64,
}

enum Extra {
    Sha1(Box<digest::Context>),
    Adler32(Adler32),
    /// It is computed anyway.
    None,
}

impl std::fmt::Debug for Extra {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Extra")
    }
}

impl Work {
    fn new(staged: Staged, checksum: Option<Checksum>) -> Self {
        let extra = checksum.map(|checksum| {
            let extra = match checksum.kind {
                ChecksumKind::Sha1 => Extra::Sha1(Box::new(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY))),
                ChecksumKind::Adler32 => Extra::Adler32(Adler32::default()),
                ChecksumKind::Md5 | ChecksumKind::Sha256 => Extra::None,
            };
            (checksum, extra)
        });
        Self { staged, sha256: Sha256::new(), md5: Md5::new(), extra, size: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.staged.file.write_all(bytes)?;
        self.sha256.update(bytes);
        self.md5.update(bytes);
        match &mut self.extra {
            Some((_, Extra::Sha1(context))) => context.update(bytes),
            Some((_, Extra::Adler32(sum))) => sum.update(bytes),
            Some((_, Extra::None)) | None => (),
        }
        self.size = self.size.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn place(self, expected: Option<u64>, mtime: Option<Mtime>) -> Result<(Present, bool), UploadError> {
        let Self { staged, sha256, md5, extra, size } = self;
        if let Some(expected) = expected.filter(|expected| *expected != size) {
            return Err(UploadError::Size { expected, received: size });
        }
        let version = Version { sha256: sha256.finalize().into(), md5: md5.finalize().into(), size };
        if let Some((announced, extra)) = extra {
            let found = match (announced.kind, extra) {
                (ChecksumKind::Sha256, _) => hex::encode(version.sha256),
                (_, Extra::Sha1(context)) => hex::encode(context.finish()),
                (_, Extra::Adler32(sum)) => format!("{:08x}", sum.value()),
                (_, Extra::None) => hex::encode(version.md5),
            };
            if found != announced.hex {
                return Err(UploadError::Checksum);
            }
        }
        let place = || -> io::Result<_> {
            if let Some(mtime) = mtime {
                let time = mtime.into();
                futimens(&staged.file, &Timestamps { last_access: time, last_modification: time })?;
            }
            let replaced = staged.replaces()?;
            Ok((replaced.is_some(), staged.place()?))
        };
        let (replaced, look) = place().map_err(UploadError::File)?;
        let present = Present {
            fingerprint: look.print,
            version,
            completeness: Completeness::Committed,
            moved_from: None,
            announce: Announce::News,
        };
        Ok((present, replaced))
    }
}

/// The checksum of zlib (RFC 1950).
struct Adler32 {
    low: u32,
    high: u32,
}

impl Default for Adler32 {
    fn default() -> Self {
        Self { low: 1, high: 0 }
    }
}

impl Adler32 {
    /// The most bytes that cannot overflow before a remainder is taken.
    const CHUNK_BYTES: usize = 5552;

    fn update(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(Self::CHUNK_BYTES) {
            for byte in chunk {
                self.low += u32::from(*byte);
                self.high += self.low;
            }
            self.low %= 65_521;
            self.high %= 65_521;
        }
    }

    fn value(&self) -> u32 {
        self.high << 16 | self.low
    }
}

/// Two uploads to one path are named and recorded one after the other, so that the journal ends with what lies there.
fn turn_at(target: &Target) -> &'static tokio::sync::Mutex<()> {
    /// So many that others rarely wait too.
    static TURNS: [tokio::sync::Mutex<()>; 1024] = [const { tokio::sync::Mutex::const_new(()) }; 1024];
    let mut hash = DefaultHasher::new();
    (target.account, &target.path).hash(&mut hash);
    let at = usize::try_from(hash.finish() % TURNS.len() as u64).unwrap_or_default();
    TURNS.get(at).unwrap_or(&TURNS[0])
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn blocking_task<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, UploadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| UploadError::File(io::Error::other(error)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_in_either_case() {
        let read = Checksum::parse("sha1:AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D").unwrap();
        assert_eq!(read.to_text(), "SHA1:aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
        assert_eq!(Checksum::parse("CRC32:00"), None);
        assert_eq!(Checksum::parse("nothing"), None);
    }

    #[test]
    fn adler32_is_that_of_zlib() {
        let of = |bytes: &[u8]| {
            let mut sum = Adler32::default();
            bytes.chunks(7).for_each(|chunk| sum.update(chunk));
            sum.value()
        };
        assert_eq!(of(b""), 1);
        assert_eq!(of(b"Wikipedia"), 0x11E6_0398);
        assert_eq!(of(&[0xFF; 100_000]), {
            let (mut low, mut high) = (1_u64, 0_u64);
            for _ in 0..100_000 {
                low = (low + 255) % 65_521;
                high = (high + low) % 65_521;
            }
            u32::try_from(high << 16 | low).unwrap()
        });
    }
}
