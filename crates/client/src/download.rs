//! A file, whole or not at all: fetched under a temporary name, checked, synced, then renamed into place.
//!
//! A download that was cut goes on where it stopped, if the server still has the same version (by its strong ETag).
//! Nothing half-written ever stands under the final name, and no name leads out of the directory.

use std::ffi::OsStr;
use std::fs::{File as StdFile, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use md5::Md5;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use url::Url;

use crate::pull::{Http, PullError, refusal};

/// How the name of a file ends that is being downloaded.
pub const PART_SUFFIX: &str = ".filebell-part";
/// How the name of the file ends that says which version is being downloaded.
const ETAG_SUFFIX: &str = ".filebell-etag";
/// The longest name that Linux allows, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// How much of a file that is already there is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Where a file is.
#[derive(Debug, Clone)]
pub struct Remote {
    url: Url,
    authorization: Option<HeaderValue>,
    redirects_max: u8,
}

impl Remote {
    /// At this URL, without credentials, without following redirects.
    pub const fn new(url: Url) -> Self {
        Self { url, authorization: None, redirects_max: 0 }
    }

    /// With this value of `Authorization`. It is sent to this URL only, never to where that redirects.
    #[must_use]
    pub fn with_authorization(mut self, authorization: HeaderValue) -> Self {
        self.authorization = Some(authorization);
        self
    }

    /// Following so many redirects, none of them from `https:` to `http:`.
    #[must_use]
    pub const fn following_redirects(mut self, redirects_max: u8) -> Self {
        self.redirects_max = redirects_max;
        self
    }

    /// Asks for the bytes, with these headers; the answer may have any status but a redirect that is followed.
    async fn open(&self, http: &Http, mut headers: HeaderMap) -> Result<Response<Incoming>, PullError> {
        let mut url = self.url.clone();
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        for _ in 0..self.redirects_max {
            let response = http.send(Method::GET, &url, &headers).await?;
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let (301 | 302 | 303 | 307 | 308, Some(location)) = (response.status().as_u16(), location) else {
                return Ok(response);
            };
            let next = url
                .join(location)
                .ok()
                .filter(|next| next.scheme() == "https" || (next.scheme() == "http" && url.scheme() == "http"));
            // The link itself may hold a signature and is not shown.
            url = next.ok_or_else(|| PullError::Url("the redirect of the server".to_owned()))?;
            headers.remove(AUTHORIZATION);
        }
        http.send(Method::GET, &url, &headers).await
    }
}

/// What is known of the content before it is fetched. What is known is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its SHA-256.
    pub sha256: Option<[u8; 32]>,
    /// Its MD5.
    pub md5: Option<[u8; 16]>,
}

/// A file that is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// How many bytes were there already from an earlier download that was cut.
    pub resumed_at: u64,
}

/// Why a file is not in place. What stood under its name before stands there still.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The name is not one to write under.
    #[error(transparent)]
    Name(#[from] UnsafeName),
    /// The server was not reached, refused, or the connection broke; what has come is kept to go on from.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// The content ended early; what has come is kept to go on from.
    #[error("{have} of {expected} bytes came")]
    Incomplete {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        expected: u64,
    },
    /// The content is not what it should be, and has been thrown away.
    #[error("the content has another {0} than was told")]
    Mismatch(&'static str),
    /// Another download of the same file is under way.
    #[error("{} is being downloaded already", .0.display())]
    Busy(PathBuf),
    /// The disk failed.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
}

/// A name that could lead out of the directory, or that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name to write a file under")]
pub struct UnsafeName(String);

/// Where below a directory a file of that name may be written.
///
/// One leading `/` is dropped, the other slashes make sub-directories. Refused are empty, `.` and `..` parts,
/// backslashes, control characters, names too long for a file system, and the names of unfinished downloads.
pub fn relative_path(name: &[u8]) -> Result<PathBuf, UnsafeName> {
    let below = name.strip_prefix(b"/").unwrap_or(name);
    let is_bad = |part: &[u8]| {
        matches!(part, b"" | b"." | b"..")
            || part.len() > NAME_BYTES_MAX
            || part.iter().any(|byte| *byte < b' ' || matches!(byte, b'\\' | 0x7f))
            || part.ends_with(PART_SUFFIX.as_bytes())
            || part.ends_with(ETAG_SUFFIX.as_bytes())
    };
    if below.split(|byte| *byte == b'/').any(is_bad) {
        return Err(UnsafeName(String::from_utf8_lossy(name).escape_debug().to_string()));
    }
    Ok(PathBuf::from(OsStr::from_bytes(below)))
}

/// Fetches `remote` to `name` below `directory`, which is made if it is not there.
///
/// Every wait for the server is bounded by the deadline of `http`, the whole is not: a large file takes its time as
/// long as bytes keep coming. `progress` is told the bytes done and, where known, how many there are in all.
pub async fn download(
    http: &Http,
    remote: &Remote,
    directory: &Path,
    name: &[u8],
    expected: &Expected,
    mut progress: impl FnMut(u64, Option<u64>),
) -> Result<Downloaded, DownloadError> {
    let place = Place::prepare(directory, &relative_path(name)?)?;
    let mut part = Part::open(&place).await?;
    let mut resumed_at = part.size;
    let mut expected = *expected;
    // Complete already, and told apart from any other content: nothing is left to ask for.
    let is_complete = part.size > 0 && expected.size == Some(part.size) && expected.sha256.is_some();
    if !is_complete {
        let response = match open(http, remote, &part).await? {
            // The bytes we have do not belong to what is there now.
            response if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && part.size > 0 => {
                part.start_over(None).await?;
                open(http, remote, &part).await?
            }
            response => response,
        };
        if !response.status().is_success() {
            let said = tokio::time::timeout(http.deadline(), refusal(response)).await;
            return Err(said.unwrap_or(PullError::Deadline(http.deadline())).into());
        }
        let goes_on = response.status() == StatusCode::PARTIAL_CONTENT && part.is_continued_by(response.headers());
        if response.status() == StatusCode::PARTIAL_CONTENT && !goes_on {
            part.start_over(None).await?;
            return Err(
                PullError::Answer("it is another part, or of another version, than was asked for".to_owned()).into()
            );
        }
        if !goes_on {
            part.start_over(strong_etag(response.headers())).await?;
        }
        resumed_at = part.size;
        let rest = number(response.headers(), &CONTENT_LENGTH);
        let total = expected.size.or_else(|| rest.map(|rest| rest.saturating_add(part.size)));
        expected.learn(response.headers());
        progress(part.size, total);
        part.receive(http, response.into_body(), expected.size, |done| progress(done, total)).await?;
    }
    let sha256 = part.check(&expected)?;
    part.put_in_place(&place).await?;
    Ok(Downloaded { path: place.path, size: part.size, sha256, resumed_at })
}

async fn open(http: &Http, remote: &Remote, part: &Part) -> Result<Response<Incoming>, PullError> {
    let mut headers = HeaderMap::new();
    if let (Some(etag), 1..) = (&part.etag, part.size) {
        headers.insert(IF_RANGE, etag.clone());
        let range = HeaderValue::try_from(format!("bytes={}-", part.size));
        headers.insert(RANGE, range.map_err(|_| PullError::Credentials)?);
    }
    let opened = tokio::time::timeout(http.deadline(), remote.open(http, headers)).await;
    opened.map_err(|_| PullError::Deadline(http.deadline()))?
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The first byte of a partial answer: `bytes 6-9/10` begins at 6.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The ETag, if it stands for exactly these bytes; a weak one does not.
fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ETAG).filter(|etag| etag.as_bytes().starts_with(b"\"")).cloned()
}

impl Expected {
    /// Takes over the checksums that ownCloud's and Nextcloud's servers send along: `SHA256:<hex> MD5:<hex>`.
    fn learn(&mut self, headers: &HeaderMap) {
        let text = headers.get("oc-checksum").and_then(|value| value.to_str().ok()).unwrap_or_default();
        for (kind, digits) in text.split_ascii_whitespace().filter_map(|checksum| checksum.split_once(':')) {
            let (mut sha256, mut md5) = ([0; 32], [0; 16]);
            if kind.eq_ignore_ascii_case("sha256") && hex::decode_to_slice(digits, &mut sha256).is_ok() {
                self.sha256.get_or_insert(sha256);
            } else if kind.eq_ignore_ascii_case("md5") && hex::decode_to_slice(digits, &mut md5).is_ok() {
                self.md5.get_or_insert(md5);
            }
        }
    }
}

/// The names a download works under.
struct Place {
    path: PathBuf,
    part: PathBuf,
    etag: PathBuf,
    /// The directory of the file, then those above it that may have been made, up to the one given.
    directories: Vec<PathBuf>,
}

fn disk(path: &Path) -> impl FnOnce(io::Error) -> DownloadError {
    let path = path.to_owned();
    move |source| DownloadError::Disk { path, source }
}

impl Place {
    /// Makes the sub-directories one by one; one that is a link to elsewhere is refused.
    fn prepare(directory: &Path, relative: &Path) -> Result<Self, DownloadError> {
        std::fs::create_dir_all(directory).map_err(disk(directory))?;
        let mut directories = vec![directory.to_owned()];
        let mut at = directory.to_owned();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            at.push(part);
            match std::fs::create_dir(&at) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(disk(&at)(error)),
                _ => (),
            }
            if !std::fs::symlink_metadata(&at).map_err(disk(&at))?.is_dir() {
                return Err(disk(&at)(io::ErrorKind::NotADirectory.into()));
            }
            directories.insert(0, at.clone());
        }
        let name = relative.file_name().unwrap_or_default();
        let hidden = |suffix: &str| {
            let mut hidden = vec![b'.'];
            if name.len() + 1 + suffix.len() <= NAME_BYTES_MAX {
                hidden.extend(name.as_bytes());
            } else {
                hidden.extend(hex::encode(Sha256::digest(name.as_bytes())).as_bytes());
            }
            hidden.extend(suffix.as_bytes());
            at.join(OsStr::from_bytes(&hidden))
        };
        Ok(Self { path: at.join(name), part: hidden(PART_SUFFIX), etag: hidden(ETAG_SUFFIX), directories })
    }
}

/// The file under its temporary name, locked for this download alone.
struct Part {
    file: File,
    path: PathBuf,
    etag_path: PathBuf,
    /// Which version the bytes are of, if that is known.
    etag: Option<HeaderValue>,
    size: u64,
    sha256: Sha256,
    md5: Md5,
}

impl Part {
    /// Opens the part and reads what is there; without an ETag to go on with it begins anew.
    async fn open(place: &Place) -> Result<Self, DownloadError> {
        let file = lock(&place.part)?;
        let etag = std::fs::read(&place.etag).ok().and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let mut part = Self {
            file: File::from_std(file),
            path: place.part.clone(),
            etag_path: place.etag.clone(),
            etag,
            size: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
        };
        if part.etag.is_none() {
            part.start_over(None).await?;
        }
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = part.file.read(&mut buffer).await.map_err(disk(&part.path))?;
            match buffer.get(..read) {
                None | Some([]) => return Ok(part),
                Some(bytes) => part.count(bytes),
            }
        }
    }

    /// Whether a partial answer begins where this part ends and, as far as it says, is of the same version.
    fn is_continued_by(&self, headers: &HeaderMap) -> bool {
        let etag = headers.get(ETAG);
        range_start(headers) == Some(self.size) && (etag.is_none() || etag == self.etag.as_ref())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// Throws away what is there and begins with another version. The bytes go first, so that the bytes of one
    /// version never stand beside the ETag of another.
    async fn start_over(&mut self, etag: Option<HeaderValue>) -> Result<(), DownloadError> {
        self.file.set_len(0).await.map_err(disk(&self.path))?;
        self.file.rewind().await.map_err(disk(&self.path))?;
        (self.size, self.sha256, self.md5) = (0, Sha256::new(), Md5::new());
        match &etag {
            Some(etag) => std::fs::write(&self.etag_path, etag.as_bytes()).map_err(disk(&self.etag_path))?,
            None => remove(&self.etag_path)?,
        }
        self.etag = etag;
        Ok(())
    }

    /// Writes the content as it comes.
    async fn receive(
        &mut self,
        http: &Http,
        mut body: Incoming,
        size: Option<u64>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), DownloadError> {
        loop {
            let next = tokio::time::timeout(http.deadline(), body.frame()).await;
            let frame = match next.map_err(|_| PullError::Deadline(http.deadline())) {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    self.file.flush().await.map_err(disk(&self.path))?;
                    return Err(PullError::Unreachable(error.into()).into());
                }
                Err(late) => {
                    self.file.flush().await.map_err(disk(&self.path))?;
                    return Err(late.into());
                }
            };
            let Ok(bytes) = frame.into_data() else { continue };
            self.file.write_all(&bytes).await.map_err(disk(&self.path))?;
            self.count(&bytes);
            if size.is_some_and(|size| self.size > size) {
                return self.refuse("size");
            }
            progress(self.size);
        }
        self.file.flush().await.map_err(disk(&self.path))?;
        match size {
            Some(expected) if self.size < expected => Err(DownloadError::Incomplete { have: self.size, expected }),
            _ => Ok(()),
        }
    }

    /// Compares the content with what is known of it; what does not fit is thrown away.
    fn check(&self, expected: &Expected) -> Result<[u8; 32], DownloadError> {
        let sha256: [u8; 32] = self.sha256.clone().finalize().into();
        let md5: [u8; 16] = self.md5.clone().finalize().into();
        if expected.size.is_some_and(|size| size != self.size) {
            self.refuse("size")?;
        }
        if expected.sha256.is_some_and(|expected| expected != sha256) {
            self.refuse("SHA-256")?;
        }
        if expected.md5.is_some_and(|expected| expected != md5) {
            self.refuse("MD5")?;
        }
        Ok(sha256)
    }

    fn refuse(&self, what: &'static str) -> Result<(), DownloadError> {
        remove(&self.path)?;
        remove(&self.etag_path)?;
        Err(DownloadError::Mismatch(what))
    }

    /// Syncs the file, gives it its name, and syncs the directories that had to be made for it.
    async fn put_in_place(&self, place: &Place) -> Result<(), DownloadError> {
        self.file.sync_all().await.map_err(disk(&self.path))?;
        tokio::fs::rename(&self.path, &place.path).await.map_err(disk(&place.path))?;
        remove(&self.etag_path)?;
        for directory in &place.directories {
            let opened = File::open(directory).await.map_err(disk(directory))?;
            opened.sync_all().await.map_err(disk(directory))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), DownloadError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(disk(path)(error)),
        _ => Ok(()),
    }
}

/// Opens and locks the part. Between the two another download may have renamed it into place; writing to it then
/// would destroy a finished file, so that is looked at under the lock.
fn lock(path: &Path) -> Result<StdFile, DownloadError> {
    loop {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.is_file() => return Err(disk(path)(io::ErrorKind::InvalidInput.into())),
            _ => (),
        }
        let mut options = StdFile::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(disk(path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(DownloadError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(disk(path)(error)),
            Ok(()) => (),
        }
        let locked = file.metadata().map_err(disk(path))?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (locked.dev(), locked.ino()) => return Ok(file),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out() {
        for (name, path) in
            [("a.txt", "a.txt"), ("/dir/a b.txt", "dir/a b.txt"), ("x/..y/...", "x/..y/..."), ("-", "-")]
        {
            assert_eq!(relative_path(name.as_bytes()), Ok(PathBuf::from(path)));
        }
        let long = "x".repeat(256);
        for name in [
            "",
            "/",
            "//a",
            "..",
            "../a",
            "a/../../b",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "a\\b",
            "a\0",
            "a\nb",
            "a\u{7f}",
            ".a.filebell-part",
            ".a.filebell-etag/b",
            &long,
        ] {
            assert!(relative_path(name.as_bytes()).is_err(), "{name:?}");
        }
        assert_eq!(relative_path(b"\xff").unwrap().as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn a_name_of_full_length_has_a_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::prepare(directory.path(), Path::new(&"x".repeat(255))).unwrap();
        assert!(place.part.file_name().unwrap().len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn a_link_is_not_followed_out() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), directory.path().join("sub")).unwrap();
        assert!(Place::prepare(directory.path(), Path::new("sub/a")).is_err());
        assert!(Place::prepare(directory.path(), Path::new("other/deep/a")).is_ok());
    }

    #[test]
    fn a_part_is_for_one_download_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".a.filebell-part");
        let first = lock(&path).unwrap();
        assert!(matches!(lock(&path), Err(DownloadError::Busy(_))));
        drop(first);
        assert!(lock(&path).is_ok());
    }

    #[test]
    fn checksums_sent_along_are_learnt_but_do_not_replace_what_is_known() {
        let text = format!("SHA1:00 MD5:{} sha256:{}", "11".repeat(16), "22".repeat(32));
        let headers = HeaderMap::from_iter([(HeaderName::from_static("oc-checksum"), text.parse().unwrap())]);
        let mut expected = Expected { md5: Some([9; 16]), ..Expected::default() };
        expected.learn(&headers);
        assert_eq!(expected, Expected { size: None, sha256: Some([0x22; 32]), md5: Some([9; 16]) });
    }
}
