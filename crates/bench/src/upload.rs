//! (h) Uploads by WebDAV, beside writing the same bytes to the same disk, and beside another WebDAV server; (i) `recent`
//! over HTTP in accounts of different size.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;

use crate::deliveries::store;
use crate::pull::fill;
use crate::server::Server;
use crate::{percentile, row};

const PIECE_BYTES: usize = 1 << 20;
const SMALL_BYTES: usize = 4096;
const CONNECTIONS: usize = 8;
/// Files that are asked for, whatever else the account has.
const WANTED: u64 = 100;
const ROUNDS: usize = 200;
/// `bench:bench`.
const AUTHORIZATION: &str = "Basic YmVuY2g6YmVuY2g=";

pub(crate) fn measure(dir: &Path, large_mib: usize, small_files: usize) -> Result<()> {
    let (root, data) = (dir.join("uploads"), dir.join("uploads-data"));
    fs::create_dir(&root)?;
    let config = format!(
        "data_dir = \"{}\"\n[[accounts]]\nname = \"bench\"\npassword = \"bench\"\nroot = \"{}\"\n",
        data.display(),
        root.display()
    );
    let server = Server::start(&config)?;
    let ours = uploads(&server.address, "/remote.php/webdav", large_mib, small_files)?;
    drop(server);
    let other = Rclone::start(&dir.join("rclone"))?;
    let theirs = uploads(&other.address, "", large_mib, small_files)?;
    drop(other);
    let floor = bare(&dir.join("bare"), large_mib, small_files)?;
    let say = |what: String, unit: &str, at: fn(&Figures) -> f64, bare: Option<f64>| {
        let (own, rclone) = (at(&ours), at(&theirs));
        if let Some(bare) = bare {
            row(&format!("(h) {what}, {unit}; bare writes, synced"), &text(own), &text(bare), Some(own / bare));
        }
        row(
            &format!("(h) {what}, {unit}; rclone serve webdav, not synced"),
            &text(own),
            &text(rclone),
            Some(own / rclone),
        );
    };
    say(format!("upload of {large_mib} MiB"), "MiB/s", |all| all.large, Some(floor.large));
    say(format!("{small_files} uploads of 4 KiB, one connection"), "files/s", |all| all.small, Some(floor.small));
    say(format!("{small_files} uploads of 4 KiB, {CONNECTIONS} connections"), "files/s", |all| all.parallel, None);
    Ok(())
}

struct Figures {
    /// MiB a second.
    large: f64,
    /// Files a second.
    small: f64,
    /// The same with several connections.
    parallel: f64,
}

fn text(figure: f64) -> String {
    format!("{figure:.0}")
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
fn rate(count: usize, began: Instant) -> f64 {
    count as f64 / began.elapsed().as_secs_f64()
}

fn uploads(address: &str, base: &str, large_mib: usize, small_files: usize) -> Result<Figures> {
    // Logging in costs what it is meant to cost, once.
    put(&mut TcpStream::connect(address)?, &format!("{base}/first"), 1, SMALL_BYTES)?;
    let began = Instant::now();
    put(&mut TcpStream::connect(address)?, &format!("{base}/large"), large_mib, PIECE_BYTES)?;
    let large = rate(large_mib, began);
    let began = Instant::now();
    several(address, base, "s", small_files)?;
    let small = rate(small_files, began);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let each = |at: usize| move || several(address, base, &format!("p{at}-"), small_files / CONNECTIONS);
        let started: Vec<_> = (0..CONNECTIONS).map(|at| scope.spawn(each(at))).collect();
        started.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a sender failed"))?)
    })?;
    Ok(Figures { large, small, parallel: rate(small_files / CONNECTIONS * CONNECTIONS, began) })
}

fn several(address: &str, base: &str, prefix: &str, count: usize) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    (0..count).try_for_each(|number| put(&mut stream, &format!("{base}/{prefix}{number}"), 1, SMALL_BYTES))
}

fn put(stream: &mut TcpStream, path: &str, pieces: usize, piece_bytes: usize) -> Result<()> {
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {AUTHORIZATION}\r\nContent-Length: {}\r\n\r\n",
        pieces * piece_bytes
    );
    let piece = vec![b'x'; piece_bytes];
    // One packet, where it is a small one.
    stream.write_all(&[head.as_bytes(), &piece].concat())?;
    (1..pieces).try_for_each(|_| stream.write_all(&piece))?;
    let mut lines = BufReader::new(&*stream);
    let mut status = String::new();
    lines.read_line(&mut status)?;
    ensure!(status.contains(" 201 "), "{path}: {status}");
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            Some(_) => (),
            None => break,
        }
    }
    lines.read_exact(&mut vec![0; length])?;
    Ok(())
}

/// What the disk does with the same bytes: `dd conv=fsync` for the large file, write and sync for each small one.
fn bare(directory: &Path, large_mib: usize, small_files: usize) -> Result<Figures> {
    fs::create_dir(directory)?;
    let began = Instant::now();
    let to = format!("of={}", directory.join("large").display());
    let count = format!("count={large_mib}");
    let done = Command::new("dd").args(["if=/dev/zero", &to, "bs=1M", &count, "conv=fsync"]).output()?;
    ensure!(done.status.success(), "dd failed");
    let large = rate(large_mib, began);
    let began = Instant::now();
    for number in 0..small_files {
        let mut file = File::create(directory.join(number.to_string()))?;
        file.write_all(&[b'x'; SMALL_BYTES])?;
        file.sync_all()?;
    }
    Ok(Figures { large, small: rate(small_files, began), parallel: 0.0 })
}

struct Rclone {
    process: Child,
    address: String,
}

impl Rclone {
    fn start(directory: &Path) -> Result<Self> {
        fs::create_dir(directory)?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let process = Command::new("rclone")
            .args(["serve", "webdav", "--addr", &address, "--user", "bench", "--pass", "bench"])
            .arg(directory)
            .stderr(Stdio::null())
            .spawn()
            .context("rclone is needed")?;
        let other = Self { process, address };
        let began = Instant::now();
        while TcpStream::connect(&other.address).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(10), "rclone does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(other)
    }
}

impl Drop for Rclone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) async fn recent(dir: &Path, sizes: &[u64]) -> Result<()> {
    let mut figures = Vec::new();
    for size in sizes {
        figures.push(recent_of(&dir.join(format!("recent-{size}")), *size).await?);
    }
    let (small, large) = figures.first().zip(figures.last()).context("two sizes")?;
    let (few, many) = (sizes.first().copied().unwrap_or(0), sizes.last().copied().unwrap_or(0));
    let figure = format!("(i) recent over HTTP for {WANTED} files with {many} in the account / with {few}, p50");
    row(&figure, &format!("{large:.2?}"), &format!("{small:.2?}"), Some(large.as_secs_f64() / small.as_secs_f64()));
    Ok(())
}

async fn recent_of(data: &Path, size: u64) -> Result<Duration> {
    let start = Seams::real().now();
    {
        let (store, account) = store(data).await?;
        let early = start.before(Duration::from_secs(3600));
        let journal = Journal::open(store.clone(), Seams::with_clock(move || early), Metrics::new());
        fill(&journal, account, 0..size - WANTED).await?;
        let journal = Journal::open(store, Seams::with_clock(move || start), Metrics::new());
        fill(&journal, account, size - WANTED..size).await?;
    }
    let config = format!("data_dir = \"{}\"\n[[accounts]]\nname = \"bench\"\npassword = \"bench\"\n", data.display());
    let server = Server::start(&config)?;
    let request = format!(
        "GET /ocs/v2.php/apps/file_upload_notification/api/recent?since={}&format=json HTTP/1.0\r\nHost: bench\r\n\
         OCS-APIRequest: true\r\nAuthorization: {AUTHORIZATION}\r\n\r\n",
        start.to_secs().as_secs()
    );
    let mut times = Vec::new();
    for _ in 0..=ROUNDS {
        let began = Instant::now();
        let mut stream = TcpStream::connect(&server.address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        times.push(began.elapsed());
        ensure!(answer.contains(&format!("\"count\":{WANTED},")), "{answer}");
    }
    // The first one logs in.
    times.remove(0);
    times.sort();
    Ok(percentile(&times, 0.5))
}
