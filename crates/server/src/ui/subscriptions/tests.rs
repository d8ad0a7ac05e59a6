use std::time::Duration;

use super::super::receiver::{Does, Receiver, let_out};
use super::super::scene::Scene;

const WAREHOUSE: [(&str, &str); 7] = [
    ("name", "warehouse"),
    ("account", "alice"),
    ("protocol", "standard"),
    ("url", "https://warehouse.example.org/hook"),
    ("min_interval", "0s"),
    ("kind", "created"),
    ("include", "**/*.csv"),
];
const LIST: &str = "/subscriptions";
const PAGE: &str = "/subscriptions/warehouse";

#[tokio::test]
async fn a_subscription_is_added_changed_and_removed() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    operator.get(LIST).await.says(&["Nobody is told anything yet"]);
    let shown = operator.submit(LIST, LIST, &WAREHOUSE).await;
    let known = scene.ops.subscription("warehouse").await.unwrap();
    shown.says(&[known.key.expose()]);
    assert_eq!(shown.header("cache-control"), "no-store");
    for path in [LIST, PAGE] {
        operator.get(path).await.says(&["warehouse"]).hides(&[known.key.expose()]);
    }
    operator.get(PAGE).await.says(&["files created", "like **/*.csv"]);

    operator.submit(PAGE, PAGE, &[("do", "pause")]).await;
    operator.get(PAGE).await.says(&["state warn", "Resume"]);
    operator.submit(PAGE, PAGE, &[("do", "resume")]).await;
    let rotated = operator.submit(PAGE, PAGE, &[("do", "rotate")]).await;
    let fresh = scene.ops.subscription("warehouse").await.unwrap().key;
    assert_ne!(fresh.expose(), known.key.expose());
    rotated.says(&[fresh.expose()]);

    let change =
        [("do", "change"), ("url", "https://new.example.org/"), ("min_interval", "1h30m"), ("kind", "updated")];
    assert_eq!(operator.submit(PAGE, PAGE, &change).await.status, 303);
    let changed = scene.ops.subscription("warehouse").await.unwrap();
    assert_eq!((changed.min_interval, changed.key.expose()), (Duration::from_secs(5400), fresh.expose()));
    assert_eq!((changed.filter.text().kinds.join(","), changed.endpoint.host()), ("updated".into(), "new.example.org"));
    operator.submit(PAGE, PAGE, &[("do", "remove")]).await;
    assert_eq!(operator.get(PAGE).await.status, 404);
}

#[tokio::test]
async fn a_wrong_form_keeps_what_was_typed_and_changes_nothing() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    for (field, value, id) in [
        ("name", "two words", "name"),
        ("account", "eve", "account"),
        ("url", "javascript:alert(1)", "url"),
        ("min_interval", "soon", "min_interval"),
        ("kind", "", "include"),
        ("include", "[", "include"),
        ("protocol", "nextcloud", "connection_id"),
    ] {
        let fields = WAREHOUSE.map(|(name, typed)| (name, if name == field { value } else { typed }));
        let answer = operator.submit(LIST, LIST, &fields).await;
        assert_eq!(answer.status, 422, "{field}");
        answer.says(&[&format!("id=\"{id}-error\"")]);
        assert!(scene.ops.subscriptions().await.unwrap().is_empty(), "{field}");
    }
    let bad_key = [&WAREHOUSE[..], &[("key", "hunter2-is-no-key")]].concat();
    operator.submit(LIST, LIST, &bad_key).await.says(&["key-error"]).hides(&["hunter2"]);
    assert_eq!(operator.post(LIST, &WAREHOUSE).await.status, 403);
    assert!(scene.ops.subscriptions().await.unwrap().is_empty());
    let alice = scene.person("alice").await;
    assert_eq!(alice.get(LIST).await.status, 403);
    assert_eq!(alice.submit("/passwords", LIST, &WAREHOUSE).await.status, 403);
}

#[tokio::test]
async fn each_protocol_is_tested_in_its_own_form() {
    let scene = Scene::new().await;
    let_out(&scene, true, Duration::from_secs(5));
    let operator = scene.operator().await;
    let receiver = Receiver::new(Does::Answer("HTTP/1.1 204 Fine\r\n\r\n")).await;
    let fields = WAREHOUSE.map(|(name, typed)| (name, if name == "url" { receiver.url.as_str() } else { typed }));
    operator.submit(LIST, LIST, &fields).await;
    let ledger = [("name", "ledger"), ("notification_url", receiver.url.as_str())];
    operator.submit("/applications", "/applications", &ledger).await;
    let grant = [("do", "grant"), ("account", "alice"), ("folders", "SEED"), ("scope", "api.dataDelivery")];
    operator.submit("/applications/ledger", "/applications/ledger", &grant).await;
    scene.arrive("bob", &["/SEED/a"]).await;

    operator
        .submit(PAGE, PAGE, &[("do", "test")])
        .await
        .says(&["accepted it", "Webhook-Signature".to_lowercase().as_str()]);
    let page = "/subscriptions/ledger/alice";
    operator.get(page).await.says(&["follows its application and grant"]).hides(&["Make a new key"]);
    operator.submit(page, page, &[("do", "test")]).await.says(&["accepted it", "HMAC_SHA256"]);
    for what in ["rotate", "remove"] {
        assert_eq!(operator.submit(page, page, &[("do", what)]).await.status, 409, "{what}");
    }
    let got = receiver.got();
    assert!(got[0].contains("files.changed") && got[0].contains("\"count\":0"), "{}", got[0]);
    assert!(got[1].contains("detailUrl"), "{}", got[1]);
    let standings = scene.store.standings().await.unwrap();
    assert!(standings.iter().all(|one| (one.pending, one.delivered) == (0, 0)));
}
