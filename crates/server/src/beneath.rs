//! Opening what lies beneath a root, and nothing else: no `..`, no symbolic link on the way or at the end, no way out
//! even while directories are being swapped for links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use filebell_core::arrival::Fingerprint;
use filebell_core::path::FilePath;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, Timespec, Timestamps,
    UTIME_OMIT, fstatvfs, fsync, linkat, mkdirat, openat, openat2, renameat, statx, unlinkat, utimensat,
};
use rustix::io::Errno;

/// What our own names in a tree begin with; they are shown to nobody, and never told.
pub const OWN_PREFIX: &[u8] = b".filebell-";

/// How often an opening is repeated at once that the kernel could not finish because of a rename elsewhere.
const RACES_MAX: u32 = 64;

/// A directory that is held open, so that it stays the same one whatever happens to its name.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// What lies somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub kind: Kind,
    /// How it stands.
    pub print: Fingerprint,
}

/// What something in a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link, a device, a FIFO, a socket: nothing that is shown.
    Other,
}

/// A root in which filebell's own keys would lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "holds the data directory {}, where filebell keeps its keys; give one of them a place outside the other \
     (data_dir in the configuration, or --data-dir)", .0.display()
)]
pub struct HoldsKeys(PathBuf);

/// A root must not be the data directory, nor lie above it, by whatever name. Of a data directory that is not made yet
/// as much counts as is there; a root that is not there holds nothing.
pub fn keep_apart(root: &Path, data_dir: &Path) -> Result<(), HoldsKeys> {
    let identity = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let (Ok(root), Ok(inner)) = (identity(root), std::path::absolute(data_dir)) else { return Ok(()) };
    let there = inner.ancestors().find_map(|above| std::fs::canonicalize(above).ok());
    let holds = there.is_some_and(|there| there.ancestors().any(|above| identity(above).is_ok_and(|one| one == root)));
    if holds { Err(HoldsKeys(data_dir.to_owned())) } else { Ok(()) }
}

impl Root {
    /// Opens the directory itself; a link to a directory is followed, as the operator wrote it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens a regular file for reading. Anything else is refused without being opened for real: a FIFO does not
    /// block, a device does not act.
    pub fn open_file(&self, path: &FilePath) -> io::Result<File> {
        let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let file = File::from(file);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
    }

    /// What lies at a path; the root itself where there is none.
    pub fn look(&self, path: Option<&FilePath>) -> io::Result<Look> {
        match path {
            Some(path) => look_at(self.open_at(path, OFlags::PATH)?.as_fd()),
            None => look_at(self.0.as_fd()),
        }
    }

    /// The names in a directory, in byte order, without our own.
    pub fn list(&self, directory: Option<&FilePath>) -> io::Result<Vec<Vec<u8>>> {
        let directory = self.directory(directory)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(&*name, b"." | b"..") && !name.starts_with(OWN_PREFIX) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// What lies in a directory under each of these names; `None` where nothing does any more.
    pub fn look_in(&self, directory: Option<&FilePath>, names: &[Vec<u8>]) -> io::Result<Vec<Option<Look>>> {
        let directory = self.directory(directory)?;
        let look = |name: &Vec<u8>| {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match statx(&directory, OsStr::from_bytes(name), flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME) {
                Ok(stat) => Ok(Some(as_look(&stat))),
                Err(Errno::NOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        names.iter().map(look).collect()
    }

    /// Removes a file.
    pub fn remove_file(&self, path: &FilePath) -> io::Result<()> {
        self.in_parent(path, |parent, name| unlinkat(parent, name, AtFlags::empty()))
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, path: &FilePath) -> io::Result<()> {
        self.in_parent(path, |parent, name| unlinkat(parent, name, AtFlags::REMOVEDIR))
    }

    /// Makes a directory.
    pub fn make_directory(&self, path: &FilePath) -> io::Result<()> {
        self.in_parent(path, |parent, name| mkdirat(parent, name, Mode::from_raw_mode(0o777)))
    }

    /// Gives what lies at `from` the name `to`; a file that lay there goes.
    pub fn rename(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        renameat(&from_parent, from_name, &to_parent, to_name)?;
        fsync(&from_parent)?;
        Ok(fsync(&to_parent)?)
    }

    /// Begins a file that will lie at `path` once it is whole, and until then is nowhere. `tag` is not used twice.
    pub fn stage(&self, path: &FilePath, tag: &str) -> io::Result<Staged> {
        let (directory, name) = self.parent(path)?;
        let hidden = [OWN_PREFIX, b"upload-", tag.as_bytes()].concat();
        let mode = Mode::from_raw_mode(0o666);
        let nameless = openat(&directory, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode);
        let (file, named) = match nameless {
            Ok(file) => (file, false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                (openat(&directory, OsStr::from_bytes(&hidden), flags, mode)?, true)
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Staged { directory, file: file.into(), name: name.as_bytes().to_vec(), hidden, named })
    }

    /// Sets when a file or directory was last changed.
    pub fn set_mtime(&self, path: &FilePath, mtime: Timespec) -> io::Result<()> {
        let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: mtime };
        self.in_parent(path, |parent, name| utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// How many bytes the disk still takes from us.
    pub fn available_bytes(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.0)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn in_parent(
        &self,
        path: &FilePath,
        act: impl FnOnce(&OwnedFd, &OsStr) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        act(&parent, name)?;
        Ok(fsync(&parent)?)
    }

    /// The directory that a path lies in, opened, and its name there.
    fn parent<'a>(&self, path: &'a FilePath) -> io::Result<(OwnedFd, &'a OsStr)> {
        Ok((self.directory(path.parent().as_ref())?, OsStr::from_bytes(path.name())))
    }

    fn directory(&self, path: Option<&FilePath>) -> io::Result<OwnedFd> {
        match path {
            Some(path) => self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY),
            None => Ok(openat(&self.0, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?),
        }
    }

    fn open_at(&self, path: &FilePath, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.0.as_fd(), path.relative(), flags)?)
    }
}

/// A file that is being written and has no name yet, or a hidden one. Dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Staged {
    directory: OwnedFd,
    /// What is written to.
    pub file: File,
    name: Vec<u8>,
    hidden: Vec<u8>,
    /// Whether it lies under its hidden name.
    named: bool,
}

impl Staged {
    /// What lies now where it will lie.
    pub fn replaces(&self) -> io::Result<Option<Look>> {
        let (name, flags) = (OsStr::from_bytes(&self.name), AtFlags::SYMLINK_NOFOLLOW);
        match statx(&self.directory, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME) {
            Ok(stat) => Ok(Some(as_look(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Syncs it and gives it its name, in place of any file that has it. Answers how it stands then.
    pub fn place(mut self) -> io::Result<Look> {
        self.file.sync_all()?;
        let hidden = OsStr::from_bytes(&self.hidden).to_owned();
        if !self.named {
            // The only way from a nameless file to a name that needs no privilege.
            let itself = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            linkat(CWD, itself.as_str(), &self.directory, &hidden, AtFlags::SYMLINK_FOLLOW)?;
            self.named = true;
        }
        renameat(&self.directory, &hidden, &self.directory, OsStr::from_bytes(&self.name))?;
        self.named = false;
        fsync(&self.directory)?;
        look_at(self.file.as_fd())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.named {
            // Nothing more can be done about it; the name is ours, and shown to nobody.
            let _ = unlinkat(&self.directory, OsStr::from_bytes(&self.hidden), AtFlags::empty());
        }
    }
}

fn look_at(fd: BorrowedFd<'_>) -> io::Result<Look> {
    Ok(as_look(&statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?))
}

fn as_look(stat: &Statx) -> Look {
    let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let print = Fingerprint {
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        inode: stat.stx_ino,
        birth_ns: has_birth.then(|| nanoseconds(&stat.stx_btime)),
        size: stat.stx_size,
        mtime_ns: nanoseconds(&stat.stx_mtime),
        ctime_ns: nanoseconds(&stat.stx_ctime),
    };
    Look { kind, print }
}

/// Saturates in the years 1677 and 2262: still good to compare for equality.
fn nanoseconds(time: &StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
}

/// Opens what lies at a relative path beneath an open directory.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, relative: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = || openat2(root, OsStr::from_bytes(relative), flags, Mode::empty(), resolve);
    for _ in 0..RACES_MAX {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => (),
            answer => return answer,
        }
    }
    open()
}

/// Whether an error of opening says that no file of ours lies at the path: nothing, or something that is reached
/// only through a link, or no regular file.
pub(crate) fn is_absence(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FilePath {
        FilePath::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        std::fs::write(dir.path().join("in/a"), "a").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        std::os::unix::fs::symlink("a", dir.path().join("in/link")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.open_file(&path("/in/a")).is_ok());
        for wrong in ["/out/hostname", "/in/link", "/in", "/none"] {
            assert!(root.open_file(&path(wrong)).is_err(), "{wrong}");
        }
        assert!(root.remove_file(&path("/out/hostname")).is_err());
        root.remove_file(&path("/in/a")).unwrap();
        assert!(!dir.path().join("in/a").exists());
    }

    #[test]
    fn a_root_that_holds_the_data_directory_is_known_by_any_name() {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("root"), dir.path().join("root/a/data"));
        std::fs::create_dir_all(&data).unwrap();
        std::os::unix::fs::symlink(&data, dir.path().join("link")).unwrap();
        for within in [&root, &data, &data.join("not/there/yet"), &dir.path().join("link")] {
            assert_eq!(keep_apart(&root, within), Err(HoldsKeys(within.clone())));
        }
        for beside in [dir.path(), &dir.path().join("root-not-there"), Path::new("/")] {
            assert_eq!(keep_apart(&root, beside), Ok(()));
        }
        assert_eq!(keep_apart(&dir.path().join("none"), &data), Ok(()));
    }

    #[test]
    fn a_staged_file_is_nowhere_until_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "old").unwrap();
        let root = Root::open(dir.path()).unwrap();
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let mut staged = root.stage(&path("/a"), "1").unwrap();
        io::Write::write_all(&mut staged.file, b"new").unwrap();
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"old");
        drop(staged);
        assert_eq!(names(), 1);
        let mut staged = root.stage(&path("/a"), "2").unwrap();
        io::Write::write_all(&mut staged.file, b"new").unwrap();
        let placed = staged.place().unwrap();
        assert_eq!((std::fs::read(dir.path().join("a")).unwrap().as_slice(), names()), (b"new".as_slice(), 1));
        assert_eq!(placed, root.look(Some(&path("/a"))).unwrap());
        assert!(root.stage(&path("/none/a"), "3").is_err());
    }
}
