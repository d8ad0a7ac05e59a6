//! The directory that an account's tree hangs on: which one it is, and what is known of it from before.

use crate::path::FilePath;

/// Which directory a root is, as far as the file system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootIdentity {
    /// Device number. It may be another one after the system was started anew.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Time of birth, nanoseconds since the epoch; `None` where the file system keeps none.
    pub birth_ns: Option<i64>,
    /// Id of the file system, statvfs(3); zero where it has none.
    pub file_system: u64,
}

impl RootIdentity {
    /// Whether both are the same directory: the same inode in the same life, on the same device or file system.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_place = self.dev == other.dev || self.file_system != 0 && self.file_system == other.file_system;
        same_place && (self.inode, self.birth_ns) == (other.inode, other.birth_ns)
    }
}

/// What is known of a root when watching it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRoot {
    /// Which directory it is. What lies at its path may be another one.
    pub identity: RootIdentity,
    /// How many files are known in it.
    pub files: u64,
    /// Its first scan was begun before and has not come to its end.
    pub interrupted: bool,
    /// How far that scan has come, in byte order of the paths: what it found up to here is known.
    pub reached: Option<FilePath>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_known_by_its_inode_on_its_device_or_file_system() {
        let root = RootIdentity { dev: 1, inode: 2, birth_ns: Some(3), file_system: 4 };
        for (other, same) in [
            (root, true),
            (RootIdentity { dev: 9, ..root }, true),
            (RootIdentity { file_system: 9, ..root }, true),
            (RootIdentity { dev: 9, file_system: 9, ..root }, false),
            (RootIdentity { inode: 9, ..root }, false),
            (RootIdentity { birth_ns: Some(9), ..root }, false),
            (RootIdentity { birth_ns: None, ..root }, false),
        ] {
            assert_eq!(root.is_same(&other), same, "{other:?}");
        }
        let nameless = RootIdentity { file_system: 0, ..root };
        assert!(!nameless.is_same(&RootIdentity { dev: 9, ..nameless }), "no id proves nothing");
    }
}
