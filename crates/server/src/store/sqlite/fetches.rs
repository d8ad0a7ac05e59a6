//! Who fetched what when.

use filebell_core::event::{Event, EventKind};
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::super::StoreError;
use super::super::fetches::{Fetch, Fetched, FetchedFile, Part, Shown};
use super::SqliteStore;
use super::rows::{corrupt, list};

const CHANGES: &str = "changes";
const RECENT: &str = "recent";

impl SqliteStore {
    pub(in crate::store) async fn note_fetches(&self, fetches: Vec<Fetch>) -> Result<(), StoreError> {
        self.write(move |transaction, _| {
            fetches.iter().try_for_each(|fetch| match fetch {
                Fetch::Shown(shown) => note_shown(transaction, shown),
                Fetch::File(file) => note_file(transaction, file),
            })
        })
        .await
    }

    pub(in crate::store) async fn fetches_of(&self, event: Event) -> Result<Vec<Fetched>, StoreError> {
        self.read(move |connection, _| {
            let mut fetches = files_of(connection, &event)?;
            for (reader, how) in readers(connection)? {
                fetches.extend(shown_to(connection, &event, reader, how)?);
            }
            fetches.sort_by(|one, other| (one.at, &one.reader, &one.how).cmp(&(other.at, &other.reader, &other.how)));
            Ok(fetches)
        })
        .await
    }
}

fn note_shown(transaction: &Transaction<'_>, shown: &Shown) -> Result<(), StoreError> {
    let (how, after, upto) = match shown.what {
        Part::Changes(after, upto) => (CHANGES, after, upto),
        Part::Recent(after, upto) => (RECENT, after, upto),
    };
    let folders = shown.folders.as_ref().map(serde_json::to_string).transpose().map_err(corrupt("list"))?;
    let account = shown.account.map(filebell_core::id::AccountId::get);
    transaction
        .prepare_cached(
            "INSERT INTO shown (reader, how, account, folders, after, upto, at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT EXISTS (SELECT 1 FROM shown WHERE reader = ?1 AND how = ?2
                 AND upto >= ?6 AND after <= ?5 AND account IS ?3 AND folders IS ?4)",
        )?
        .execute(params![shown.reader, how, account, folders, after, upto, shown.at.as_millis()])?;
    Ok(())
}

fn note_file(transaction: &Transaction<'_>, file: &FetchedFile) -> Result<(), StoreError> {
    let FetchedFile { account, file, arrived_at, reader, how, at } = file;
    transaction
        .prepare_cached(
            "INSERT INTO fetched (account, file, arrived_at, reader, how, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![account.get(), file.get(), arrived_at.as_millis(), reader, how, at.as_millis()])?;
    Ok(())
}

fn files_of(connection: &Connection, event: &Event) -> Result<Vec<Fetched>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT reader, how, at FROM fetched WHERE account = ?1 AND file = ?2 AND arrived_at = ?3")?;
    let parameters = params![event.account.get(), event.file.get(), event.recorded_at.as_millis()];
    let rows = select.query_map(parameters, |row| {
        Ok(Fetched { reader: row.get(0)?, how: row.get(1)?, at: TimestampMs::from_millis(row.get(2)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Everybody who was ever shown a part of the journal: from one to the next, without reading the rows between.
fn readers(connection: &Connection) -> Result<Vec<(String, String)>, StoreError> {
    let mut next = connection
        .prepare_cached("SELECT reader, how FROM shown WHERE (reader, how) > (?1, ?2) ORDER BY reader, how LIMIT 1")?;
    let mut readers = Vec::new();
    let mut last = (String::new(), String::new());
    while let Some(found) = next.query_row([&last.0, &last.1], |row| Ok((row.get(0)?, row.get(1)?))).optional()? {
        readers.push(found.clone());
        last = found;
    }
    Ok(readers)
}

fn shown_to(
    connection: &Connection,
    event: &Event,
    reader: String,
    how: String,
) -> Result<Option<Fetched>, StoreError> {
    // `recent` lists what is there, by when it arrived.
    let arrived = matches!(event.kind, EventKind::Created | EventKind::Updated);
    let at = match how.as_str() {
        RECENT if arrived => event.recorded_at.as_millis(),
        RECENT => return Ok(None),
        _ => event.seq.get(),
    };
    let mut select = connection.prepare_cached(
        "SELECT at, folders FROM shown WHERE reader = ?1 AND how = ?2 AND upto >= ?3 AND after < ?3
             AND (account IS NULL OR account = ?4) ORDER BY upto",
    )?;
    let mut rows = select.query(params![reader, how, at, event.account.get()])?;
    while let Some(row) = rows.next()? {
        let folders =
            if row.get_ref(1)? == rusqlite::types::ValueRef::Null { None } else { Some(list(row, 1, "list")?) };
        let folder = event.path.folder();
        if folders.is_none_or(|folders| folders.iter().any(|name| Some(name.as_bytes()) == folder)) {
            return Ok(Some(Fetched { at: TimestampMs::from_millis(row.get(0)?), reader, how }));
        }
    }
    Ok(None)
}
