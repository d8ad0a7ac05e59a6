//! Where a file lies in its account: bytes, rooted at `/`, that can never climb out.

use std::borrow::Cow;
use std::fmt;

/// The path of a file below its account's root: starts with `/`, has no empty, `.` or `..` segment and no NUL.
///
/// Names are bytes, as the file system keeps them. [`Self::to_text`] shows them with U+FFFD where they are not
/// UTF-8; [`Self::as_bytes`] is exact. Paths order byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(Box<[u8]>);

/// Why some bytes are not a path of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilePathError {
    /// It is empty, or does not start with `/`.
    #[error("a path starts with `/`")]
    NotRooted,
    /// It has an empty, `.` or `..` segment.
    #[error("a path has no empty, `.` or `..` part")]
    BadSegment,
    /// It holds a NUL byte.
    #[error("a path holds no NUL byte")]
    Nul,
    /// It is longer than [`FilePath::BYTES_MAX`], or one of its names is longer than [`FilePath::NAME_BYTES_MAX`].
    #[error("a path has at most 4096 bytes, and each of its names at most 255")]
    TooLong,
}

impl FilePath {
    /// The longest path accepted, in bytes (PATH_MAX on Linux).
    pub const BYTES_MAX: usize = 4096;
    /// The longest single name accepted, in bytes (NAME_MAX on Linux).
    pub const NAME_BYTES_MAX: usize = 255;

    /// Reads a rooted path.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FilePathError> {
        let below = bytes.strip_prefix(b"/").ok_or(FilePathError::NotRooted)?;
        if bytes.contains(&0) {
            return Err(FilePathError::Nul);
        }
        if bytes.len() > Self::BYTES_MAX || below.split(|b| *b == b'/').any(|name| name.len() > Self::NAME_BYTES_MAX) {
            return Err(FilePathError::TooLong);
        }
        if below.split(|b| *b == b'/').any(|name| matches!(name, b"" | b"." | b"..")) {
            return Err(FilePathError::BadSegment);
        }
        Ok(Self(bytes.into()))
    }

    /// The path of `name` in the top-level directory `folder`; `name` may have several segments.
    pub fn in_folder(folder: &[u8], name: &[u8]) -> Result<Self, FilePathError> {
        if folder.contains(&b'/') {
            return Err(FilePathError::BadSegment);
        }
        Self::from_bytes(&[b"/", folder, b"/", name].concat())
    }

    /// The path of `name` directly below this one.
    pub fn child(&self, name: &[u8]) -> Result<Self, FilePathError> {
        Self::from_bytes(&[&*self.0, b"/", name].concat())
    }

    /// All of it, with the leading `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Without the leading `/`: what one opens beneath the account's root.
    pub fn relative(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The last segment.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or_default()
    }

    /// The directory it lies in; `None` directly in the root.
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.len().saturating_sub(self.name().len() + 1);
        self.0.get(..cut).filter(|parent| !parent.is_empty()).map(|parent| Self(parent.into()))
    }

    /// The top-level directory the file lies in; `None` for a file directly in the root.
    pub fn folder(&self) -> Option<&[u8]> {
        let relative = self.relative();
        relative.iter().position(|b| *b == b'/').and_then(|at| relative.get(..at))
    }

    /// The path below [`Self::folder`]; `None` for a file directly in the root.
    pub fn below_folder(&self) -> Option<&[u8]> {
        let relative = self.relative();
        relative.iter().position(|b| *b == b'/').and_then(|at| relative.get(at + 1..))
    }

    /// Whether it lies somewhere below a directory.
    pub fn is_below(&self, directory: &Self) -> bool {
        self.0.strip_prefix(&*directory.0).is_some_and(|rest| rest.starts_with(b"/"))
    }

    /// For people and JSON: U+FFFD in place of what is not UTF-8.
    pub fn to_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// The path as text, if it is UTF-8.
    pub fn as_utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_climb_out() {
        for wrong in ["", "a", "/", "//a", "/a/", "/a//b", "/.", "/..", "/a/../b", "/a/./b", "/a\0"] {
            assert!(FilePath::from_bytes(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(FilePath::from_bytes(&[b"/".as_slice(), &[b'x'; 256]].concat()).is_err());
        assert!(FilePath::from_bytes(&[b"/".as_slice(), &[b'x'; 255]].concat()).is_ok());
        assert!(FilePath::in_folder(b"a/b", b"c").is_err());
        assert!(FilePath::in_folder(b"..", b"c").is_err());
    }

    #[test]
    fn the_folder_is_the_first_directory() -> Result<(), FilePathError> {
        let path = FilePath::from_bytes(b"/SEED/sub/result.txt")?;
        assert_eq!(path.folder(), Some(b"SEED".as_slice()));
        assert_eq!(path.below_folder(), Some(b"sub/result.txt".as_slice()));
        assert_eq!(path.name(), b"result.txt");
        assert_eq!(FilePath::from_bytes(b"/a.txt")?.folder(), None);
        assert_eq!(path.parent(), Some(FilePath::from_bytes(b"/SEED/sub")?));
        assert_eq!(FilePath::from_bytes(b"/a.txt")?.parent(), None);
        assert!(path.is_below(&FilePath::from_bytes(b"/SEED")?));
        assert!(!path.is_below(&path) && !path.is_below(&FilePath::from_bytes(b"/SEE")?));
        Ok(())
    }
}
