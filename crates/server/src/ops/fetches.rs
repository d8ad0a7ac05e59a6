//! Who fetched what when: noted where it happens, written together a moment later.
//!
//! What was noted and not written when filebell is killed is forgotten: it is a help for people, not a part of the
//! promise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use filebell_core::event::StoredFile;
use filebell_core::id::Cursor;
use filebell_core::time::TimestampSecs;

use super::{AccountCaller, ApplicationCaller, Caller, Ops, OpsError};
use crate::store::fetches::{Fetch, FetchedFile, Part, Shown};
use crate::store::{Changes, ChangesOf};

/// How long what was noted waits for more.
const GATHER_FOR: Duration = Duration::from_secs(1);
/// More than this is not kept waiting; what comes on top while the store does not answer is forgotten.
const NOTED_MAX: usize = 4096;

/// What was noted and is not written yet.
#[derive(Default)]
pub(super) struct Noted {
    fetches: Mutex<Vec<Fetch>>,
    writing: tokio::sync::Mutex<()>,
    gathering: AtomicBool,
}

impl Noted {
    fn take(&self) -> Vec<Fetch> {
        std::mem::take(&mut *self.fetches.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts one to the others. A reader who goes on where it was is one who was shown more.
    fn add(&self, fetch: Fetch) {
        let mut fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Fetch::Shown(new), Some(Fetch::Shown(last))) = (&fetch, fetches.last_mut())
            && let (Part::Changes(from, to), Part::Changes(after, upto)) = (&mut last.what, new.what)
            && *to == after
            && (&last.reader, last.account, &last.folders) == (&new.reader, new.account, &new.folders)
        {
            *last = Shown { what: Part::Changes(*from, upto), ..new.clone() };
        } else if fetches.len() < NOTED_MAX {
            fetches.push(fetch);
        }
    }
}

/// Who reads, as it is written down.
pub(super) fn reader(caller: &Caller) -> String {
    match caller {
        Caller::Operator => "operator".to_owned(),
        Caller::Account(caller) => account_reader(caller),
        Caller::Application(caller) => application_reader(caller),
    }
}

pub(super) fn application_reader(caller: &ApplicationCaller) -> String {
    format!("application {}", caller.application.name)
}

pub(super) fn account_reader(caller: &AccountCaller) -> String {
    format!("account {}", caller.account.name)
}

impl Ops {
    /// A page of the journal is being handed out.
    pub async fn changes_shown(
        &self,
        caller: &Caller,
        account: Option<&str>,
        after: Option<Cursor>,
        changes: &Changes,
    ) -> Result<(), OpsError> {
        let (after, upto) = (after.unwrap_or(Cursor::new(0)).seq().get(), changes.next.seq().get());
        if changes.events.is_empty() || after >= upto {
            return Ok(());
        }
        let ChangesOf { account, folders } = self.changes_of(caller, account).await?;
        let (reader, what, at) = (reader(caller), Part::Changes(after, upto), self.0.seams.now());
        self.note(Fetch::Shown(Shown { reader, what, account, folders, at }));
        Ok(())
    }

    /// An account was shown its recent files since a second, `newest` among them.
    pub(super) fn note_recent(&self, caller: &AccountCaller, since: TimestampSecs, newest: &StoredFile) {
        let after = since.as_secs().saturating_mul(1000).saturating_sub(1);
        self.note(Fetch::Shown(Shown {
            reader: account_reader(caller),
            what: Part::Recent(after, newest.arrived_at.as_millis()),
            account: Some(caller.account.id),
            folders: None,
            at: self.0.seams.now(),
        }));
    }

    /// One file is being handed out, or what a notification tells of it.
    pub(super) fn note_file(&self, reader: &str, how: &'static str, file: FetchedContent) {
        let FetchedContent { account, file, arrived_at } = file;
        let (reader, at) = (reader.to_owned(), self.0.seams.now());
        self.note(Fetch::File(FetchedFile { account, file, arrived_at, reader, how, at }));
    }

    fn note(&self, fetch: Fetch) {
        // Commands look at the journal too, and fetch nothing.
        if self.0.served.get().is_none() {
            return;
        }
        self.0.noted.add(fetch);
        if !self.0.noted.gathering.swap(true, Ordering::Relaxed) {
            let ops = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(GATHER_FOR).await;
                ops.0.noted.gathering.store(false, Ordering::Relaxed);
                ops.write_fetches().await;
            });
        }
    }

    /// Writes what was noted.
    pub async fn write_fetches(&self) {
        // Whoever comes while others write waits for them: what it asked to be written may be on its way.
        let _turn = self.0.noted.writing.lock().await;
        let noted = self.0.noted.take();
        if noted.is_empty() {
            return;
        }
        if let Err(error) = self.0.store.note_fetches(noted).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "who has fetched what could not be written down");
        }
    }
}

/// Which content of a file.
pub(super) struct FetchedContent {
    pub(super) account: filebell_core::id::AccountId,
    pub(super) file: filebell_core::id::FileId,
    pub(super) arrived_at: filebell_core::time::TimestampMs,
}

impl From<&StoredFile> for FetchedContent {
    fn from(file: &StoredFile) -> Self {
        Self { account: file.account, file: file.id, arrived_at: file.arrived_at }
    }
}
