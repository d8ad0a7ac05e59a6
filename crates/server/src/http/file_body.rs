//! The bytes of a file: whole, a range, or nothing new.

use std::io::SeekFrom;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use filebell_core::arrival::Version;
use filebell_core::event::StoredFile;
use headers::{
    AcceptRanges, ContentLength, ContentRange, ContentType, ETag, HeaderMapExt, IfModifiedSince, IfNoneMatch, IfRange,
    LastModified, Range,
};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::ops::{OpenFile, OpsError};

/// Each piece is read by one call on a helping thread; small pieces would pay for that call more than for reading.
const PIECE_BYTES: usize = 256 * 1024;

/// Answers a GET or HEAD with an open file.
pub(super) async fn answer(open: OpenFile, method: &Method, headers: &HeaderMap) -> Result<Response, OpsError> {
    let metadata = open.file.metadata().map_err(OpsError::File)?;
    let size = metadata.len();
    let stored = as_stored(&open, &metadata);
    let etag = etag(&open, &metadata)?;
    let told = stored.is_some();
    let checksum = stored.and_then(|stored| stored.version.as_ref()).and_then(checksum);
    let modified = LastModified::from(last_modified(&metadata));
    let mut response = Response::new(Body::empty());
    let answered = response.headers_mut();
    answered.typed_insert(AcceptRanges::bytes());
    answered.typed_insert(etag.clone());
    answered.typed_insert(modified);
    answered.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answered.insert("content-disposition", HeaderValue::from_static("attachment"));
    if let Some(checksum) = checksum {
        answered.insert("oc-checksum", checksum);
    }

    let unchanged = match headers.typed_get::<IfNoneMatch>() {
        Some(if_none_match) => !if_none_match.precondition_passes(&etag),
        None => {
            headers.typed_get::<IfModifiedSince>().is_some_and(|since| !since.is_modified(last_modified(&metadata)))
        }
    };
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let name = String::from_utf8_lossy(open.path.name()).into_owned();
    answered.typed_insert(ContentType::from(mime_guess::from_path(name).first_or_octet_stream()));

    let may_range =
        headers.typed_get::<IfRange>().is_none_or(|if_range| !if_range.is_modified(Some(&etag), Some(&modified)));
    let wanted = match headers.typed_get::<Range>().filter(|_| may_range) {
        None => None,
        Some(range) => match one_range(&range, size) {
            Wanted::All => None,
            Wanted::Part(first, end) => Some((first, end)),
            Wanted::Impossible => {
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                response.headers_mut().typed_insert(ContentRange::unsatisfied_bytes(size));
                return Ok(response);
            }
        },
    };
    let (first, end) = wanted.unwrap_or((0, size));
    let answered = response.headers_mut();
    answered.typed_insert(ContentLength(end.saturating_sub(first)));
    if wanted.is_some() {
        if let Ok(range) = ContentRange::bytes(first..end, size) {
            answered.typed_insert(range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if method != Method::HEAD {
        if told {
            open.handed_out();
        }
        let mut file = tokio::fs::File::from_std(open.file);
        file.seek(SeekFrom::Start(first)).await.map_err(OpsError::File)?;
        let part = file.take(end.saturating_sub(first));
        *response.body_mut() = Body::from_stream(ReaderStream::with_capacity(part, PIECE_BYTES));
    }
    Ok(response)
}

/// What the journal read, if the file still is that.
fn as_stored<'a>(open: &'a OpenFile, metadata: &std::fs::Metadata) -> Option<&'a StoredFile> {
    let (size, mtime_ns, ctime_ns) = times(metadata);
    open.stored.as_ref().filter(|stored| {
        let print = &stored.fingerprint;
        (print.inode, print.size, print.mtime_ns, print.ctime_ns) == (metadata.ino(), size, mtime_ns, ctime_ns)
    })
}

/// Size and times as a fingerprint has them.
fn times(metadata: &std::fs::Metadata) -> (u64, i64, i64) {
    let ns = |secs: i64, ns: i64| secs.saturating_mul(1_000_000_000).saturating_add(ns);
    (metadata.len(), ns(metadata.mtime(), metadata.mtime_nsec()), ns(metadata.ctime(), metadata.ctime_nsec()))
}

fn etag(open: &OpenFile, metadata: &std::fs::Metadata) -> Result<ETag, OpsError> {
    let (_, mtime_ns, ctime_ns) = times(metadata);
    let text = format!("\"{}\"", open.tag(metadata.ino(), metadata.len(), mtime_ns, ctime_ns));
    text.parse().map_err(|_| OpsError::File(std::io::Error::other("a tag that is no tag")))
}

/// Says what the bytes are, so that whoever fetches them can check.
fn checksum(version: &Version) -> Option<HeaderValue> {
    let (sha256, md5) = (hex::encode(version.sha256), hex::encode(version.md5));
    HeaderValue::try_from(format!("SHA256:{sha256} MD5:{md5}")).ok()
}

fn last_modified(metadata: &std::fs::Metadata) -> SystemTime {
    let secs = u64::try_from(metadata.mtime()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

enum Wanted {
    All,
    Part(u64, u64),
    Impossible,
}

/// One range of bytes, as a half-open interval. Several ranges are answered with the whole, which RFC 9110 allows.
fn one_range(range: &Range, size: u64) -> Wanted {
    let mut ranges = range.satisfiable_ranges(size);
    let Some((first, last)) = ranges.next() else { return Wanted::Impossible };
    if ranges.next().is_some() {
        return Wanted::All;
    }
    let first = match first {
        Bound::Included(first) => first,
        Bound::Excluded(_) | Bound::Unbounded => 0,
    };
    let end = match last {
        Bound::Included(last) => last.saturating_add(1).min(size),
        Bound::Excluded(_) | Bound::Unbounded => size,
    };
    if first < end { Wanted::Part(first, end) } else { Wanted::Impossible }
}
