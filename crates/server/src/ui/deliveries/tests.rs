use std::time::Duration;

use filebell_core::filter::FilterText;
use filebell_core::id::NotificationId;
use filebell_core::retry::Step;
use filebell_core::secret::Secret;
use filebell_core::wire::percent_encode;

use super::super::scene::{Answer, Scene};
use crate::ops::{NotificationState, ProtocolRequest, SubscriptionRequest};
use crate::store::{Attempt, Settlement, Timing, Wanted};

const MARKUP: &str = "<script>alert(1)</script>\"'&";
const ESCAPED: &str = "&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;";

async fn subscribe(scene: &Scene, account: &str, name: &str) {
    let request = SubscriptionRequest {
        name: name.into(),
        account: account.into(),
        protocol: ProtocolRequest::Standard,
        url: "https://app.example.org/hook?token=hunter2".into(),
        key: Some(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        min_interval: Duration::ZERO,
        filter: FilterText::default(),
        managed: false,
    };
    scene.ops.write_subscription(request).await.unwrap();
}

/// Ends everything that is due for a subscription.
async fn end(scene: &Scene, name: &str, step: Step, answer: &str, detail: Option<&str>) -> Vec<NotificationId> {
    let subscription = scene.ops.subscription(name).await.unwrap();
    let claimed = scene.store.claim(subscription.id, scene.ops.now(), Duration::from_secs(60), 1000).await.unwrap();
    let ids = claimed.iter().map(|one| one.notification).collect();
    let settlements = claimed.into_iter().map(|claimed| Settlement {
        claimed,
        step,
        body: b"kept body".to_vec(),
        ring_at: None,
        attempt: Attempt {
            started_at: scene.ops.now(),
            took: Duration::from_millis(15),
            status: Some(if step == Step::Delivered { 200 } else { 503 }),
            detail: detail.map(str::to_owned),
            timing: Timing {
                connect: Some(Duration::from_micros(1500)),
                tls: Some(Duration::from_millis(20)),
                first_byte: Some(Duration::from_millis(25)),
                ..Timing::default()
            },
            answer: answer.into(),
            print: Some(7),
        },
    });
    let ids_of: Box<dyn FnMut() -> uuid::Uuid + Send> = Box::new(uuid::Uuid::nil);
    scene.store.settle(settlements.collect(), scene.ops.now(), ids_of).await.unwrap();
    ids
}

async fn state(scene: &Scene, id: NotificationId) -> NotificationState {
    scene.store.notification(id).await.unwrap().unwrap().state
}

fn count(answer: &Answer, what: &str) -> usize {
    answer.text().matches(what).count()
}

#[tokio::test]
async fn what_was_told_is_shown_as_it_was_and_nothing_of_it_is_markup() {
    let scene = Scene::new().await;
    subscribe(&scene, "alice", "alices").await;
    scene.arrive("alice", &[&format!("/SEED/{}", MARKUP.replace('/', ""))]).await;
    let answer = format!("server: {MARKUP}\n\nno: {MARKUP}");
    let id = end(&scene, "alices", Step::Dead, &answer, Some(MARKUP)).await.remove(0);
    let alice = scene.person("alice").await;
    let list = alice.get("/deliveries").await;
    let name = ESCAPED.replace("/", "");
    list.says(&["alices", "state bad", ">dead<", "503", "15 ms", &format!("/SEED/{name}")]).hides(&["<script>alert"]);
    let shown = alice.get(&format!("/deliveries/{id}")).await;
    assert_eq!(shown.status, 200);
    shown.says(&[
        &format!("server: {ESCAPED}"),
        &format!("no: {ESCAPED}"),
        "kept body",
        "POST /hook?token=*** HTTP/1.1",
        "Webhook-Signature: v1,",
        "Connect <b>1.5 ms</b>",
        "TLS <b>20 ms</b>",
        "First byte after <b>25 ms</b>",
        "has changed since",
        &name,
    ]);
    shown.hides(&["<script>alert", "hunter2", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let typed = percent_encode(MARKUP.as_bytes());
    for field in ["file", "from", "until", "state"] {
        alice.get(&format!("/deliveries?{field}={typed}")).await.hides(&["<script>alert"]);
    }
    let wrong = alice.get("/deliveries?from=yesterday&state=odd").await;
    assert_eq!(wrong.status, 422);
    wrong.says(&["value=\"yesterday\"", "aria-invalid=\"true\" aria-describedby=\"from-error\""]);
    assert_eq!(alice.get("/deliveries?before=odd").await.status, 404);
}

#[tokio::test]
async fn nobody_sees_or_repeats_what_another_was_told() {
    let scene = Scene::new().await;
    subscribe(&scene, "alice", "alices").await;
    scene.arrive("alice", &["/SEED/hers.txt"]).await;
    let id = end(&scene, "alices", Step::Dead, "", None).await.remove(0);
    let (alice, bob, operator) = (scene.person("alice").await, scene.person("bob").await, scene.operator().await);
    bob.get("/deliveries").await.says(&["Nothing has been told yet"]).hides(&["alices", "hers.txt"]);
    for path in [format!("/deliveries/{id}"), "/deliveries?subscription=alices".into(), "/deliveries/odd".into()] {
        let answer = bob.get(&path).await;
        assert_eq!(answer.status, 404, "{path}");
        answer.hides(&["hers.txt", "app.example.org"]);
    }
    let path = format!("/deliveries/{id}/replay");
    assert_eq!(bob.submit("/deliveries", &path, &[]).await.status, 404);
    assert_eq!(alice.post(&path, &[("csrf", "forged")]).await.status, 403);
    assert_eq!(scene.browser().post(&path, &[]).await.header("location"), "/sign-in");
    let all = [("subscription", ""), ("until", "2999-01-01")];
    assert_eq!(bob.submit("/deliveries", "/deliveries/replay", &all).await.status, 303);
    assert_eq!(state(&scene, id).await, NotificationState::Dead, "nothing changed");

    let done = alice.submit("/deliveries", &path, &[]).await;
    assert_eq!(done.header("location"), format!("/deliveries/{id}?done=due"));
    assert_eq!(state(&scene, id).await, NotificationState::Pending);
    let again = operator.submit("/deliveries", &path, &[]).await;
    assert_eq!(again.header("location"), format!("/deliveries/{id}?done=waits"));
    operator.get(again.header("location")).await.says(&["it waits already", "hers.txt"]);
}

#[tokio::test]
async fn what_the_preview_counts_is_what_is_told_again() {
    let scene = Scene::new().await;
    for (account, name) in [("alice", "alices"), ("alice", "second"), ("bob", "bobs")] {
        subscribe(&scene, account, name).await;
    }
    scene.arrive("alice", &["/SEED/a.txt", "/SEED/b.txt", "/SEED/c.csv"]).await;
    scene.arrive("bob", &["/SEED/his.csv"]).await;
    for name in ["alices", "second", "bobs"] {
        end(&scene, name, Step::Delivered, "", None).await;
    }
    scene.wait(Duration::from_secs(5));
    let alice = scene.person("alice").await;
    let mut late = 0;
    for (filter, expected) in [("file=.csv", 2), ("subscription=second&file=SEED", 3), ("file=seed", 6)] {
        let path = format!("/deliveries/replay?{filter}");
        let page = alice.get(&path).await;
        page.says(&[&format!("<strong>{expected}</strong>")]).hides(&["bobs"]);
        let fields = ["subscription", "state", "from", "until", "file"].map(|name| (name, page.field(name)));
        // What comes in between is not meant.
        scene.wait(Duration::from_secs(5));
        late += 1;
        scene.arrive("alice", &[&format!("/OTHER/{late}.csv")]).await;
        for name in ["alices", "second"] {
            end(&scene, name, Step::Delivered, "", None).await;
        }
        let pairs = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(alice.submit(&path, "/deliveries/replay", &pairs).await.status, 303);
        assert_eq!(pending(&scene).await, expected, "{filter}");
        for name in ["alices", "second"] {
            end(&scene, name, Step::Delivered, "", None).await;
        }
    }
    alice.get("/deliveries/replay?state=dead").await.says(&["None of these can be told again"]);
}

async fn pending(scene: &Scene) -> usize {
    let subscriptions = scene.store.subscriptions().await.unwrap().into_iter().map(std::sync::Arc::new).collect();
    let wanted = Wanted { subscriptions, all: true, state: Some(NotificationState::Pending), ..Wanted::default() };
    scene.store.list(wanted, None, 1000).await.unwrap().rows.len()
}

#[tokio::test]
async fn pages_of_deliveries_meet() {
    let scene = Scene::new().await;
    subscribe(&scene, "alice", "alices").await;
    let names: Vec<String> = (0..120).map(|number| format!("/SEED/{number}.txt")).collect();
    scene.arrive("alice", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let operator = scene.operator().await;
    let (mut path, mut seen) = ("/deliveries?state=pending".to_owned(), 0);
    loop {
        let page = operator.get(&path).await;
        seen += count(&page, "data-label=\"When\"");
        let text = page.text();
        let Some((before, _)) = text.split_once("\" rel=\"next\"") else { break };
        path = before.rsplit_once('"').unwrap().1.replace("&#38;", "&").replace("&amp;", "&");
    }
    assert_eq!(seen, 120);
}
