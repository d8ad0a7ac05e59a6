//! Announcing a file by hand.
//!
//! Whoever announces a file asks that it be looked at as if its writing had been seen. The root's own decider then
//! proves that it is whole and reads it, and the journal judges: content that it has not told is told, content that it
//! has told is not told twice. What was told and shall be sent again is a replay, not a second event.

use std::time::Duration;

use filebell_core::event::Event;
use filebell_core::path::FilePath;

use super::observe::settling;
use super::{Caller, Ops, OpsError};
use crate::source::folder::{Lies, View};

/// How long an announcement may be waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What came of an announcement.
#[derive(Debug, Clone)]
pub enum Emitted {
    /// It is this event.
    Told(Box<Event>),
    /// It is told when it is whole; says what it waits for.
    Waits(String),
}

impl Ops {
    /// Has the file at `path` within an account told now if its content was not told yet, and waits at most `wait` for
    /// that. The operator may ask it of any account, an account of itself.
    pub async fn emit(&self, caller: &Caller, account: &str, path: &[u8], wait: Duration) -> Result<Emitted, OpsError> {
        match caller {
            Caller::Operator => (),
            Caller::Account(caller) if caller.account.name == account => (),
            Caller::Account(_) => return Err(OpsError::NotFound(format!("account `{account}`"))),
            Caller::Application(_) => return Err(OpsError::NotGranted("announcing files".to_owned())),
        }
        let (account, path) = (self.account(account).await?, FilePath::from_bytes(path)?);
        let shown = path.to_text().into_owned();
        let watched = self.0.served.get().and_then(|served| served.roots.of(&account.name));
        let Some(Ok(view)) = watched else {
            return Err(OpsError::Conflict(format!("the root of account `{}` is not watched now", account.name)));
        };
        if let Some(pattern) = view.ignored(&path) {
            return Err(OpsError::Conflict(format!("`{shown}` is left out by the pattern `{pattern}`")));
        }
        if lies(&view, &path).await != Some(true) {
            return Err(OpsError::NotFound(format!("file `{shown}` in account `{}`", account.name)));
        }
        let newest = async || -> Result<Option<Event>, OpsError> {
            Ok(self.0.store.file_events(account.id, path.clone(), 1).await?.pop())
        };
        let before = newest().await?;
        if !view.announce(path.clone()) {
            return Err(OpsError::Busy("too many changes in this root"));
        }
        let settled = tokio::time::timeout(wait.min(WAIT_MAX), view.settled()).await;
        let after = newest().await?;
        match (before, after, view.waiting(&path)) {
            (before, Some(after), _) if before.as_ref().is_none_or(|before| before.seq < after.seq) => {
                Ok(Emitted::Told(Box::new(after)))
            }
            (_, _, Some(waiting)) => Ok(Emitted::Waits(settling(waiting, &[]))),
            _ if settled.is_err() => Ok(Emitted::Waits("it was seen, and is about to be decided".to_owned())),
            (Some(before), _, None) => Err(OpsError::Conflict(format!(
                "the content of `{shown}` was told already, as event {}: nothing has changed since. To send what was \
                 told again, replay the notification",
                before.seq
            ))),
            (None, _, None) => Err(OpsError::Conflict(format!(
                "the content of `{shown}` is known since its root was first watched, and has not changed since"
            ))),
        }
    }
}

/// Whether a file lies there; `None` if it cannot be said.
async fn lies(view: &View, path: &FilePath) -> Option<bool> {
    let (view, path) = (view.clone(), path.clone());
    match tokio::task::spawn_blocking(move || view.lies(&path)).await.ok()? {
        Lies::File { .. } => Some(true),
        Lies::Nothing => Some(false),
        Lies::Unknown => None,
    }
}
