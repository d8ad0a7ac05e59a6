//! The root of an account's tree: which directory it is, and the only way to anything beneath it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use filebell_core::arrival::Fingerprint;
use filebell_core::path::FilePath;
use filebell_core::root::RootIdentity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;

use super::dir::Dir;
use super::locked;
pub(super) use crate::beneath::is_absence;
use crate::beneath::open_beneath;

/// A root that is known as one directory, and may be gone or another one now.
pub(super) struct Root {
    path: PathBuf,
    identity: Mutex<Identity>,
}

struct Identity {
    known: RootIdentity,
    now: RootIdentity,
}

/// Why the root cannot be used now.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootLost {
    /// It cannot be opened.
    #[error("the root cannot be opened: {0}")]
    Closed(Errno),
    /// Another directory lies there.
    #[error("another directory than before lies at the root")]
    Swapped(RootIdentity),
}

/// The root, opened, known to be the directory it was. Held only while it is worked with: an open root cannot be
/// unmounted.
pub(super) struct OpenRoot {
    fd: OwnedFd,
    /// The device it lies on.
    pub(super) dev: u64,
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A regular file.
    File(Fingerprint),
    /// Nothing that is ours: no such name, a directory, a device, a FIFO, a socket, a symbolic link, or a path that
    /// leads through one.
    NoFile,
}

impl Root {
    /// Opens a root that is known as the directory `known`.
    pub(super) fn find(path: &Path, known: RootIdentity) -> Result<Self, Errno> {
        let (fd, now) = open(path)?;
        // openat2 is what keeps every path beneath the root: without it (Linux before 5.6) there is no way to work.
        open_beneath(fd.as_fd(), b".", OFlags::PATH)?;
        Ok(Self { path: path.to_owned(), identity: Mutex::new(Identity { known, now }) })
    }

    /// Opens the root, if it is still the same directory.
    pub(super) fn open(&self) -> Result<OpenRoot, RootLost> {
        let (fd, identity) = open(&self.path).map_err(RootLost::Closed)?;
        if identity != locked(&self.identity).now {
            return Err(RootLost::Swapped(identity));
        }
        Ok(OpenRoot { fd, dev: identity.dev })
    }

    /// Works with another directory from now on.
    pub(super) fn adopt(&self, now: RootIdentity) {
        locked(&self.identity).now = now;
    }

    /// Which directory is worked with.
    pub(super) fn identity(&self) -> RootIdentity {
        locked(&self.identity).now
    }

    /// From now on this directory is the known one.
    pub(super) fn accept(&self, known: RootIdentity) {
        locked(&self.identity).known = known;
    }

    /// Whether the known directory lies there. In another one the absence of a file does not prove that it was
    /// deleted: perhaps a disk is missing.
    pub(super) fn is_known(&self) -> bool {
        let identity = locked(&self.identity);
        identity.known.is_same(&identity.now)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl OpenRoot {
    /// Looks at a path without opening what lies there, and without following any link.
    pub(super) fn look(&self, path: &FilePath) -> Result<Look, Errno> {
        match self.open_at(path.relative(), OFlags::PATH) {
            Ok(fd) => look_at(fd.as_fd()),
            Err(error) if is_absence(error) => Ok(Look::NoFile),
            Err(error) => Err(error),
        }
    }

    /// Opens a regular file for reading.
    pub(super) fn file(&self, path: &FilePath) -> Result<OwnedFd, Errno> {
        self.open_at(path.relative(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Opens a directory for listing.
    pub(super) fn directory(&self, dir: &Dir) -> Result<OwnedFd, Errno> {
        self.open_at(dir.relative(), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The device of the nearest directory above `path` that exists.
    pub(super) fn nearest_device(&self, path: &FilePath) -> Result<u64, Errno> {
        let mut above = path.relative();
        while let Some(at) = above.iter().rposition(|byte| *byte == b'/') {
            above = above.get(..at).unwrap_or_default();
            match self.open_at(above, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => return Ok(device(&stat(fd.as_fd())?)),
                Err(error) if is_absence(error) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(self.dev)
    }

    fn open_at(&self, relative: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_beneath(self.fd.as_fd(), relative, flags)
    }
}

impl AsFd for OpenRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What an open descriptor is.
pub(super) fn look_at(fd: BorrowedFd<'_>) -> Result<Look, Errno> {
    Ok(as_look(&stat(fd)?))
}

/// How many names an open file has.
pub(super) fn links(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    Ok(stat(fd)?.stx_nlink)
}

/// What lies at `name` in an open directory, without following a link.
pub(super) fn look_in(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Look, Errno> {
    Ok(as_look(&statx(directory, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// Whether `name` in an open directory is itself a directory.
pub(super) fn is_directory_in(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory)
}

/// When an open directory was last changed, and when something in it was: nanoseconds since the epoch.
pub(super) fn times_of(fd: BorrowedFd<'_>) -> Result<(i64, i64), Errno> {
    let stat = stat(fd)?;
    Ok((nanoseconds(&stat.stx_ctime), nanoseconds(&stat.stx_mtime)))
}

/// The device of an open descriptor.
pub(super) fn device_of(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(device(&stat(fd)?))
}

/// The name of the file system, if changes made elsewhere raise no event on it and a lease proves nothing.
pub(super) fn blind_file_system(fd: BorrowedFd<'_>) -> Option<&'static str> {
    let magic = rustix::fs::fstatfs(fd).ok()?.f_type & 0xFFFF_FFFF;
    let name = match magic {
        0x6969 => "NFS",
        0xFE53_4D42 | 0xFF53_4D42 | 0x517B => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x00C3_6400 => "Ceph",
        0x794C_7630 => OVERLAY,
        0x5346_414F => "AFS",
        0x7375_7245 => "Coda",
        0x0BD0_0BD0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x7461_636F => "OCFS2",
        0x0116_1970 => "GFS2",
        _ => return None,
    };
    Some(name)
}

/// On it a file may lie on another device than its directory.
pub(super) const OVERLAY: &str = "overlay";

/// Which directory lies at a path.
pub(super) fn identify(path: &Path) -> Result<RootIdentity, Errno> {
    Ok(open(path)?.1)
}

fn open(path: &Path) -> Result<(OwnedFd, RootIdentity), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = stat(fd.as_fd())?;
    let file_system = rustix::fs::fstatvfs(&fd)?.f_fsid;
    let identity = RootIdentity { dev: device(&stat), inode: stat.stx_ino, birth_ns: birth_ns(&stat), file_system };
    Ok((fd, identity))
}

fn stat(fd: BorrowedFd<'_>) -> Result<Statx, Errno> {
    statx(fd, b"", AtFlags::EMPTY_PATH)
}

fn statx(fd: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<Statx, Errno> {
    rustix::fs::statx(fd, OsStr::from_bytes(name), flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn as_look(stat: &Statx) -> Look {
    if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::RegularFile {
        return Look::NoFile;
    }
    Look::File(Fingerprint {
        dev: device(stat),
        inode: stat.stx_ino,
        birth_ns: birth_ns(stat),
        size: stat.stx_size,
        mtime_ns: nanoseconds(&stat.stx_mtime),
        ctime_ns: nanoseconds(&stat.stx_ctime),
    })
}

fn device(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn birth_ns(stat: &Statx) -> Option<i64> {
    (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| nanoseconds(&stat.stx_btime))
}

/// Saturates in the years 1677 and 2262: still good to compare for equality.
fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}
