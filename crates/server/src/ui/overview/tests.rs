use std::time::Duration;

use askama::Template;
use filebell_core::filter::FilterText;
use filebell_core::retry::{Outcome, Step};
use filebell_core::secret::Secret;
use filebell_core::subscription::ProtocolKind;
use filebell_core::time::TimestampMs;

use super::super::frame::Frame;
use super::super::scene::Scene;
use super::OverviewPage;
use crate::delivery::Feed;
use crate::metrics::Metrics;
use crate::ops::{Caller, Ops, ProtocolRequest, Reach, ScanReport, SourceReport, SubscriptionRequest};
use crate::seams::Seams;
use crate::source::Roots;
use crate::store::{Attempt, Settlement, Timing};

const MINUTE: Duration = Duration::from_secs(60);
/// When a scene begins: 20 seconds after a full minute.
const START_MS: i64 = 1_700_000_000_000;

async fn subscribe(scene: &Scene, name: &str, account: &str) {
    let request = SubscriptionRequest {
        name: name.into(),
        account: account.into(),
        protocol: ProtocolRequest::Standard,
        url: "https://app.example.org/hook".into(),
        key: Some(Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")),
        min_interval: Duration::ZERO,
        filter: FilterText::default(),
        managed: false,
    };
    scene.ops.write_subscription(request).await.unwrap();
}

/// Attempts what is due, and ends it so.
async fn settle(scene: &Scene, name: &str, now: TimestampMs, step: Step, detail: Option<&str>) {
    let subscription = scene.ops.subscription(name).await.unwrap().id;
    let claimed = scene.store.claim(subscription, now, MINUTE, 100).await.unwrap();
    let settled = claimed.into_iter().map(|claimed| Settlement {
        claimed,
        step,
        body: Vec::new(),
        ring_at: None,
        attempt: Attempt {
            started_at: now,
            took: Duration::ZERO,
            status: Some(if step == Step::Delivered { 204 } else { 500 }),
            detail: detail.map(str::to_owned),
            timing: Timing::default(),
            answer: Vec::new(),
            print: None,
        },
    });
    scene.store.settle(settled.collect(), now, Seams::real().fresh_ids()).await.unwrap();
}

/// The cells of the rows that are not all zeros, newest first.
fn rows(page: &str) -> Vec<Vec<String>> {
    let table = page.split("<caption").nth(1).unwrap().split("</table>").next().unwrap();
    let rows = table.split("<tbody>").nth(1).unwrap().split("<tr>").skip(1);
    let cells = |row: &str| {
        row.split("<td class=\"number\">").skip(1).map(|cell| cell.split('<').next().unwrap().to_owned()).collect()
    };
    rows.map(cells).collect()
}

#[tokio::test]
async fn two_hours_are_shown_by_the_minute_and_the_quarter_with_gaps_and_over_a_restart() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    subscribe(&scene, "hook", "alice").await;
    scene.ops.sample().await.unwrap();
    // One file each ten minutes; what came last before the restart was not sampled.
    for turn in 0..6 {
        scene.arrive("alice", &[&format!("/a{turn}.txt")]).await;
        for _ in 0..10 {
            scene.wait(MINUTE);
            if turn < 5 {
                scene.ops.sample().await.unwrap();
            }
        }
    }
    let now = TimestampMs::from_millis(START_MS).after(MINUTE * 60);
    settle(&scene, "hook", now, Step::Delivered, None).await;
    // Another process takes the store over, an hour later.
    scene.wait(MINUTE * 60);
    let later = now.after(MINUTE * 60);
    let seams = Seams::with_clock(move || later);
    let journal = crate::journal::Journal::open(scene.store.clone(), seams.clone(), Metrics::new());
    let url = "https://files.example.org".parse().unwrap();
    let started = Ops::new(scene.store.clone(), journal, seams, url, None);
    started.sample().await.unwrap();
    scene.arrive("alice", &["/new.txt", "/newer.txt"]).await;

    let points = scene.ops.history(&Caller::Operator, Reach::Hour).await.unwrap();
    assert_eq!(points.len(), 60);
    let told: Vec<u64> = points.iter().map(|point| point.arrivals).filter(|count| *count > 0).collect();
    assert_eq!(told, [2], "within the last hour there is only what is not sampled yet, in the running minute");
    assert_eq!(points[59].arrivals, 2);
    let points = scene.ops.history(&Caller::Operator, Reach::Day).await.unwrap();
    assert_eq!(points.len(), 96);
    let shown: Vec<u64> = points.iter().rev().take(9).map(|point| point.arrivals).collect();
    assert_eq!(shown.iter().sum::<u64>(), 8, "{shown:?}");
    assert_eq!(shown[1..4], [0, 0, 0], "an hour of nothing is shown as nothing");
    let delivered: Vec<usize> = (0..96).filter(|at| points[*at].delivered > 0).collect();
    assert_eq!(points[delivered[0]].delivered, 6);
    assert_eq!(delivered, [95 - 4], "it belongs to the time before the restart, when it was last sampled");

    let page = operator.get("/?span=day").await;
    page.says(&[
        "<desc id=\"arrivals-desc\">8 in all; at most",
        "aria-current=\"true\">Last day",
        "By quarter of an hour",
    ]);
    let table = rows(&page.text());
    assert_eq!((table.len(), table[0][0].as_str(), table[1][0].as_str()), (96, "2", "0"));
    operator.get("/").await.says(&["Last hour", "<dt>Arrivals today</dt>"]).hides(&["NaN"]);
    let month = operator.get("/?span=month").await;
    assert_eq!(rows(&month.text()).len(), 30);
    operator.get("/?span=%3Cscript%3E").await.says(&["By minute"]).hides(&["<script>alert", "%3Cscript"]);
}

#[tokio::test]
async fn failures_and_times_are_those_of_the_minute_and_the_operators() {
    let scene = Scene::new().await;
    scene.ops.sample().await.unwrap();
    scene.metrics.attempted(ProtocolKind::Standard, Outcome::Unreachable, Duration::ZERO);
    scene.metrics.delivered(ProtocolKind::Standard, Duration::from_millis(7));
    scene.wait(MINUTE);
    scene.ops.sample().await.unwrap();
    scene.metrics.attempted(ProtocolKind::Standard, Outcome::Unreachable, Duration::ZERO);
    let points = scene.ops.history(&Caller::Operator, Reach::Hour).await.unwrap();
    let failed: Vec<u64> = points.iter().rev().take(3).map(|point| point.pace.as_ref().unwrap().failed).collect();
    assert_eq!(failed, [1, 1, 0], "the running minute counts what is not written down yet, and that only");
    let before = points[58].pace.clone().unwrap();
    assert!(before.p50.unwrap() > Duration::from_millis(5) && before.p99.unwrap() <= Duration::from_millis(10));
    assert_eq!(points[59].pace.as_ref().unwrap().p50, None);
    scene.operator().await.get("/").await.says(&["2 in all; at most 1", "Failed attempts", "95 of a hundred"]);
    let alice = scene.person("alice").await;
    alice.get("/").await.says(&["Given up"]).hides(&["Failed attempts", "95 of a hundred"]);
}

#[tokio::test]
async fn each_state_of_a_source_is_said() {
    let scene = Scene::new().await;
    let overview = scene.ops.overview(&Caller::Operator).await.unwrap();
    let source = |account: &str, state: &str, reason: Option<&str>| SourceReport {
        account: account.into(),
        root: format!("/srv/<{account}>"),
        state: state.into(),
        reason: reason.map(str::to_owned),
        dirty: 0,
        watches: 1,
        scan: ScanReport::default(),
        last_scan_at: Some("2026-11-22T17:00:00.000Z".into()),
        last_probe_at: None,
    };
    let mut made = overview.clone();
    made.status.sources = vec![
        source("a", "live", None),
        source("b", "polling", Some("it lies on nfs")),
        source("c", "degraded", Some("<b>its watches</b> are used up")),
        source("d", "unusable", Some("make the directory")),
        SourceReport {
            scan: ScanReport {
                running: true,
                files: 4711,
                directories: 12,
                expected: Some(9000),
                ..ScanReport::default()
            },
            dirty: 3,
            ..source("e", "live", None)
        },
    ];
    made.watches.used = 95;
    made.watches.allowed = Some(100);
    let page = OverviewPage::new(Frame::bare(&scene.ops), String::new(), true, made, Reach::Hour, Vec::new());
    let text = page.render().unwrap();
    for said in [
        "state good\">live",
        "state warn\">polling",
        "it lies on nfs",
        "state bad\">degraded",
        "state bad\">unusable",
        "<progress aria-label=\"Scan of e is under way\" max=\"9000\" value=\"4711\"></progress>",
        "4711 files in 12 directories so far",
        "3 paths wait to be decided",
        "95 of 100 watches are used: raise",
        "datetime=\"2026-11-22T17:00:00.000Z\"",
    ] {
        assert!(text.contains(said), "no {said}: {text}");
    }
    assert!(!text.contains("<b>its") && !text.contains("<a>"), "{text}");
}

#[tokio::test]
async fn what_fails_is_shown_to_whose_it_is_and_nobody_else() {
    let scene = Scene::new().await;
    let roots = Roots::default();
    roots.set("alice", Err("the directory is gone; make it".into()));
    scene.ops.serving(roots, Feed::new(TimestampMs::ZERO));
    for (name, account) in [("hook-of-alice", "alice"), ("hook-of-bob", "bob")] {
        subscribe(&scene, name, account).await;
        scene.arrive(account, &["/a.txt"]).await;
        let now = TimestampMs::from_millis(START_MS);
        settle(&scene, name, now, Step::Dead, Some("<script>alert(1)</script>")).await;
    }
    let operator = scene.operator().await.get("/").await;
    operator.says(&[
        "hook-of-alice",
        "hook-of-bob",
        "500: &#60;script&#62;",
        "state bad\">unusable",
        "things are wrong",
    ]);
    operator.hides(&["<script>alert"]);
    let alice = scene.person("alice").await.get("/").await;
    alice.says(&["hook-of-alice", "Look and replay", "the directory is gone"]).hides(&["bob", "/health", "wrong"]);
    let bob = scene.person("bob").await.get("/").await;
    bob.says(&["hook-of-bob"]).hides(&["alice"]);
    scene.browser().get("/").await.hides(&["hook-of"]);
}

#[tokio::test]
async fn what_is_empty_says_what_comes_next() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    let root = scene.dir.path().join("alice");
    alice.get("/").await.says(&[
        "Nothing has arrived yet",
        root.to_str().unwrap(),
        "/settings/user/file_upload_notification",
    ]);
    let operator = scene.operator().await;
    operator.get("/").await.says(&["Nobody is told of anything yet", "filebell subscription add"]);
    for name in ["alice", "bob"] {
        scene.ops.remove_account(name).await.unwrap();
    }
    operator.get("/").await.says(&["There is no account yet", "filebell account add NAME"]);
}
