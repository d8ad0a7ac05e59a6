//! Files as people look for them: what an account has, and the whole life of one.

use filebell_core::event::{Event, StoredFile};
use filebell_core::id::{FileId, Seq};
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;

use super::{Caller, FetchReport, Ops, OpsError};
use crate::store::{Account, Attempt, FilePage, FilePosition, FilesWanted, Notification};

/// Which files are looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSearch {
    /// Whose, by name; an account need not say.
    pub account: Option<String>,
    /// How the path begins, with a slash; else a part of it. Empty is any.
    pub part: Vec<u8>,
}

/// A page of files.
#[derive(Debug, Clone)]
pub struct Files {
    /// Whose.
    pub account: Account,
    /// Newest arrival first.
    pub files: Vec<StoredFile>,
    /// Where to go on; `None` at the end.
    pub next: Option<FilePosition>,
    /// The search stopped there because it had looked at enough.
    pub searched_to: Option<TimestampMs>,
}

/// The life of one file, or a part of it.
#[derive(Debug, Clone)]
pub struct FileLife {
    /// The file.
    pub id: FileId,
    /// Whose.
    pub account: Account,
    /// Where it lies, or last lay.
    pub path: FilePath,
    /// As it is now; `None` if it is gone.
    pub stored: Option<StoredFile>,
    /// What happened, newest first.
    pub events: Vec<Life>,
    /// Where to go on; `None` at the beginning of its life.
    pub next: Option<Seq>,
}

/// One event, and who was told.
#[derive(Debug, Clone)]
pub struct Life {
    /// What happened.
    pub event: Event,
    /// By subscription.
    pub told: Vec<Telling>,
    /// Who fetched it, first to last.
    pub fetched: Vec<FetchReport>,
}

/// What one subscription got of an event.
#[derive(Debug, Clone)]
pub struct Telling {
    /// Its name.
    pub subscription: String,
    /// The notification that covers it; `None` if it is owed none.
    pub notification: Option<Notification>,
    /// How its last attempt went.
    pub last: Option<Attempt>,
    /// When the receiver read its detail, where that is known.
    pub consumed_at: Option<TimestampMs>,
}

impl Ops {
    /// At most `limit` files of an account that the caller may see, newest arrival first, from a position on.
    pub async fn files(
        &self,
        caller: &Caller,
        search: FileSearch,
        from: Option<FilePosition>,
        limit: usize,
    ) -> Result<Files, OpsError> {
        let account = self.account_for(caller, search.account.as_deref()).await?;
        let wanted = FilesWanted { account: account.id, part: search.part };
        let FilePage { files, next, searched_to } = self.0.store.find_files(wanted, from, limit).await?;
        Ok(Files { account, files, next, searched_to })
    }

    /// The life of a file that the caller may see: at most `limit` events before `before`, newest first.
    pub async fn file_life(
        &self,
        caller: &Caller,
        id: FileId,
        before: Option<Seq>,
        limit: u32,
    ) -> Result<FileLife, OpsError> {
        let missing = || OpsError::NotFound(format!("file {}", id.get()));
        let known = self.0.store.known_file(id).await?.ok_or_else(missing)?;
        let accounts = self.accounts().await?;
        let account = accounts.into_iter().find(|one| one.id == known.account).ok_or_else(missing)?;
        match caller {
            Caller::Operator => (),
            Caller::Account(own) if own.account.id == account.id => (),
            Caller::Account(_) | Caller::Application(_) => return Err(missing()),
        }
        self.write_fetches().await;
        let mut events = self.0.store.events_of(id, before, limit.saturating_add(1)).await?;
        let more = events.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        events.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = events.last().map(|event| event.seq).filter(|_| more);
        let mut lives = Vec::new();
        let subscriptions = self.own_subscriptions(caller).await?;
        for event in events {
            let mut told = Vec::new();
            let wanting = subscriptions.iter().filter(|one| one.account == event.account);
            for one in wanting.filter(|one| one.filter.wants(event.kind, &event.path)) {
                let notification = self.0.store.covering(one.id, event.seq).await?;
                let (mut last, mut consumed_at) = (None, None);
                if let Some(notification) = &notification
                    && let Some(full) = self.0.store.full(notification.id).await?
                {
                    consumed_at = full.consumed_at;
                    last = full.attempts.into_iter().last().map(|(_, attempt, _)| attempt);
                }
                told.push(Telling { subscription: one.name.clone(), notification, last, consumed_at });
            }
            let fetched = self.fetches_of_event(&event).await?;
            lives.push(Life { event, told, fetched });
        }
        Ok(FileLife { id, account, path: known.path, stored: known.stored, events: lives, next })
    }

    /// The account that is asked about: an account asks about itself only.
    async fn account_for(&self, caller: &Caller, name: Option<&str>) -> Result<Account, OpsError> {
        match (caller, name) {
            (Caller::Operator, Some(name)) => self.account(name).await,
            (Caller::Operator, None) => Err(OpsError::NotFound("account: say which".to_owned())),
            (Caller::Account(own), None) => Ok(own.account.clone()),
            (Caller::Account(own), Some(name)) if own.account.name == name => Ok(own.account.clone()),
            (Caller::Account(_), Some(name)) => Err(OpsError::NotFound(format!("account `{name}`"))),
            (Caller::Application(_), _) => Err(OpsError::NotGranted("what is the account's own".to_owned())),
        }
    }
}
