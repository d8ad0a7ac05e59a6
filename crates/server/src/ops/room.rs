//! What an account may hold: looked at before bytes come, and again before they become a file.
//!
//! The store counts what is recorded. What is about to be recorded is counted here, so that uploads that come together
//! do not each take the same room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use filebell_core::id::AccountId;
use filebell_core::path::FilePath;
use tokio::sync::Notify;

use super::pull::{blocking, root_of};
use super::{AccountCaller, Ops, OpsError, UploadError};
use crate::beneath::Root;
use crate::source::upload::{Mtime, Placed, Upload};
use crate::store::Account;

/// What an account holds and may hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The sum of its files' sizes, as the journal knows them.
    pub used: u64,
    /// What it may hold; `None` is as much as it likes.
    pub quota: Option<u64>,
}

impl Usage {
    /// What the quota leaves.
    pub fn left(self) -> Option<u64> {
        self.quota.map(|quota| quota.saturating_sub(self.used))
    }
}

/// What is on its way to the journal of each account that has a quota.
#[derive(Default)]
pub(super) struct Rooms(Mutex<HashMap<AccountId, Arc<Room>>>);

impl Rooms {
    fn of(&self, account: AccountId) -> Arc<Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(account).or_default().clone()
    }
}

#[derive(Default)]
struct Room {
    turn: tokio::sync::Mutex<()>,
    taken_bytes: Mutex<u64>,
    given_back: Notify,
}

impl Room {
    fn change(&self, by: impl FnOnce(u64) -> u64) -> u64 {
        let mut taken = self.taken_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = by(*taken);
        *taken
    }
}

/// Room that one file has been given until the journal counts it.
struct Taken {
    room: Arc<Room>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.change(|taken| taken.saturating_sub(self.bytes));
        self.room.given_back.notify_waiters();
    }
}

impl Ops {
    /// What an account holds and may hold.
    pub async fn usage(&self, account: &Account) -> Result<Usage, OpsError> {
        let (used, quota) = self.0.store.usage(account.id).await?;
        Ok(Usage { used, quota })
    }

    /// How much may still come, by the quota and by the disk; `None` where there is no quota.
    pub async fn available(&self, caller: &AccountCaller) -> Result<Option<u64>, OpsError> {
        if caller.account.quota_bytes.is_none() {
            return Ok(None);
        }
        let Some(left) = self.usage(&caller.account).await?.left() else { return Ok(None) };
        let root = root_of(&caller.account)?;
        let on_disk = blocking(move || Root::open(&root)?.available_bytes()).await.map_err(OpsError::File)?;
        Ok(Some(left.min(on_disk)))
    }

    /// Lets an account hold so many bytes; `None` as many as it likes. What it holds already stays.
    pub async fn set_quota(&self, name: &str, quota: Option<u64>) -> Result<(), OpsError> {
        let account = self.account(name).await?;
        if account.managed {
            return Err(OpsError::Managed(format!("account `{name}`")));
        }
        Ok(self.0.store.set_quota(account.id, quota).await?)
    }

    /// Refuses a file of so many bytes if there is no room for it at a path.
    pub async fn must_fit(&self, account: &Account, path: &FilePath, bytes: u64) -> Result<(), OpsError> {
        match self.room_at(account, path).await? {
            Some(available) if bytes > available => Err(OpsError::NoRoom { required: bytes, available }),
            _ => Ok(()),
        }
    }

    /// How many bytes a file at a path may have, with those of the file that it would replace.
    pub(super) async fn room_at(&self, account: &Account, path: &FilePath) -> Result<Option<u64>, OpsError> {
        if account.quota_bytes.is_none() {
            return Ok(None);
        }
        let Some(left) = self.usage(account).await?.left() else { return Ok(None) };
        let replaced = self.0.store.file_at(account.id, path.clone()).await?;
        Ok(Some(left.saturating_add(replaced.map_or(0, |file| file.fingerprint.size))))
    }

    /// Makes a file of what was uploaded, if there is room for it.
    pub(super) async fn place(
        &self,
        account: &Account,
        path: &FilePath,
        upload: Upload,
        size: Option<u64>,
        mtime: Option<Mtime>,
    ) -> Result<Placed, OpsError> {
        let _taken = self.take_room(account, path, upload.received()).await?;
        Ok(upload.commit(size, mtime).await?)
    }

    async fn take_room(&self, account: &Account, path: &FilePath, bytes: u64) -> Result<Option<Taken>, OpsError> {
        if account.quota_bytes.is_none() {
            return Ok(None);
        }
        let room = self.0.rooms.of(account.id);
        let _turn = room.turn.lock().await;
        loop {
            let mut given_back = std::pin::pin!(room.given_back.notified());
            given_back.as_mut().enable();
            // Before the store is asked: what is recorded in between counts twice, never not at all.
            let taken = room.change(|taken| taken);
            match self.room_at(account, path).await? {
                None => return Ok(None),
                Some(available) if bytes > available => return Err(OpsError::NoRoom { required: bytes, available }),
                Some(available) if bytes.saturating_add(taken) <= available => {
                    room.change(|taken| taken.saturating_add(bytes));
                    return Ok(Some(Taken { room: room.clone(), bytes }));
                }
                // It depends on how those end that are under way.
                Some(_) => given_back.await,
            }
        }
    }
}

impl From<UploadError> for OpsError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::File(error) => super::dav::absent(error),
            UploadError::Directory => Self::Exists("a directory of this name".into()),
            UploadError::Journal(error) => Self::Journal(error),
            UploadError::NoRoom { received, available } => Self::NoRoom { required: received, available },
            refused @ (UploadError::Size { .. } | UploadError::Checksum) => Self::Upload(refused),
        }
    }
}
