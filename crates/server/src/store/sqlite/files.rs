//! Files as people look for them.

use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{FileId, Seq};
use filebell_core::time::TimestampSecs;
use rusqlite::{Connection, params};

use super::super::{FilePage, FilePosition, FilesWanted, KnownFile, StoreError};
use super::SqliteStore;
use super::deliveries::holds;
use super::events::select_files;
use super::rows::{EVENT_COLUMNS, FILE_COLUMNS, event, stored_file};

/// Rows that one call looks at.
const LOOKS_MAX: usize = 20_000;
/// Where so few paths begin with a text, they are gathered and sorted.
const GATHERED_MAX: u32 = 5_000;

impl SqliteStore {
    pub(in crate::store) async fn find_files(
        &self,
        wanted: FilesWanted,
        from: Option<FilePosition>,
        limit: usize,
    ) -> Result<FilePage, StoreError> {
        self.read(move |connection, _| {
            if wanted.part.first() == Some(&b'/')
                && let Some(places) = beginning(connection, &wanted)?
            {
                return gathered(connection, places, from, limit);
            }
            walk(connection, &wanted, from, limit)
        })
        .await
    }

    pub(in crate::store) async fn known_file(&self, id: FileId) -> Result<Option<KnownFile>, StoreError> {
        self.read(move |connection, _| {
            if let Some(stored) = select_files(connection, "id = ?1", [id.get()])?.pop() {
                let (account, path) = (stored.account, stored.path.clone());
                return Ok(Some(KnownFile { account, path, stored: Some(stored) }));
            }
            let last = events_of(connection, id, None, 1)?.pop();
            Ok(last.map(|event| KnownFile { account: event.account, path: event.path, stored: None }))
        })
        .await
    }

    pub(in crate::store) async fn events_of(
        &self,
        file: FileId,
        before: Option<Seq>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.read(move |connection, _| events_of(connection, file, before, limit)).await
    }
}

fn events_of(connection: &Connection, file: FileId, before: Option<Seq>, limit: u32) -> Result<Vec<Event>, StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {EVENT_COLUMNS} FROM event WHERE file = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
    ))?;
    let before = before.map_or(i64::MAX, Seq::get);
    select.query_map(params![file.get(), before, limit], |row| Ok(event(row)))?.map(|row| row?).collect()
}

fn place(file: &StoredFile) -> FilePosition {
    FilePosition { secs: file.arrived_at.to_secs(), id: file.id }
}

/// The places of the files whose paths begin with what is wanted; `None` if they are too many to be sorted.
fn beginning(connection: &Connection, wanted: &FilesWanted) -> Result<Option<Vec<(i64, i64)>>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT path, id FROM file WHERE account = ?1 AND path >= ?2 ORDER BY path LIMIT ?3")?;
    let mut rows = select.query(params![wanted.account.get(), wanted.part, GATHERED_MAX + 1])?;
    let mut arrived = connection.prepare_cached("SELECT arrived_secs FROM file WHERE id = ?1")?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        let begins = row.get_ref(0)?.as_blob().is_ok_and(|path| path.starts_with(&wanted.part));
        if !begins {
            return Ok(Some(places));
        }
        let id: i64 = row.get(1)?;
        places.push((arrived.query_row([id], |row| row.get(0))?, id));
    }
    Ok((places.len() <= usize::try_from(GATHERED_MAX).unwrap_or(usize::MAX)).then_some(places))
}

fn gathered(
    connection: &Connection,
    mut places: Vec<(i64, i64)>,
    from: Option<FilePosition>,
    limit: usize,
) -> Result<FilePage, StoreError> {
    let from = from.map_or((i64::MAX, i64::MAX), |from| (from.secs.as_secs(), from.id.get()));
    places.retain(|place| *place < from);
    places.sort_unstable_by(|a, b| b.cmp(a));
    let more = places.len() > limit;
    let mut files = Vec::new();
    for (_, id) in places.into_iter().take(limit) {
        files.extend(select_files(connection, "id = ?1", [id])?);
    }
    let next = files.last().map(place).filter(|_| more);
    Ok(FilePage { files, next, searched_to: None })
}

/// Over the index on arrivals, newest first.
fn walk(
    connection: &Connection,
    wanted: &FilesWanted,
    from: Option<FilePosition>,
    limit: usize,
) -> Result<FilePage, StoreError> {
    let from = from.unwrap_or(FilePosition { secs: TimestampSecs::from_secs(i64::MAX), id: FileId::new(i64::MAX) });
    let mut select = connection.prepare_cached(&format!(
        "SELECT {FILE_COLUMNS} FROM file INDEXED BY file_recent
         WHERE account = ?1 AND (arrived_secs, id) < (?2, ?3) ORDER BY arrived_secs DESC, id DESC"
    ))?;
    let mut rows = select.query(params![wanted.account.get(), from.secs.as_secs(), from.id.get()])?;
    let (mut files, mut last, mut looks) = (Vec::new(), None, 0);
    let fits = |path: &[u8]| match wanted.part.first() {
        Some(b'/') => path.starts_with(&wanted.part),
        _ => holds(path, &wanted.part),
    };
    while let Some(row) = rows.next()? {
        if files.len() == limit {
            return Ok(FilePage { files, next: last.map(|(place, _)| place), searched_to: None });
        }
        if looks == LOOKS_MAX {
            let (next, searched_to) = last.unzip();
            return Ok(FilePage { files, next, searched_to });
        }
        looks += 1;
        let file = stored_file(row)?;
        last = Some((place(&file), file.arrived_at));
        if fits(file.path.as_bytes()) {
            files.push(file);
        }
    }
    Ok(FilePage { files, next: None, searched_to: None })
}
