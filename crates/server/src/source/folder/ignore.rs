//! Names that are nobody's business: what writers call a file until it is whole.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use filebell_core::filter::{FilterError, globs};
use filebell_core::path::FilePath;
use globset::GlobSet;

use crate::beneath::OWN_PREFIX;

/// Which names are left out: names of our own making always, whatever is configured.
///
/// A pattern is compared with a file's last name alone. A directory is left out, with all in it, if a pattern that
/// begins with a dot matches its name: `.*` hides `.git/`, but `*.tmp` does not hide `inbox.tmp/`.
#[derive(Debug, Clone)]
pub struct Ignore {
    files: GlobSet,
    directories: GlobSet,
    patterns: Vec<String>,
}

impl Ignore {
    /// What is ignored unless something else is configured.
    ///
    /// `.*` covers what rsync (`.name.XXXXXX`), Syncthing, NFS, FUSE and the macOS Finder leave behind.
    pub const DEFAULT: [&'static str; 6] = ["*.part", "*.tmp", "*.filepart", "*.crdownload", ".*", "~$*"];

    /// Reads the patterns.
    pub fn new(patterns: &[String]) -> Result<Self, FilterError> {
        let dotted: Vec<String> = patterns.iter().filter(|pattern| pattern.starts_with('.')).cloned().collect();
        Ok(Self { files: globs(patterns)?, directories: globs(&dotted)?, patterns: patterns.to_vec() })
    }

    /// The pattern by which a path is left out.
    pub fn rule(&self, path: &FilePath) -> Option<String> {
        if !self.path(path) {
            return None;
        }
        let alone = |pattern: &&String| Self::new(std::slice::from_ref(*pattern)).is_ok_and(|one| one.path(path));
        let pattern = self.patterns.iter().find(alone);
        // What no pattern of the operator's leaves out is of our own making.
        Some(pattern.cloned().unwrap_or_else(|| format!("{}*", String::from_utf8_lossy(OWN_PREFIX))))
    }

    /// Whether a file of this name is left out.
    pub(super) fn file(&self, name: &[u8]) -> bool {
        name.starts_with(OWN_PREFIX) || self.files.is_match(as_path(name))
    }

    /// Whether a directory of this name is left out.
    pub(super) fn directory(&self, name: &[u8]) -> bool {
        name.starts_with(OWN_PREFIX) || self.directories.is_match(as_path(name))
    }

    /// Whether a path is left out for its own name or for that of a directory above it.
    pub fn path(&self, path: &FilePath) -> bool {
        let mut names = path.relative().rsplit(|byte| *byte == b'/');
        names.next().is_some_and(|name| self.file(name)) || names.any(|name| self.directory(name))
    }
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_way_to_being_whole_are_left_out() {
        let ignore = Ignore::new(&Ignore::DEFAULT.map(str::to_owned)).unwrap();
        let hides = |path: &str| ignore.path(&FilePath::from_bytes(path.as_bytes()).unwrap());
        for hidden in [
            "/a.part",
            "/x/a.tmp",
            "/a.filepart",
            "/.a.csv.Xy12ab",
            "/~$a.docx",
            "/._a",
            "/.DS_Store",
            "/.nfs0001",
            "/a.csv.ocTransferId12.part",
            "/.git/config",
            "/.filebell-probe-1",
        ] {
            assert!(hides(hidden), "{hidden}");
        }
        for told in ["/a.csv", "/x.tmp/a.csv", "/a.part.csv", "/a/b/c"] {
            assert!(!hides(told), "{told}");
        }
    }

    #[test]
    fn without_patterns_only_our_own_names_are_left_out() {
        let ignore = Ignore::new(&[]).unwrap();
        assert!(!ignore.file(b".hidden") && !ignore.directory(b".git") && ignore.file(b".filebell-x"));
    }
}
