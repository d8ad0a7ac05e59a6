//! Measures filebell beside the floors of the machine it runs on, both in one run.
//!
//! Absolute figures move by a third between runs; the ratios are what to compare. Nothing here passes or fails.
#![expect(clippy::print_stdout, reason = "figures are the result")]

mod deliveries;
mod latency;
mod pull;
mod scan;
mod server;
mod sink;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

/// Measures filebell beside the floors of this machine.
#[derive(Parser)]
struct Arguments {
    /// Which of a (deliveries), b (latency), c (scan), d (pull), e (memory), f (start), g (isolation),
    /// h (uploads), i (recent over HTTP); all if none is named.
    which: Vec<String>,
    /// A tenth of the sizes, for a first look.
    #[arg(long)]
    quick: bool,
    /// Where trees and stores are made.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Is the floor of (b).
    #[arg(long, hide = true, num_args = 2, value_names = ["DIR", "URL"])]
    bare_loop: Option<Vec<String>>,
}

/// The sizes of everything, in full or quick.
#[derive(Clone, Copy)]
struct Sizes {
    deliveries: u64,
    latency_for: Duration,
    few_files: u64,
    many_files: u64,
    backlog: u64,
    upload_mib: usize,
    small_uploads: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let part = if arguments.quick { 10 } else { 1 };
    let sizes = Sizes {
        deliveries: 60_000 / part,
        latency_for: Duration::from_secs(10) / u32::try_from(part)?,
        few_files: 100_000 / part,
        many_files: 1_000_000 / part,
        backlog: 1_000_000 / part,
        upload_mib: 1024 / usize::try_from(part)?,
        small_uploads: 1000 / usize::try_from(part)?,
    };
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let wants = |letter: &str| arguments.which.is_empty() || arguments.which.iter().any(|one| one == letter);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some([root, url]) = arguments.bare_loop.as_deref() {
        return runtime.block_on(latency::bare_loop(root.as_ref(), url));
    }
    println!("| figure | filebell | floor | filebell / floor |\n|---|---|---|---|");
    runtime.block_on(async {
        if wants("a") {
            for endpoints in [1, 10] {
                deliveries::measure(dir.path(), sizes.deliveries, endpoints).await?;
            }
        }
        if wants("b") {
            for rate in [100, 1000] {
                latency::measure(dir.path(), rate, sizes.latency_for).await?;
            }
        }
        if wants("g") {
            latency::isolation(dir.path(), 100, sizes.latency_for).await?;
        }
        let mut scanned = None;
        if wants("c") || wants("e") || wants("f") {
            for files in [sizes.few_files, sizes.many_files] {
                scanned = Some(scan::measure(dir.path(), files).await?);
            }
        }
        if wants("d") {
            pull::measure(dir.path(), &[sizes.many_files / 100, sizes.many_files]).await?;
        }
        if wants("h") {
            upload::measure(dir.path(), sizes.upload_mib, sizes.small_uploads)?;
        }
        if wants("i") {
            upload::recent(dir.path(), &[sizes.many_files / 100, sizes.many_files]).await?;
        }
        if wants("e") || wants("f") {
            server::measure(dir.path(), scanned, sizes.backlog).await?;
        }
        Ok(())
    })
}

/// One row of the table.
fn row(figure: &str, ours: &str, floor: &str, ratio: Option<f64>) {
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    println!("| {figure} | {ours} | {floor} | {ratio} |");
}

/// Seconds of processor time this process has used.
fn cpu_secs() -> f64 {
    let mut usage = 0.0;
    if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
        // After the name, which may hold blanks: utime and stime are the 12th and 13th, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        usage = (ticks(11) + ticks(12)) / 100.0;
    }
    usage
}

/// The value below which a part of the sorted values lies.
fn percentile(sorted: &[Duration], part: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into what is in memory")]
    let at = ((sorted.len() as f64) * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
