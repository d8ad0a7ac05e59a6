//! (e) Resident memory and (f) time to start: the real binary, as a process of its own.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;

use crate::deliveries::{store, subscribe};
use crate::pull::fill;
use crate::row;
use crate::scan::Scanned;

pub(crate) async fn measure(dir: &Path, scanned: Option<Scanned>, backlog: u64) -> Result<()> {
    let empty = tempfile::tempdir_in(dir)?;
    report(&format!("data_dir = \"{}\"\n", empty.path().display()), "idle")?;
    if let Some(scanned) = scanned {
        let config = format!(
            "data_dir = \"{}\"\n[[accounts]]\nname = \"bench\"\nroot = \"{}\"\n",
            scanned.data.display(),
            scanned.root.display()
        );
        report(&config, &format!("with {} files", scanned.files))?;
    }
    let data = dir.join("backlog");
    let (store, account) = store(&data).await?;
    // Nobody listens on the discard port: everything stays owed.
    subscribe(&store, account, "each", "http://127.0.0.1:9/").await?;
    fill(&Journal::open(store.clone(), Seams::real(), Metrics::new()), account, 0..backlog).await?;
    drop(store);
    let config = format!("data_dir = \"{}\"\n[egress]\nallow_networks = [\"127.0.0.0/8\"]\n", data.display());
    report(&config, &format!("with a backlog of {backlog}"))
}

/// Starts, lets it run for a moment, and prints both figures.
fn report(config: &str, state: &str) -> Result<()> {
    let server = Server::start(config)?;
    let started = server.started_in;
    std::thread::sleep(Duration::from_secs(5));
    let (resident, peak) = (server.status_kib("VmRSS:")?, server.status_kib("VmHWM:")?);
    row(
        &format!("(e) resident memory {state}, MiB (peak)"),
        &format!("{} ({})", resident / 1024, peak / 1024),
        "",
        None,
    );
    row(&format!("(f) start to ready {state}"), &format!("{started:.2?}"), "", None);
    Ok(())
}

/// A running `filebell serve`.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
    data_dir: PathBuf,
    started_in: Duration,
    _config: tempfile::NamedTempFile,
}

impl Server {
    /// Starts the binary that was built beside this one.
    pub(crate) fn start(config: &str) -> Result<Self> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(format!("listen = \"127.0.0.1:0\"\n{config}").as_bytes())?;
        let binary = std::env::current_exe()?.with_file_name("filebell");
        let began = Instant::now();
        let mut process = Command::new(&binary)
            .args(["serve", "--log", "error", "--config"])
            .arg(file.path())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: build it with `cargo build --release -p filebell`", binary.display()))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        let started_in = began.elapsed();
        let address = line.trim_end().strip_prefix("listening on http://").context("it did not start")?.to_owned();
        let data_dir = config.split('"').nth(1).context("a data_dir comes first")?.into();
        Ok(Self { process, address, data_dir, started_in, _config: file })
    }

    fn status_kib(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no value")?.parse()?)
    }

    /// The name of the file of each event, by its number.
    pub(crate) fn paths_by_seq(&self) -> Result<HashMap<i64, String>> {
        let token = fs::read_to_string(self.data_dir.join("admin-token"))?;
        let (mut names, mut after) = (HashMap::new(), String::new());
        loop {
            let page = self.get(&format!("/api/v1/changes?after={after}"), token.trim())?;
            let page: serde_json::Value = serde_json::from_str(&page)?;
            for event in page.get("events").and_then(|events| events.as_array()).context("events")? {
                let (seq, path) = event.get("seq").zip(event.get("path")).context("an event")?;
                let name = path.as_str().context("a path")?.trim_start_matches('/').to_owned();
                names.insert(seq.as_i64().context("a number")?, name);
            }
            after = page.get("next").and_then(|next| next.as_str()).context("a cursor")?.to_owned();
            if page.get("more") != Some(&serde_json::Value::Bool(true)) {
                return Ok(names);
            }
        }
    }

    fn get(&self, path: &str, token: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split_once("\r\n\r\n").context("an answer has a body")?.1.to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
