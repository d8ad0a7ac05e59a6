//! What a source says it saw: a claim, not yet a fact.

use std::fmt;

use crate::id::AccountId;
use crate::path::FilePath;

/// The place a file came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A watched directory tree.
    Folder,
    /// An upload or a delete over HTTP.
    Upload,
    /// Announced by hand.
    Emit,
}

/// How it is known that writing had ended when the content was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Completeness {
    /// A read lease was granted: nobody had the file open for writing.
    Leased,
    /// filebell itself wrote, synced and committed the file.
    Committed,
    /// The file was renamed to its final name by its writer.
    Renamed,
    /// Size and times stood still for the configured time; no stronger proof was to be had.
    QuietPeriod,
    /// It is not: its writer was killed, and nobody has gone on with it for the configured time.
    Orphaned,
}

macro_rules! word {
    ($type:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $type {
            /// The word for it in JSON, SQL and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $type {
            type Err = $crate::arrival::UnknownWord;
            fn from_str(text: &str) -> Result<Self, $crate::arrival::UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err($crate::arrival::UnknownWord::new(text, &[$($text),+])),
                }
            }
        }
    };
}
pub(crate) use word;

/// The text is none of the words that are known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of {}", .known.join(", "))]
pub struct UnknownWord {
    text: String,
    known: &'static [&'static str],
}

impl UnknownWord {
    pub(crate) fn new(text: &str, known: &'static [&'static str]) -> Self {
        Self { text: text.to_owned(), known }
    }
}

word!(SourceKind { Folder => "folder", Upload => "upload", Emit => "emit" });
word!(Completeness {
    Leased => "leased",
    Committed => "committed",
    Renamed => "renamed",
    QuietPeriod => "quiet-period",
    Orphaned => "orphaned",
});

/// What the file system knows of a file without reading it. Says whether to look again, never what is in it.
///
/// Compared for equality only: times may go back (`cp -p`, `rsync -t`), inode numbers are recycled at once on ext4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub inode: u64,
    /// Time of birth, nanoseconds since the epoch; `None` where the file system keeps none.
    pub birth_ns: Option<i64>,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change of content, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Time of the last change of content or attributes, nanoseconds since the epoch.
    pub ctime_ns: i64,
}

impl Fingerprint {
    /// Whether both are of the same inode in the same life.
    pub fn same_inode(&self, other: &Self) -> bool {
        (self.dev, self.inode, self.birth_ns) == (other.dev, other.inode, other.birth_ns)
    }

    /// The time of the last change of content in milliseconds since the epoch.
    pub const fn mtime_ms(&self) -> i64 {
        self.mtime_ns.div_euclid(1_000_000)
    }
}

/// A file's content: two files have the same content if and only if their versions are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// SHA-256 of all bytes.
    pub sha256: [u8; 32],
    /// MD5 of all bytes: what the Sage X3 listing calls the checksum. Never used to compare.
    pub md5: [u8; 16],
    /// Size in bytes.
    pub size: u64,
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({}, {} bytes)", hex::encode(self.sha256), self.size)
    }
}

/// One claim of a source about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whose file.
    pub account: AccountId,
    /// Where it lies now.
    pub path: FilePath,
    /// What was seen there.
    pub claim: Claim,
    /// Who noticed.
    pub source: SourceKind,
    /// Who wrote it: the uploader's name, or the account's for a watched folder.
    pub user: String,
}

/// What a source saw at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A whole file.
    Present(Present),
    /// Proof that no file is there any more.
    Gone,
}

/// A whole file as a source read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// As it stood before and after reading.
    pub fingerprint: Fingerprint,
    /// What was read.
    pub version: Version,
    /// How it is known to be whole.
    pub completeness: Completeness,
    /// Where the same inode lay before, if the source saw it move and proved the old name gone.
    pub moved_from: Option<FilePath>,
    /// Whether anybody is to be told, or only the row is to be kept: a new root's old content is not news.
    pub announce: Announce,
}

/// Whether a claim may become an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Announce {
    /// Tell it if it is news.
    News,
    /// Tell it if it is news, and it was seen being written: of a file that was never read before, that is news.
    Written,
    /// It was there before the root was watched: remember it, tell nobody.
    Baseline,
}
