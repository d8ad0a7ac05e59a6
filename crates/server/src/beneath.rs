//! Opening what lies beneath a root, and nothing else: no `..`, no symbolic link on the way or at the end, no way out
//! even while directories are being swapped for links.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use filebell_core::path::FilePath;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};

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

    /// The names of the directories in it, but hidden ones.
    pub fn directories(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(b".") {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let stat = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                }
                _ => false,
            };
            if is_directory {
                names.push(name.to_bytes().to_vec());
            }
        }
        names.sort();
        Ok(names)
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
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let relative = OsStr::from_bytes(path.relative());
        Ok(openat2(&self.0, relative, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
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
        assert_eq!(root.directories().unwrap(), [b"in".to_vec()]);
        assert!(root.remove_file(&path("/out/hostname")).is_err());
        root.remove_file(&path("/in/a")).unwrap();
        assert!(!dir.path().join("in/a").exists());
    }
}
