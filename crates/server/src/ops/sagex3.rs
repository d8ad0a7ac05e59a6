//! What the operator chooses for Sage X3, where its documentation leaves a choice, and what is kept for it in memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filebell_core::id::{ApplicationId, GrantId};
use filebell_core::path::FilePath;
use filebell_core::time::TimestampMs;
use filebell_core::wire::sagex3::ErrorForm;
use filebell_core::wire::sagex3::ask::Transport;

/// What the operator chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SageX3Settings {
    /// The claim `region` of tokens.
    pub region: String,
    /// How the answer to a request for consent travels, if the request does not say.
    pub callback: Transport,
    /// How a file is handed out.
    pub download: Download,
    /// A notification's detail can be read once only.
    pub consume_once: bool,
    /// How refusals of the data calls are written.
    pub errors: ErrorForm,
    /// Files on one page of a listing.
    pub page_size: u32,
    /// Say `isTruncated` also on the last page.
    pub always_truncated: bool,
    /// Requests of one application on one day (UTC); `None` for no limit.
    pub quota_per_day: Option<u64>,
    /// How long an access token lives.
    pub access_for: Duration,
    /// How long a refresh token lives.
    pub refresh_for: Duration,
    /// The largest upload, in bytes.
    pub upload_bytes_max: u64,
}

/// How a file is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Download {
    /// By redirect to a signed URL.
    Redirect,
    /// At once.
    Direct,
}

impl Default for SageX3Settings {
    fn default() -> Self {
        Self {
            region: "local".into(),
            callback: Transport::Form,
            download: Download::Redirect,
            consume_once: false,
            errors: ErrorForm::Documented,
            page_size: 50,
            always_truncated: false,
            quota_per_day: None,
            access_for: Duration::from_secs(300),
            refresh_for: Duration::from_secs(30 * 24 * 60 * 60),
            upload_bytes_max: 350 * 1024 * 1024,
        }
    }
}

/// How long the place where a page of a listing ended is remembered.
const PAGE_KEPT_FOR: Duration = Duration::from_secs(10 * 60);
/// At most so many places, and so many applications with a quota, are remembered.
const REMEMBERED_MAX: usize = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Where the pages of listings began: `page=2` goes on behind the last file of page 1, whatever came and went since.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<PageOf, (FilePath, TimestampMs)>>);

/// A grant, a folder, the number of a page.
type PageOf = (GrantId, String, u64);

impl Pages {
    /// The file behind which a page begins, if the page before it was shown lately.
    pub(super) fn begin(&self, grant: GrantId, folder: &str, page: u64, now: TimestampMs) -> Option<FilePath> {
        let found = lock(&self.0).get(&(grant, folder.to_owned(), page)).cloned();
        found.filter(|(_, until)| now < *until).map(|(after, _)| after)
    }

    /// A page ended with this file. Two readers of one listing may see a file twice, but none misses one: the earlier
    /// place stands.
    pub(super) fn note(&self, grant: GrantId, folder: &str, page: u64, last: FilePath, now: TimestampMs) {
        let mut places = lock(&self.0);
        make_room(&mut places, |(_, until)| now < *until);
        let key = (grant, folder.to_owned(), page.saturating_add(1));
        let until = now.after(PAGE_KEPT_FOR);
        match places.get_mut(&key).filter(|(_, until)| now < *until) {
            Some(place) if place.0 <= last => (),
            Some(place) => *place = (last, until),
            None => {
                places.insert(key, (last, until));
            }
        }
    }
}

/// How often each application has asked today.
#[derive(Default)]
pub(super) struct Quota(Mutex<HashMap<ApplicationId, (i64, u64)>>);

impl Quota {
    /// Counts a request; `Err` says how long today still lasts.
    pub(super) fn count(&self, application: ApplicationId, per_day: u64, now: TimestampMs) -> Result<(), Duration> {
        let (day, into) = (now.as_millis().div_euclid(DAY_MS), now.as_millis().rem_euclid(DAY_MS));
        let mut counts = lock(&self.0);
        make_room(&mut counts, |(of, _)| *of == day);
        let count = counts.entry(application).or_insert((day, 0));
        if count.0 != day {
            *count = (day, 0);
        }
        if count.1 >= per_day {
            return Err(Duration::from_millis(u64::try_from(DAY_MS - into).unwrap_or(0)));
        }
        count.1 += 1;
        Ok(())
    }
}

fn make_room<K: Eq + Hash, V>(map: &mut HashMap<K, V>, keep: impl Fn(&V) -> bool) {
    if map.len() >= REMEMBERED_MAX {
        map.retain(|_, value| keep(value));
    }
    if map.len() >= REMEMBERED_MAX {
        map.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_ends_with_the_day() {
        let (quota, one) = (Quota::default(), ApplicationId::new(1));
        let at = |secs: i64| TimestampMs::from_millis(secs * 1000);
        assert!(quota.count(one, 2, at(86_000)).is_ok() && quota.count(one, 2, at(86_001)).is_ok());
        assert_eq!(quota.count(one, 2, at(86_390)), Err(Duration::from_secs(10)));
        assert!(quota.count(ApplicationId::new(2), 2, at(86_390)).is_ok());
        assert!(quota.count(one, 2, at(86_400)).is_ok());
    }

    #[test]
    fn the_earlier_of_two_places_stands_while_it_lasts() {
        let (pages, grant) = (Pages::default(), GrantId::new(1));
        let path = |name: &str| FilePath::from_bytes(name.as_bytes()).unwrap();
        let at = TimestampMs::from_millis;
        pages.note(grant, "SEED", 1, path("/SEED/b"), at(0));
        pages.note(grant, "SEED", 1, path("/SEED/c"), at(1));
        assert_eq!(pages.begin(grant, "SEED", 2, at(2)), Some(path("/SEED/b")));
        assert_eq!(pages.begin(grant, "OTHER", 2, at(2)), None);
        assert_eq!(pages.begin(grant, "SEED", 2, at(600_000)), None);
        pages.note(grant, "SEED", 1, path("/SEED/c"), at(600_000));
        assert_eq!(pages.begin(grant, "SEED", 2, at(600_001)), Some(path("/SEED/c")));
    }
}
