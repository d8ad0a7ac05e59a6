//! A fact of the journal, and how a claim becomes one.

use crate::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version, word};
use crate::id::{AccountId, EventId, FileId, Seq};
use crate::path::FilePath;
use crate::time::TimestampMs;

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// A path that held no file holds one.
    Created,
    /// A file has other content than before.
    Updated,
    /// A file lies under another path, with the same content.
    Moved,
    /// A file is gone.
    Deleted,
}

word!(EventKind { Created => "created", Updated => "updated", Moved => "moved", Deleted => "deleted" });

/// An arrival that the journal has accepted and numbered. Never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number.
    pub seq: Seq,
    /// Its id to the outside.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// Whose file.
    pub account: AccountId,
    /// Which file.
    pub file: FileId,
    /// Where it lies (lay, if deleted).
    pub path: FilePath,
    /// Where it lay before, if it moved.
    pub previous_path: Option<FilePath>,
    /// The content; `None` for a deleted file.
    pub version: Option<Version>,
    /// The file's own time of last change, milliseconds since the epoch; `None` for a deleted file.
    pub mtime_ms: Option<i64>,
    /// Who wrote it.
    pub user: String,
    /// Who noticed.
    pub source: SourceKind,
    /// How it is known to be whole; `None` for a deleted file.
    pub completeness: Option<Completeness>,
    /// When the journal accepted it.
    pub recorded_at: TimestampMs,
}

/// The journal's row of a file: what it last said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Which file.
    pub id: FileId,
    /// Whose file.
    pub account: AccountId,
    /// Where it lies.
    pub path: FilePath,
    /// As it stood when it was last read.
    pub fingerprint: Fingerprint,
    /// Its content; `None` for a file that was in a new root before and has not been read since.
    pub version: Option<Version>,
    /// When its newest content (or its newest place) was recorded.
    pub arrived_at: TimestampMs,
    /// Who wrote that.
    pub user: String,
}

/// What the journal does with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to keep, nothing to tell.
    Nothing,
    /// Keep the new fingerprint of a known file, tell nobody: touch, chmod, rescan.
    Refresh,
    /// Keep a new file, tell nobody: the content a new root came with.
    Baseline,
    /// Keep it and tell it.
    News(EventKind),
}

/// Judges a claim against the row stored at its path, or, where there is none, the row stored at `moved_from`.
///
/// The comparison is with the stored row, not with history: contents A, B, A are three arrivals.
///
/// A row without a version is of a file that was never read. Another inode, size or time of last change is news then,
/// also if it was only touched: that the content is the old one cannot be proved, and nothing may be missed. So is
/// writing that was seen, whatever the times were set back to.
pub fn judge(arrival: &Arrival, at_path: Option<&StoredFile>, at_moved_from: Option<&StoredFile>) -> Verdict {
    match (&arrival.claim, at_path.or(at_moved_from)) {
        (Claim::Gone, _) => match at_path {
            Some(_) => Verdict::News(EventKind::Deleted),
            None => Verdict::Nothing,
        },
        (Claim::Present(present), None) => match present.announce {
            Announce::News | Announce::Written => Verdict::News(EventKind::Created),
            Announce::Baseline => Verdict::Baseline,
        },
        (Claim::Present(present), Some(stored)) => {
            if !same_content(stored, present) {
                Verdict::News(EventKind::Updated)
            } else if stored.path != arrival.path {
                Verdict::News(EventKind::Moved)
            } else if stored.fingerprint == present.fingerprint && stored.version.is_some() {
                Verdict::Nothing
            } else {
                Verdict::Refresh
            }
        }
    }
}

fn same_content(stored: &StoredFile, present: &Present) -> bool {
    match &stored.version {
        Some(version) => (version.sha256, version.size) == (present.version.sha256, present.version.size),
        None => {
            let (old, new) = (&stored.fingerprint, &present.fingerprint);
            present.announce != Announce::Written
                && old.same_inode(new)
                && (old.size, old.mtime_ns) == (new.size, new.mtime_ns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINT: Fingerprint = Fingerprint { dev: 1, inode: 2, birth_ns: Some(3), size: 1, mtime_ns: 4, ctime_ns: 5 };

    fn version(byte: u8) -> Version {
        Version { sha256: [byte; 32], md5: [byte; 16], size: 1 }
    }

    fn path(text: &str) -> FilePath {
        FilePath::from_bytes(text.as_bytes()).unwrap()
    }

    fn stored(at: &str, content: u8) -> StoredFile {
        StoredFile {
            id: FileId::new(1),
            account: AccountId::new(1),
            path: path(at),
            fingerprint: PRINT,
            version: Some(version(content)),
            arrived_at: TimestampMs::ZERO,
            user: "alice".into(),
        }
    }

    fn seen(at: &str, content: u8, announce: Announce) -> Arrival {
        let present = Present {
            fingerprint: Fingerprint { ctime_ns: 6, ..PRINT },
            version: version(content),
            completeness: Completeness::Leased,
            moved_from: None,
            announce,
        };
        Arrival {
            account: AccountId::new(1),
            path: path(at),
            claim: Claim::Present(present),
            source: SourceKind::Folder,
            user: "alice".into(),
        }
    }

    #[test]
    fn content_decides_what_is_news() {
        let a = stored("/a", 1);
        assert_eq!(judge(&seen("/a", 1, Announce::News), None, None), Verdict::News(EventKind::Created));
        assert_eq!(judge(&seen("/a", 1, Announce::News), Some(&a), None), Verdict::Refresh);
        assert_eq!(judge(&seen("/a", 2, Announce::News), Some(&a), None), Verdict::News(EventKind::Updated));
        assert_eq!(judge(&seen("/b", 1, Announce::News), None, Some(&a)), Verdict::News(EventKind::Moved));
        assert_eq!(judge(&seen("/b", 2, Announce::News), None, Some(&a)), Verdict::News(EventKind::Updated));
        assert_eq!(judge(&seen("/a", 1, Announce::Baseline), None, None), Verdict::Baseline);
        assert_eq!(
            judge(&seen("/a", 2, Announce::Baseline), Some(&a), None),
            Verdict::News(EventKind::Updated),
            "a change against a stored row is news however it was found"
        );
    }

    #[test]
    fn a_file_that_was_never_read_is_the_same_as_long_as_inode_size_and_mtime_are() {
        let unread = StoredFile { version: None, ..stored("/a", 1) };
        let judged = |at: &str, print: Fingerprint| {
            let mut arrival = seen(at, 9, Announce::News);
            if let Claim::Present(present) = &mut arrival.claim {
                present.fingerprint = print;
            }
            let row = Some(&unread);
            if at == "/a" { judge(&arrival, row, None) } else { judge(&arrival, None, row) }
        };
        let changed = Fingerprint { ctime_ns: 6, ..PRINT };
        assert_eq!(judged("/a", PRINT), Verdict::Refresh, "its version is learned");
        assert_eq!(judged("/a", changed), Verdict::Refresh);
        assert_eq!(judged("/b", changed), Verdict::News(EventKind::Moved));
        let written = seen("/a", 1, Announce::Written);
        assert_eq!(judge(&written, Some(&unread), None), Verdict::News(EventKind::Updated));
        assert_eq!(judge(&written, Some(&stored("/a", 1)), None), Verdict::Refresh, "what was read is compared");
        for other in [
            Fingerprint { mtime_ns: 7, ..changed },
            Fingerprint { size: 7, ..changed },
            Fingerprint { inode: 7, ..changed },
            Fingerprint { birth_ns: Some(7), ..changed },
        ] {
            assert_eq!(judged("/a", other), Verdict::News(EventKind::Updated), "{other:?}");
        }
    }

    #[test]
    fn a_deletion_needs_a_row() {
        let gone = Arrival { claim: Claim::Gone, ..seen("/a", 1, Announce::News) };
        assert_eq!(judge(&gone, Some(&stored("/a", 1)), None), Verdict::News(EventKind::Deleted));
        assert_eq!(judge(&gone, None, None), Verdict::Nothing);
    }
}
