//! The commands: each parses its arguments, asks `ops` (or runs the app, or the client), and prints the result.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod admin;
mod listen;
mod observe;
mod output;
mod quickstart;
mod serve;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use filebell::config::{Config, ConfigError, Sources};
use filebell::ops::OpsError;
use filebell_core::secret::Secret;

use output::Output;

/// Tells registered applications, quickly, verifiably and without missing one, that files have arrived.
#[derive(Parser)]
#[command(name = "filebell", version, propagate_version = true, subcommand_required = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See the whole job once, on temporary folders:
    filebell quickstart --exit
  Tell one webhook about one folder, without any configuration:
    filebell serve --watch /srv/inbox --notify https://app.example.org/hook
  Serve what a file declares (filebell.example.toml explains every key):
    filebell serve --config /etc/filebell.toml
  Receive, verify, pull and download:
    filebell listen --help

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

#[derive(Args)]
struct Global {
    /// Configuration file (TOML)
    #[arg(long, global = true, value_name = "FILE", env = "FILEBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Where the embedded store lives [default: filebell-data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// How logs are written to stderr
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value = "human",
        env = "FILEBELL_LOG_FORMAT"
    )]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or such as info,filebell::delivery=debug
    #[arg(long, global = true, value_name = "LEVEL", env = "FILEBELL_LOG")]
    log: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Human,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Show the whole job on temporary folders: a server, a receiver for each protocol, real files
    Quickstart(quickstart::Args),
    /// Watch, tell, and serve the pull side
    Serve(Box<serve::Args>),
    /// Receive notifications: verify, pull, download into a directory, resume
    Listen(Box<listen::Args>),
    /// Accounts: the owners of trees of files
    #[command(subcommand)]
    Account(admin::AccountCommand),
    /// Applications: third-party programs that are told and may pull
    #[command(subcommand)]
    Application(admin::ApplicationCommand),
    /// Subscriptions: who is told what, where
    #[command(subcommand)]
    Subscription(admin::SubscriptionCommand),
    /// The keys that tokens are signed with
    #[command(subcommand)]
    Keys(admin::KeysCommand),
    /// Make an access and a refresh token for what an account granted an application
    Token(admin::TokenArgs),
    /// Send a notification again, or the dead ones of a subscription
    Replay(admin::ReplayArgs),
    /// Show how everything stands: sources, subscriptions, what is owed
    Status,
    /// Have the roots walked now
    Scan(observe::ScanArgs),
    /// Show events as they come
    Tail(observe::TailArgs),
    /// Say whether a file was told, to whom and when, or why not
    Why(observe::WhyArgs),
    /// Look for what is wrong, and say what to do
    #[command(after_help = "Exit codes: 0 all is well, 1 there are problems.")]
    Doctor,
}

/// The arguments cannot be used as they are: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs one command.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure; what cannot be printed is nobody's loss.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            if is_wrong_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Whether other arguments would have been right, whatever the state of things.
fn is_wrong_usage(error: &anyhow::Error) -> bool {
    let unusable = |error: &OpsError| {
        matches!(error, OpsError::Name(_) | OpsError::Endpoint(_) | OpsError::Filter(_) | OpsError::Key(_))
    };
    error.is::<ConfigError>() || error.is::<Usage>() || error.downcast_ref().is_some_and(unusable)
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { global, command } = cli;
    let quiet = !matches!(command, Command::Serve(_));
    start_log(&global, if quiet { "warn" } else { "info" })?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime cannot be started")?;
    let out = Output::new(global.json);
    runtime.block_on(async {
        match command {
            Command::Quickstart(args) => quickstart::run(args, &out).await,
            Command::Serve(args) => serve::run(*args, &global, &out).await,
            Command::Listen(args) => listen::run(*args, &out).await,
            Command::Account(command) => admin::account(command, &global, &out).await,
            Command::Application(command) => admin::application(command, &global, &out).await,
            Command::Subscription(command) => admin::subscription(command, &global, &out).await,
            Command::Keys(command) => admin::keys(command, &global, &out).await,
            Command::Token(args) => admin::token(args, &global, &out).await,
            Command::Replay(args) => admin::replay(args, &global, &out).await,
            Command::Status => observe::status(&global, &out).await,
            Command::Scan(args) => observe::scan(args, &global, &out).await,
            Command::Tail(args) => observe::tail(args, &global, &out).await,
            Command::Why(args) => observe::why(args, &global, &out).await,
            Command::Doctor => observe::doctor(&global, &out).await,
        }
    })
}

fn start_log(global: &Global, default: &str) -> anyhow::Result<()> {
    use std::io::{IsTerminal as _, stderr};
    let text = global.log.as_deref().unwrap_or(default);
    let filter = tracing_subscriber::EnvFilter::try_new(text)
        .map_err(|error| Usage(format!("--log {text}: {error}; write a level such as info or debug")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match global.log_format {
        LogFormat::Human => log.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

impl Global {
    /// The configuration, with these flags besides the global ones.
    fn load(&self, flags: Vec<(&'static str, Option<String>)>, to_serve: bool) -> Result<Config, ConfigError> {
        let flags = flags.into_iter().chain([("data_dir", self.data_dir.clone())]);
        Config::load(&Sources {
            file: self.config.clone(),
            env: &|name| std::env::var(name).ok(),
            flags: flags.filter_map(|(key, text)| Some((key, text?))).collect(),
            look_at_roots: to_serve,
        })
    }
}

/// To look or to take away there must be a data directory already.
fn must_exist(config: &Config) -> anyhow::Result<()> {
    let data_dir = config.data_dir.display();
    anyhow::ensure!(
        config.data_dir.exists(),
        "there is no data directory {data_dir}: give the server's by --data-dir or --config"
    );
    Ok(())
}

/// Where a secret is read from: a file, or else an environment variable. The command line is visible to everybody.
fn secret_from(file: Option<&PathBuf>, variable: &str) -> anyhow::Result<Option<Secret>> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?,
        None => match std::env::var(variable) {
            Ok(text) => text,
            Err(_) => return Ok(None),
        },
    };
    let text = text.trim_end_matches(['\r', '\n']);
    let place = file.map_or_else(|| variable.to_owned(), |path| path.display().to_string());
    if text.is_empty() { Err(Usage(format!("{place} is empty")).into()) } else { Ok(Some(Secret::new(text))) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_arguments_are_consistent() {
        <super::Cli as clap::CommandFactory>::command().debug_assert();
    }
}
