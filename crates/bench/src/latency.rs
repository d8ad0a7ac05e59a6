//! (b) From close(2) to the POST received, at a steady rate. The floor is a bare inotify-and-POST loop with one
//! fdatasync between event and POST; both are processes beside the one that writes and receives.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use inotify::{Inotify, WatchMask};

use crate::server::Server;
use crate::sink::{Sink, bare_client, post};
use crate::{percentile, row};

pub(crate) async fn measure(dir: &Path, rate: u32, lasting: Duration) -> Result<()> {
    let ours = filebell(dir, rate, lasting, "").await?;
    let floor = bare(dir, rate, lasting).await?;
    for (name, part) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let (ours, floor) = (percentile(&ours, part), percentile(&floor, part));
        let ratio = ours.as_secs_f64() / floor.as_secs_f64();
        let figure = format!("(b) close to POST received at {rate} files/s, {name}");
        row(&figure, &format!("{ours:.2?}"), &format!("{floor:.2?}"), Some(ratio));
    }
    Ok(())
}

/// (g) What a hanging and a dripping endpoint cost a healthy one beside them.
pub(crate) async fn isolation(dir: &Path, rate: u32, lasting: Duration) -> Result<()> {
    let alone = filebell(dir, rate, lasting, "").await?;
    let (hanging, dripping) = (Bad::hanging().await?, Bad::dripping().await?);
    let more: String = [("hanging", hanging.0), ("dripping", dripping.0)]
        .map(|(name, address)| {
            format!(
                "[[subscriptions]]\nname = \"{name}\"\naccount = \"bench\"\nprotocol = \"standard\"\n\
                 url = \"http://{address}/\"\nkey = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n"
            )
        })
        .concat();
    let beside = filebell(dir, rate, lasting, &more).await?;
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let (beside, alone) = (percentile(&beside, part), percentile(&alone, part));
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        let figure =
            format!("(g) healthy endpoint beside a hanging and a dripping one / alone, {rate} files/s, {name}");
        row(&figure, &format!("{beside:.2?}"), &format!("{alone:.2?}"), Some(ratio));
    }
    Ok(())
}

/// An endpoint that takes a connection and then does not do its part.
struct Bad(std::net::SocketAddr);

impl Bad {
    /// Says nothing.
    async fn hanging() -> Result<Self> {
        Self::start(None).await
    }

    /// Answers one byte a second.
    async fn dripping() -> Result<Self> {
        Self::start(Some(Duration::from_secs(1))).await
    }

    async fn start(gap: Option<Duration>) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Some(gap) = gap else { return std::future::pending().await };
                    for byte in b"HTTP/1.1 204 No Content\r\n\r\n" {
                        tokio::io::AsyncWriteExt::write_all(&mut stream, &[*byte]).await?;
                        tokio::time::sleep(gap).await;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Ok(Self(address))
    }
}

async fn filebell(dir: &Path, rate: u32, lasting: Duration, more: &str) -> Result<Vec<Duration>> {
    let (root, data) = (tempfile::tempdir_in(dir)?, tempfile::tempdir_in(dir)?);
    let sink = Sink::start(true).await?;
    let server = Server::start(&format!(
        "data_dir = \"{}\"\n[egress]\nallow_networks = [\"127.0.0.0/8\"]\n[[accounts]]\nname = \"bench\"\n\
         root = \"{}\"\n[[subscriptions]]\nname = \"each\"\naccount = \"bench\"\nprotocol = \"standard\"\n\
         url = \"{}\"\nkey = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n{more}",
        data.path().display(),
        root.path().display(),
        sink.url("/")
    ))?;
    let closed = write_steadily(root.path().to_owned(), rate, lasting).await?;
    sink.seen.wait_for(closed.len() as u64).await;
    // A thin notification names no file: the journal says which event was which.
    let names = server.paths_by_seq()?;
    let mut waits = Vec::new();
    for (at, body) in sink.seen.bodies() {
        let body: serde_json::Value = serde_json::from_slice(&body)?;
        let last = body.pointer("/data/last").and_then(|last| last.as_str()).context("a cursor")?;
        let seq: i64 = last.trim_start_matches("cur_").parse()?;
        if let Some(closed) = names.get(&seq).and_then(|name| closed.get(name)) {
            waits.push(at.saturating_duration_since(*closed));
        }
    }
    waits.sort();
    Ok(waits)
}

/// The floor: a process of its own, as filebell is one, which does [`bare_loop`].
async fn bare(dir: &Path, rate: u32, lasting: Duration) -> Result<Vec<Duration>> {
    let root = tempfile::tempdir_in(dir)?;
    let sink = Sink::start(true).await?;
    let _running = BareLoop::start(root.path(), &sink.url("/"))?;
    let closed = write_steadily(root.path().to_owned(), rate, lasting).await?;
    sink.seen.wait_for(closed.len() as u64).await;
    let mut waits: Vec<Duration> = sink
        .seen
        .bodies()
        .iter()
        .filter_map(|(at, name)| Some(at.saturating_duration_since(*closed.get(std::str::from_utf8(name).ok()?)?)))
        .collect();
    waits.sort();
    Ok(waits)
}

/// The process of the floor.
struct BareLoop(Child);

impl BareLoop {
    fn start(root: &Path, url: &str) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([OsStr::new("--bare-loop"), root.as_os_str(), OsStr::new(url)])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(Self(process))
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Watches a directory and posts the name of every file that was closed, after one fdatasync, until it is killed. Says
/// on its output when it watches.
pub(crate) async fn bare_loop(root: &Path, url: &str) -> Result<()> {
    let mut inotify = Inotify::init()?;
    inotify.watches().add(root, WatchMask::CLOSE_WRITE)?;
    let (events, mut heard) = tokio::sync::mpsc::unbounded_channel::<String>();
    let mut log = tempfile::tempfile_in(root.parent().context("a parent")?)?;
    std::thread::spawn(move || -> Result<()> {
        let mut buffer = [0; 64 * 1024];
        loop {
            let read: Vec<String> = inotify
                .read_events_blocking(&mut buffer)?
                .filter_map(|event| Some(event.name?.to_string_lossy().into_owned()))
                .collect();
            log.write_all(&[0; 256])?;
            log.sync_data()?;
            for name in read {
                if events.send(name).is_err() {
                    return Ok(());
                }
            }
        }
    });
    println!("watching");
    let client = bare_client();
    while let Some(name) = heard.recv().await {
        let (client, url) = (client.clone(), url.to_owned());
        tokio::spawn(async move { post(&client, &url, &[], Bytes::from(name)).await });
    }
    Ok(())
}

/// Writes small files at a steady rate; answers when each was closed.
async fn write_steadily(root: std::path::PathBuf, rate: u32, lasting: Duration) -> Result<HashMap<String, Instant>> {
    tokio::task::spawn_blocking(move || {
        let (gap, began) = (Duration::from_secs(1) / rate, Instant::now());
        let mut closed = HashMap::new();
        for number in 0.. {
            let due = began + gap * number;
            if due - began > lasting {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let name = format!("{number:07}");
            let mut file = File::create(root.join(&name))?;
            file.write_all(name.as_bytes())?;
            drop(file);
            closed.insert(name, Instant::now());
        }
        fs::metadata(root)?;
        Ok(closed)
    })
    .await?
}
