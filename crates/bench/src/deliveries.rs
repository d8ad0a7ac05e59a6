//! (a) Deliveries a second, durable, one notification a file: recorded, sent, settled. The floor is the same signed
//! body posted by the same client in a bare loop.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use filebell::delivery::{DeliveryConfig, Dispatcher, Egress, Feed, Hints, Onlookers, Policy};
use filebell::journal::Journal;
use filebell::metrics::Metrics;
use filebell::seams::Seams;
use filebell::store::{NewAccount, NewProtocol, NewSubscription, Store, StoreKey};
use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::filter::FilterText;
use filebell_core::id::{AccountId, Cursor, NotificationId, Seq, SubscriptionId};
use filebell_core::path::FilePath;
use filebell_core::retry::Schedule;
use filebell_core::ring::Rings;
use filebell_core::secret::Secret;
use filebell_core::time::TimestampMs;
use filebell_core::wire::standard::{self, StandardKey, Thin};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::sink::{Sink, bare_client, post};
use crate::{cpu_secs, row};

/// Connections kept alive to each sink, as `max_in_flight_per_endpoint` has it.
const CONNECTIONS: usize = 16;
const KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

pub(crate) async fn measure(dir: &Path, count: u64, endpoints: u64) -> Result<()> {
    let (floor, floor_cpu) = bare(count, endpoints).await?;
    let (ours, ours_cpu) = durable(dir, count, endpoints).await?;
    let name = format!("(a) deliveries/s to {endpoints} endpoint(s), {count} in all");
    row(&name, &format!("{ours:.0}"), &format!("{floor:.0}"), Some(ours / floor));
    let name = format!("(a) CPU s per 1 000 deliveries to {endpoints} endpoint(s), sink included");
    row(&name, &format!("{ours_cpu:.3}"), &format!("{floor_cpu:.3}"), Some(ours_cpu / floor_cpu));
    Ok(())
}

async fn bare(count: u64, endpoints: u64) -> Result<(f64, f64)> {
    let key = StandardKey::parse(&Secret::new(KEY))?;
    let thin = Thin {
        subscription: SubscriptionId::new(1),
        account: "bench",
        after: Cursor::after(Seq::ZERO),
        last: Cursor::after(Seq::new(1)),
        count: 1,
        created_at: TimestampMs::ZERO,
        public_url: "http://127.0.0.1:8080",
    };
    let id = NotificationId::new(uuid::Uuid::nil());
    let signed = standard::sign(standard::body(&thin), id, TimestampMs::ZERO.to_secs(), &key);
    let (headers, body) = (Arc::new(signed.headers), Bytes::from(signed.body));
    let (client, left) = (bare_client(), Arc::new(AtomicU64::new(count)));
    let sink = Sink::start(false).await?;
    let (began, cpu) = (Instant::now(), cpu_secs());
    let mut loops = Vec::new();
    for number in 0..endpoints {
        for _ in 0..CONNECTIONS {
            let (client, left, headers, body) = (client.clone(), left.clone(), headers.clone(), body.clone());
            let url = sink.url(&format!("/{number}"));
            loops.push(tokio::spawn(async move {
                while left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
                    post(&client, &url, &headers, body.clone()).await?;
                }
                anyhow::Ok(())
            }));
        }
    }
    for one in loops {
        one.await??;
    }
    Ok(per_second(count, began, cpu))
}

async fn durable(dir: &Path, count: u64, endpoints: u64) -> Result<(f64, f64)> {
    let sink = Sink::start(false).await?;
    let data = tempfile::tempdir_in(dir)?;
    let (store, account) = store(data.path()).await?;
    for number in 0..endpoints {
        let url = sink.url(&format!("/{number}"));
        subscribe(&store, account, &format!("each-{number}"), &url).await?;
    }
    let seams = Seams::real();
    let journal = Journal::open(store.clone(), seams.clone(), Metrics::new());
    let policy = Policy { allow_networks: vec!["127.0.0.0/8".parse()?], allow_http: true };
    let (_change, changed) = watch::channel(0);
    let config = DeliveryConfig {
        timeout: Duration::from_secs(15),
        max_in_flight: 256,
        max_in_flight_per_endpoint: CONNECTIONS,
        schedule: Schedule::new(Vec::new()),
        rings: Rings::new(Vec::new()),
    };
    let hints = Hints { wake: Arc::new(Notify::new()), changed };
    let public_url = "http://127.0.0.1:8080".parse()?;
    let dispatcher = Dispatcher::new(
        store.clone(),
        Egress::new(policy, seams.clone())?,
        seams,
        config,
        &public_url,
        hints,
        Onlookers { metrics: Metrics::new(), feed: Feed::new(TimestampMs::ZERO) },
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(dispatcher.run(stop.clone()));
    let (began, cpu) = (Instant::now(), cpu_secs());
    // Arrivals go on being recorded while deliveries are under way: both are paid for.
    let arrivals = count / endpoints;
    let mut number = 0;
    while number < arrivals {
        let batch =
            (number..arrivals.min(number + 512)).map(|number| arrival(account, number)).collect::<Result<_>>()?;
        journal.record(batch).await?;
        number += 512;
    }
    sink.seen.wait_for(arrivals * endpoints).await;
    while !store.due().await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let figures = per_second(arrivals * endpoints, began, cpu);
    stop.cancel();
    running.await?;
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "a count of deliveries")]
fn per_second(count: u64, began: Instant, cpu: f64) -> (f64, f64) {
    let count = count as f64;
    (count / began.elapsed().as_secs_f64(), (cpu_secs() - cpu) / count * 1000.0)
}

/// A store with one account.
pub(crate) async fn store(data_dir: &Path) -> Result<(Store, AccountId)> {
    std::fs::create_dir_all(data_dir)?;
    let store = Store::open_sqlite(data_dir, StoreKey::load_or_create(data_dir)?).await?;
    let account = NewAccount {
        name: "bench".into(),
        password_hash: None,
        root: None,
        customer_url: String::new(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: false,
    };
    let account = store.upsert_account(account, TimestampMs::ZERO).await?.id;
    Ok((store, account))
}

pub(crate) async fn subscribe(store: &Store, account: AccountId, name: &str, url: &str) -> Result<()> {
    let subscription = NewSubscription {
        name: name.into(),
        account,
        protocol: NewProtocol::Standard,
        url: url.into(),
        key: Secret::new(KEY),
        min_interval: Duration::ZERO,
        filter: FilterText::default(),
        managed: false,
    };
    store.upsert_subscription(subscription, TimestampMs::ZERO, Seams::real().fresh_ids()).await?;
    Ok(())
}

/// The arrival of one made-up file.
pub(crate) fn arrival(account: AccountId, number: u64) -> Result<Arrival> {
    let mut sha256 = [0; 32];
    if let Some((first, _)) = sha256.split_first_chunk_mut() {
        *first = number.to_le_bytes();
    }
    let time = i64::try_from(number)?;
    let present = Present {
        fingerprint: Fingerprint {
            dev: 1,
            inode: number,
            birth_ns: Some(time),
            size: 1,
            mtime_ns: time,
            ctime_ns: time,
        },
        version: Version { sha256, md5: [0; 16], size: 1 },
        completeness: Completeness::Leased,
        moved_from: None,
        announce: Announce::News,
    };
    Ok(Arrival {
        account,
        path: FilePath::from_bytes(format!("/{:03}/{number:07}.dat", number / 1000).as_bytes())?,
        claim: Claim::Present(present),
        source: SourceKind::Folder,
        user: "bench".into(),
    })
}
