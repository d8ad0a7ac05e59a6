//! The watched roots as they run now, for whoever asks how they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::folder::View;

/// One account's root: its running source, or why there is none.
pub type Watched = Result<View, String>;

/// The roots by the name of their account: written by the app, read by whoever asks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Roots(Arc<Mutex<BTreeMap<String, Watched>>>);

impl Roots {
    /// The account's root is watched, or cannot be.
    pub fn set(&self, account: &str, watched: Watched) {
        self.with(|roots| roots.insert(account.to_owned(), watched));
    }

    /// Forgets every root but those of these accounts.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.with(|roots| roots.retain(|account, _| wanted(account)));
    }

    /// All of them, by the name of their account.
    pub fn all(&self) -> Vec<(String, Watched)> {
        self.with(|roots| roots.iter().map(|(account, watched)| (account.clone(), watched.clone())).collect())
    }

    /// The root of an account.
    pub fn of(&self, account: &str) -> Option<Watched> {
        self.with(|roots| roots.get(account).cloned())
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Watched>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
