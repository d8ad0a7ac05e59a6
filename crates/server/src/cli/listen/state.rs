//! What a receiver remembers over a restart: how far it has come, and what it took on but has not done yet.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FILE: &str = ".filebell-listen.json";
/// So many notifications that were done are remembered, to know a repeated one.
const DONE_MAX: usize = 10_000;

/// The file beside the downloads. Every change is on disk before it counts.
pub(super) struct State {
    path: PathBuf,
    pub(super) kept: Kept,
}

/// Whose files lie in the directory, and how far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    protocol: String,
    server: String,
    account: String,
    /// `nextcloud`: all that arrived before this second is here, and of this second the files `at_since`.
    #[serde(default)]
    pub(super) since: i64,
    #[serde(default)]
    pub(super) at_since: BTreeSet<i64>,
    /// `standard`: where to go on in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
    /// `sagex3`: notifications that were accepted and not done yet.
    #[serde(default)]
    pub(super) pending: Vec<Uuid>,
    /// `sagex3`: the newest that were done.
    #[serde(default)]
    pub(super) done: VecDeque<Uuid>,
}

impl State {
    /// Reads what is remembered in `directory`, or begins. A directory that holds another server's files is refused.
    pub(super) fn open(directory: &Path, protocol: &str, server: &str, account: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(FILE);
        let owner = |kept: &Kept| format!("{} of account `{}` at {}", kept.protocol, kept.account, kept.server);
        let fresh = Kept {
            protocol: protocol.to_owned(),
            server: server.trim_end_matches('/').to_owned(),
            account: account.to_owned(),
            since: 0,
            at_since: BTreeSet::new(),
            cursor: None,
            pending: Vec::new(),
            done: VecDeque::new(),
        };
        let kept = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes)
                .with_context(|| format!("{} cannot be read; remove it to begin anew", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh.clone(),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        if owner(&kept) != owner(&fresh) {
            anyhow::bail!(
                "{} holds the files told by {}, not by {}: choose another directory with --into",
                directory.display(),
                owner(&kept),
                owner(&fresh)
            );
        }
        let state = Self { path, kept };
        state.write(&state.kept)?;
        Ok(state)
    }

    /// Changes what is remembered. After an error nothing has changed.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Kept)) -> anyhow::Result<()> {
        let mut kept = self.kept.clone();
        change(&mut kept);
        self.write(&kept)?;
        self.kept = kept;
        Ok(())
    }

    fn write(&self, kept: &Kept) -> anyhow::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let written = || -> io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(FILE).tempfile_in(directory)?;
            file.write_all(&serde_json::to_vec_pretty(kept)?)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            File::open(directory)?.sync_all()
        };
        written().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

impl Kept {
    /// Takes a notification on, unless it is a repeated one.
    pub(super) fn take_on(&mut self, id: Uuid) {
        if !self.pending.contains(&id) && !self.done.contains(&id) {
            self.pending.push(id);
        }
    }

    pub(super) fn finish(&mut self, id: Uuid) {
        self.pending.retain(|pending| *pending != id);
        self.done.push_back(id);
        while self.done.len() > DONE_MAX {
            self.done.pop_front();
        }
    }

    /// A file that arrived in the second `time` is here, as is everything before it.
    pub(super) fn arrived(&mut self, time: i64, id: i64) {
        if time > self.since {
            self.since = time;
            self.at_since.clear();
        }
        self.at_since.insert(id);
    }

    pub(super) fn has(&self, time: i64, id: i64) -> bool {
        time < self.since || (time == self.since && self.at_since.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_after_a_restart_and_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let open = |server| State::open(directory.path(), "nextcloud", server, "test2");
        let mut state = open("http://a/").unwrap();
        let id = Uuid::from_u128(7);
        state
            .change(|kept| {
                kept.take_on(id);
                kept.take_on(id);
                kept.arrived(5, 1);
                kept.arrived(6, 2);
            })
            .unwrap();
        let mut again = open("http://a").unwrap();
        assert_eq!(again.kept, state.kept);
        assert_eq!(again.kept.pending, [id]);
        assert!(again.kept.has(5, 9) && again.kept.has(6, 2) && !again.kept.has(6, 3) && !again.kept.has(7, 2));
        again.change(|kept| kept.finish(id)).unwrap();
        again.kept.take_on(id);
        assert!(again.kept.pending.is_empty());
        assert!(open("http://b").is_err());
    }
}
