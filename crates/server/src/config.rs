//! What was typed -> what is true.
//!
//! Flags, environment, file and defaults are merged in this order by `typed`, which checks shapes and unknown
//! keys; the step from there to [`Config`] checks meanings and what one key asks of another. All mistakes are
//! reported together. Nothing after this room looks at a text or a default again.

mod check;
mod duration;
mod size;
mod typed;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use filebell_core::secret::Secret;
use url::Url;

use crate::delivery::{DeliveryConfig, Policy};
use crate::ops::{AccountRequest, ApplicationRequest, GrantRequest, SageX3Settings, SubscriptionRequest};
use crate::source::folder::{Existing, Mode};

pub use duration::{NotADuration, parse_duration};
pub use size::{NotASize, parse_size, size_text};

/// The scope an operator's grant has if none is named.
pub const SCOPE_DEFAULT: &str = "api.dataDelivery";

/// What is true.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Listen,
    /// Base of every URL handed out; `None` takes it from the address listened on.
    pub public_url: Option<Url>,
    /// Where the embedded store and its key live.
    pub data_dir: PathBuf,
    /// The operator's token; `None` takes the one in `data_dir/admin-token`, made when it is missing.
    pub admin_token: Option<Secret>,
    /// How files are noticed.
    pub watch: WatchConfig,
    /// How notifications are sent.
    pub delivery: DeliveryConfig,
    /// Where they may go.
    pub egress: Policy,
    /// What Sage X3's documentation leaves to choose.
    pub sagex3: SageX3Settings,
    /// Accounts declared in the file.
    pub accounts: Vec<AccountRequest>,
    /// Subscriptions declared in the file.
    pub subscriptions: Vec<SubscriptionRequest>,
    /// Applications declared in the file, each with its grants.
    pub applications: Vec<(ApplicationRequest, Vec<GrantRequest>)>,
}

/// A host and a port to listen on; the host may be a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An address or a name, without brackets.
    pub host: String,
    /// Zero takes any that is free.
    pub port: u16,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// How files are noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// Standing still for so long counts as finished where no lease proves it.
    pub settle: Duration,
    /// Extra wait after a proved end of writing.
    pub quiet: Duration,
    /// How long a file whose writer was killed waits for another one to go on with it.
    pub orphan_after: Duration,
    /// What of a new root is told that is already there.
    pub existing: Existing,
    /// How often every root is listed again.
    pub rescan: Duration,
    /// How changes are seen.
    pub mode: Mode,
    /// Globs of names that are never told.
    pub ignore: Vec<String>,
}

/// Where the configuration comes from.
pub struct Sources<'a> {
    /// The file; `None` if there is none.
    pub file: Option<PathBuf>,
    /// The environment, asked for names such as `FILEBELL_LISTEN`.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// What was given on the command line: the name of a key and its text.
    pub flags: Vec<(&'static str, String)>,
    /// Whether the accounts' roots must be there now: they must to serve, not to list who is who.
    pub look_at_roots: bool,
}

/// One mistake: where it stands, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// File and line, environment variable or flag.
    pub place: String,
    /// The key, such as `watch.settle`; `None` where the place says it all.
    pub key: Option<String>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: {key}: {}", self.place, self.what),
            None => write!(f, "{}: {}", self.place, self.what),
        }
    }
}

/// The configuration cannot be used; everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// In the order of the file, then environment and flags.
    pub mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the configuration has a mistake")?,
            count => write!(f, "the configuration has {count} mistakes")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl Config {
    /// Reads and checks the configuration.
    pub fn load(sources: &Sources<'_>) -> Result<Self, ConfigError> {
        let text = match &sources.file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let what = format!("cannot be read: {error}");
                ConfigError { mistakes: vec![Mistake { place: path.display().to_string(), key: None, what }] }
            })?,
            None => String::new(),
        };
        let mistakes = typed::Mistakes::default();
        let typed = typed::read(sources, &text, &mistakes);
        let base = sources.file.as_deref().and_then(std::path::Path::parent).unwrap_or(std::path::Path::new(""));
        let config = check::Check { base, mistakes: &mistakes, look_at_roots: sources.look_at_roots }.config(typed);
        mistakes.none_or_all(sources.file.as_deref()).map(|()| config)
    }
}
