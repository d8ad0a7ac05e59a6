//! A directory below a root.

use std::fmt;
use std::sync::Arc;

use filebell_core::path::{FilePath, FilePathError};

/// A directory as the prefix of every path in it: `/` for the root, `/a/b/` below it.
///
/// With the slash at its end it orders among paths exactly where its files stand.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Dir(Arc<[u8]>);

impl Dir {
    pub(super) fn root() -> Self {
        Self(Arc::from(b"/".as_slice()))
    }

    /// The directory `name` in this one.
    pub(super) fn sub(&self, name: &[u8]) -> Self {
        Self([&*self.0, name, b"/"].concat().into())
    }

    /// The file `name` in this directory.
    pub(super) fn file(&self, name: &[u8]) -> Result<FilePath, FilePathError> {
        FilePath::from_bytes(&[&*self.0, name].concat())
    }

    /// The directory itself as the journal names it; `None` for the root.
    pub(super) fn as_path(&self) -> Option<FilePath> {
        FilePath::from_bytes(self.0.strip_suffix(b"/")?).ok()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What one opens beneath the root.
    pub(super) fn relative(&self) -> &[u8] {
        match self.0.strip_prefix(b"/").and_then(|rest| rest.strip_suffix(b"/")) {
            Some(relative) => relative,
            None => b".",
        }
    }

    /// Whether a path, or a directory, lies in this directory or is it.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        path.starts_with(&self.0)
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
