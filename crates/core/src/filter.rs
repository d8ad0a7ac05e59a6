//! Which events a subscription wants.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::event::EventKind;
use crate::path::FilePath;

/// The filter as it was written: what is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterText {
    /// Top-level directories; empty means all, and files directly in the root.
    pub folders: Vec<String>,
    /// Globs on the path below the account's root, of which one must match; empty means all. `*` does not cross `/`.
    pub include: Vec<String>,
    /// Globs of which none may match.
    pub exclude: Vec<String>,
    /// Kinds of events: `created`, `updated`, `moved`, `deleted`.
    pub kinds: Vec<String>,
}

impl Default for FilterText {
    /// Every created or updated file.
    fn default() -> Self {
        Self {
            folders: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            kinds: vec![EventKind::Created.to_string(), EventKind::Updated.to_string()],
        }
    }
}

/// Why a filter cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FilterError {
    /// A glob cannot be read.
    #[error("`{glob}` is not a glob: {why}")]
    Glob {
        /// The text.
        glob: String,
        /// What is wrong with it.
        why: String,
    },
    /// A kind is unknown.
    #[error("kinds: {0}")]
    Kind(#[from] crate::arrival::UnknownWord),
    /// No kind at all is wanted: such a subscription would never ring.
    #[error("kinds is empty: nothing would ever be told")]
    NoKind,
    /// A folder is not one name.
    #[error("`{0}` is not a folder: give the name of one top-level directory, without `/`")]
    Folder(String),
}

/// A filter ready to be asked.
#[derive(Debug, Clone)]
pub struct Filter {
    text: FilterText,
    include: GlobSet,
    exclude: GlobSet,
    kinds: Vec<EventKind>,
}

impl Filter {
    /// Reads a filter.
    pub fn new(text: FilterText) -> Result<Self, FilterError> {
        if let Some(folder) = text.folders.iter().find(|name| name.is_empty() || name.contains('/')) {
            return Err(FilterError::Folder(folder.clone()));
        }
        let kinds = text.kinds.iter().map(|kind| kind.parse()).collect::<Result<Vec<EventKind>, _>>()?;
        if kinds.is_empty() {
            return Err(FilterError::NoKind);
        }
        Ok(Self { include: globs(&text.include)?, exclude: globs(&text.exclude)?, kinds, text })
    }

    /// The filter as it was written.
    pub fn text(&self) -> &FilterText {
        &self.text
    }

    /// Whether an event of `kind` at `path` is wanted.
    pub fn wants(&self, kind: EventKind, path: &FilePath) -> bool {
        let relative = path.relative();
        self.kinds.contains(&kind)
            && (self.text.folders.is_empty()
                || path.folder().is_some_and(|folder| self.text.folders.iter().any(|name| name.as_bytes() == folder)))
            && (self.include.is_empty() || self.include.is_match(as_path(relative)))
            && !self.exclude.is_match(as_path(relative))
    }
}

fn as_path(bytes: &[u8]) -> &std::path::Path {
    std::path::Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
}

/// Reads globs in which `*` does not cross `/`.
pub fn globs(texts: &[String]) -> Result<GlobSet, FilterError> {
    let wrong =
        |glob: &str, error: &globset::Error| FilterError::Glob { glob: glob.to_owned(), why: error.kind().to_string() };
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(GlobBuilder::new(text).literal_separator(true).build().map_err(|error| wrong(text, &error))?);
    }
    set.build().map_err(|error| wrong(&texts.join(" "), &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(text: FilterText, kind: EventKind, path: &str) -> bool {
        Filter::new(text).unwrap().wants(kind, &FilePath::from_bytes(path.as_bytes()).unwrap())
    }

    #[test]
    fn the_default_wants_every_arrival() {
        assert!(wants(FilterText::default(), EventKind::Created, "/a"));
        assert!(wants(FilterText::default(), EventKind::Updated, "/SEED/a"));
        assert!(!wants(FilterText::default(), EventKind::Deleted, "/a"));
    }

    #[test]
    fn folders_and_globs_narrow_it() {
        let seed = FilterText { folders: vec!["SEED".into()], ..FilterText::default() };
        assert!(wants(seed.clone(), EventKind::Created, "/SEED/sub/a.csv"));
        assert!(!wants(seed.clone(), EventKind::Created, "/SEED2/a.csv"));
        assert!(!wants(seed.clone(), EventKind::Created, "/SEED"), "a file of that name is not in that folder");
        let csv = FilterText { include: vec!["**/*.csv".into()], exclude: vec!["SEED/old/**".into()], ..seed };
        assert!(wants(csv.clone(), EventKind::Created, "/SEED/a.csv"));
        assert!(!wants(csv.clone(), EventKind::Created, "/SEED/a.txt"));
        assert!(!wants(csv, EventKind::Created, "/SEED/old/a.csv"));
    }

    #[test]
    fn a_filter_that_cannot_work_is_refused() {
        for text in [
            FilterText { include: vec!["[".into()], ..FilterText::default() },
            FilterText { kinds: vec!["arrived".into()], ..FilterText::default() },
            FilterText { kinds: Vec::new(), ..FilterText::default() },
            FilterText { folders: vec!["a/b".into()], ..FilterText::default() },
        ] {
            assert!(Filter::new(text).is_err());
        }
    }
}
