//! (d) `recent` and `changes` in accounts of different size. There is no floor but the smaller account.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;
use filebell::store::ChangesOf;
use filebell_core::id::{Cursor, Seq};

use crate::deliveries::{arrival, store};
use crate::{percentile, row};

const ROUNDS: usize = 200;
/// Files that are asked for, whatever else the account has.
const WANTED: u64 = 100;

pub(crate) async fn measure(dir: &Path, sizes: &[u64]) -> Result<()> {
    let mut figures = Vec::new();
    for size in sizes {
        figures.push(one(dir, *size).await?);
    }
    let (first, last) = figures.first().zip(figures.last()).context("two sizes")?;
    for (name, small, large) in [("recent", first.0, last.0), ("changes", first.1, last.1)] {
        let (few, many) = (sizes.first().copied().unwrap_or(0), sizes.last().copied().unwrap_or(0));
        let figure = format!("(d) {name} for {WANTED} files with {many} in the account / with {few}, p50");
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        row(&figure, &format!("{large:.2?}"), &format!("{small:.2?}"), Some(ratio));
    }
    Ok(())
}

async fn one(dir: &Path, size: u64) -> Result<(Duration, Duration)> {
    let data = tempfile::tempdir_in(dir)?;
    let (store, account) = store(data.path()).await?;
    let start = Seams::real().now();
    let early = start.before(Duration::from_secs(3600));
    let journal = Journal::open(store.clone(), Seams::with_clock(move || early), Metrics::new());
    fill(&journal, account, 0..size - WANTED).await?;
    let journal = Journal::open(store.clone(), Seams::with_clock(move || start), Metrics::new());
    fill(&journal, account, size - WANTED..size).await?;
    let after = Cursor::after(Seq::new(i64::try_from(size - WANTED)?));
    let of = ChangesOf { account: Some(account), folders: None };
    let (mut recents, mut changes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let files = store.recent(account, start.to_secs(), None, 1000).await?;
        recents.push(began.elapsed());
        anyhow::ensure!(files.len() as u64 == WANTED, "recent answered {} files", files.len());
        let began = Instant::now();
        let page = store.changes(of.clone(), after, 1000).await?;
        changes.push(began.elapsed());
        anyhow::ensure!(page.events.len() as u64 == WANTED, "changes answered {} events", page.events.len());
    }
    recents.sort();
    changes.sort();
    Ok((percentile(&recents, 0.5), percentile(&changes, 0.5)))
}

/// Records made-up files.
pub(crate) async fn fill(
    journal: &Journal,
    account: filebell_core::id::AccountId,
    mut numbers: std::ops::Range<u64>,
) -> Result<()> {
    while !numbers.is_empty() {
        let batch = numbers.by_ref().take(1000).map(|number| arrival(account, number)).collect::<Result<_>>()?;
        journal.record(batch).await?;
    }
    Ok(())
}
