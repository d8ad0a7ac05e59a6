//! What is mounted below a root. Mounting on a watched directory raises no event, and hides all that lands there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};

const TABLE: &str = "/proc/self/mountinfo";

/// The mounts below a root. The kernel says when the table they are in has changed.
pub(super) struct Mounts {
    table: Option<File>,
    below: BTreeSet<Mount>,
}

/// The number of a mount, and where it lies, escaped as the kernel does it.
type Mount = (Vec<u8>, Vec<u8>);

impl Mounts {
    /// Without `/proc` nothing is heard of mounts; a rescan finds them.
    pub(super) fn new(root: &Path) -> Self {
        let table = File::open(TABLE).ok();
        Self { table, below: below(root) }
    }

    /// To wait for: ready when anything anywhere was mounted or unmounted.
    pub(super) fn changed(&self) -> Option<PollFd<'_>> {
        self.table.as_ref().map(|table| PollFd::new(table, PollFlags::PRI))
    }

    /// Whether that was below the root.
    pub(super) fn look(&mut self, root: &Path) -> bool {
        let now = below(root);
        let before = std::mem::replace(&mut self.below, now);
        before != self.below
    }
}

fn below(root: &Path) -> BTreeSet<Mount> {
    let (Ok(root), Ok(table)) = (fs::canonicalize(root), fs::read(TABLE)) else { return BTreeSet::new() };
    let mut prefix = escaped(root.as_os_str());
    prefix.push(b'/');
    parse(&table, &prefix)
}

/// Lines such as `36 35 98:0 /mnt1 /mnt2 rw,noatime ...`: the number comes first, the place fifth.
fn parse(table: &[u8], prefix: &[u8]) -> BTreeSet<Mount> {
    let lines = table.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let mut words = line.split(|byte| *byte == b' ');
            let (number, place) = (words.next()?, words.nth(3)?);
            place.starts_with(prefix).then(|| (number.to_vec(), place.to_vec()))
        })
        .collect()
}

fn escaped(path: &OsStr) -> Vec<u8> {
    let mut escaped = Vec::new();
    for byte in path.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            other => escaped.push(*other),
        }
    }
    escaped
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn only_what_lies_below_the_root_counts() {
        let table = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n21 20 0:5 / /srv/a\\040b rw - tmpfs t rw\n\
                      22 21 0:6 / /srv/a\\040b/disk rw - tmpfs t rw\n23 20 0:7 / /srv/other rw - tmpfs t rw\n";
        let mut prefix = escaped(OsStr::new("/srv/a b"));
        prefix.push(b'/');
        let found: Vec<_> = parse(table, &prefix).into_iter().collect();
        assert_eq!(found, [(b"22".to_vec(), b"/srv/a\\040b/disk".to_vec())]);
    }
}
