//! (c) The first scan of a tree, beside `find -printf` over the same tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;
use filebell::source::folder::{Existing, Folder, FolderConfig, Ignore, Mode, identify};
use filebell::store::{NewAccount, Store, StoreKey};
use filebell_core::time::TimestampMs;

use crate::row;

const FILES_PER_DIRECTORY: u64 = 1000;

/// A tree that has been scanned, and the store that knows it.
pub(crate) struct Scanned {
    pub(crate) files: u64,
    pub(crate) root: PathBuf,
    pub(crate) data: PathBuf,
}

pub(crate) async fn measure(dir: &Path, files: u64) -> Result<Scanned> {
    let (root, data) = (dir.join(format!("tree-{files}")), dir.join(format!("data-{files}")));
    let tree = root.clone();
    tokio::task::spawn_blocking(move || make_tree(&tree, files)).await??;
    // What the tree has left to be written is not to be waited for below.
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    let floor = find(&root)?;
    let ours = first_scan(&root, &data).await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of files")]
    let rate = |took: Duration| files as f64 / took.as_secs_f64();
    let figure = format!("(c) first scan of {files} files, files/s");
    row(&figure, &format!("{:.0}", rate(ours)), &format!("{:.0}", rate(floor)), Some(rate(ours) / rate(floor)));
    Ok(Scanned { files, root, data })
}

fn make_tree(root: &Path, files: u64) -> Result<()> {
    for number in 0..files {
        let directory = root.join(format!("{:04}", number / FILES_PER_DIRECTORY));
        if number % FILES_PER_DIRECTORY == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(format!("{number:07}.dat")), number.to_le_bytes())?;
    }
    Ok(())
}

/// The second of two runs, so that both are warm.
fn find(root: &Path) -> Result<Duration> {
    let mut took = Duration::ZERO;
    for _ in 0..2 {
        let began = Instant::now();
        let mut find = Command::new("find");
        find.arg(root).args(["-type", "f", "-printf", "%p %s %T@ %C@ %i\\n"]).stdout(Stdio::null());
        ensure!(find.status()?.success(), "find failed");
        took = began.elapsed();
    }
    Ok(took)
}

async fn first_scan(root: &Path, data: &Path) -> Result<Duration> {
    fs::create_dir_all(data)?;
    let store = Store::open_sqlite(data, StoreKey::load_or_create(data)?).await?;
    let account = NewAccount {
        name: "bench".into(),
        password_hash: None,
        root: Some(fs::canonicalize(root)?),
        customer_url: String::new(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: false,
    };
    let account = store.upsert_account(account, TimestampMs::ZERO).await?;
    let seams = Seams::real();
    let journal = Journal::open(store.clone(), seams.clone(), Metrics::new());
    let config = FolderConfig {
        settle: Duration::from_secs(2),
        quiet: Duration::ZERO,
        orphan_after: Duration::from_secs(60),
        existing: Existing::None,
        rescan: Duration::from_secs(600),
        mode: Mode::Auto,
        ignore: Ignore::new(&[])?,
    };
    let began = Instant::now();
    let known = store.keep_root(account.id, identify(root)?).await?;
    let folder = Folder::start(account.id, account.name, root, known, config, journal).await?;
    while !store.root_state(account.id, seams.now()).await?.baseline_done {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    folder.stop().await;
    Ok(took)
}
