//! Opening what lies beneath a root, and nothing else: no `..`, no symbolic link on the way or at the end, no way out
//! even while directories are being swapped for links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use filebell_core::path::FilePath;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat, openat2, unlinkat};
use rustix::io::Errno;

/// How often an opening is repeated at once that the kernel could not finish because of a rename elsewhere.
const RACES_MAX: u32 = 64;

/// A directory that is held open, so that it stays the same one whatever happens to its name.
#[derive(Debug)]
pub struct Root(OwnedFd);

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

    /// Removes a file.
    pub fn remove_file(&self, path: &FilePath) -> io::Result<()> {
        let bytes = path.as_bytes();
        let cut = bytes.len().saturating_sub(path.name().len() + 1);
        let name = OsStr::from_bytes(path.name());
        match bytes.get(..cut).map(FilePath::from_bytes) {
            Some(Ok(parent)) => {
                let directory = self.open_at(&parent, OFlags::PATH | OFlags::DIRECTORY)?;
                Ok(unlinkat(directory, name, AtFlags::empty())?)
            }
            _ => Ok(unlinkat(&self.0, name, AtFlags::empty())?),
        }
    }

    fn open_at(&self, path: &FilePath, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(open_beneath(self.0.as_fd(), path.relative(), flags)?)
    }
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
}
