use std::time::Duration;

use filebell_core::filter::FilterText;
use filebell_core::secret::Secret;
use filebell_core::subscription::SubscriptionStatus;
use filebell_core::time::TimestampSecs;

use super::super::receiver::{Does, Receiver, let_out};
use super::super::scene::{Answer, BASE, Browser, Scene};
use super::HERE;
use crate::ops::{ProtocolRequest, SubscriptionRequest};

const KEY: &str = "4fdab23178d6c424196c9448070d3bef";
const SETTINGS: [(&str, &str); 5] = [
    ("url", "https://rdm.example.org/hook"),
    ("interval", "10"),
    ("id", "https://files.example.org:alice"),
    ("secret", KEY),
    ("do", "save"),
];

async fn save(browser: &Browser, changed: &[(&str, &str)]) -> Answer {
    let mut fields: Vec<(&str, &str)> = SETTINGS.to_vec();
    for (name, value) in changed {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    browser.submit(HERE, HERE, &fields).await
}

#[tokio::test]
async fn a_connection_is_saved_and_shown_to_its_owner_alone() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.person("alice").await, scene.person("bob").await);
    let page = alice.get(HERE).await;
    assert_eq!(page.status, 200);
    page.says(&[&format!("value=\"{BASE}:alice\""), "Generate"]).hides(&["Disconnect"]);
    assert_eq!(save(&alice, &[]).await.header("location"), format!("{HERE}?done=saved"));

    let page = alice.get(&format!("{HERE}?done=saved")).await;
    page.says(&["The connection is saved", KEY, "rdm.example.org", "state good", "Disconnect", "POST /hook HTTP/1.1"]);
    assert_eq!(page.header("cache-control"), "no-store");
    page.says(&["X-Nextcloud-File-Upload-Notification-Signature", "curl --user alice "]);
    assert_eq!(alice.get(&format!("/index.php{HERE}")).await.status, 200);
    let subscription = scene.ops.subscription("nextcloud/alice").await.unwrap();
    assert_eq!((subscription.key.expose(), subscription.min_interval), (KEY, Duration::from_secs(10)));

    bob.get(HERE).await.hides(&[KEY, "rdm.example.org"]);
    let operator = scene.operator().await;
    for path in ["/subscriptions", "/subscriptions/nextcloud/alice", "/accounts/alice"] {
        operator.get(path).await.hides(&[KEY]);
    }
    assert_eq!(operator.get(HERE).await.status, 403);

    let answer = alice.submit(HERE, &format!("{HERE}/disconnect"), &[]).await;
    assert_eq!(answer.header("location"), format!("{HERE}?done=disconnected"));
    alice.get(HERE).await.hides(&[KEY]);
    assert_eq!(scene.ops.subscription("nextcloud/alice").await.unwrap().status, SubscriptionStatus::Paused);
}

#[tokio::test]
async fn what_is_wrong_is_said_at_its_field_and_changes_nothing() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    for (field, value, error) in [
        ("url", "", "url is invalid"),
        ("url", "ftp://x/", "url is invalid"),
        ("interval", "0", "interval is invalid"),
        ("interval", "soon", "interval is invalid"),
        ("id", "", "id is invalid"),
        ("secret", "", "secret is invalid"),
        ("secret", "4f4", "secret is invalid"),
        ("secret", "<b>&\"", "secret is invalid"),
    ] {
        let answer = save(&alice, &[(field, value)]).await;
        assert_eq!(answer.status, 422, "{field}={value}");
        answer.says(&[&format!("<p class=\"error\" id=\"{field}-error\">{error}"), "aria-invalid=\"true\""]);
        answer.hides(&["<b>&"]);
        if field != "url" {
            answer.says(&["value=\"https://rdm.example.org/hook\""]);
        }
        assert!(scene.ops.subscription("nextcloud/alice").await.is_err());
    }
    let both = save(&alice, &[("interval", "x"), ("secret", "x")]).await;
    both.says(&["interval is invalid", "secret is invalid"]);
    let forged = alice.post(HERE, &SETTINGS).await;
    assert_eq!(forged.status, 403);
    assert!(scene.ops.subscription("nextcloud/alice").await.is_err());
}

#[tokio::test]
async fn a_fresh_key_is_filled_in_and_not_saved() {
    let scene = Scene::new().await;
    let alice = scene.person("alice").await;
    save(&alice, &[]).await;
    let answer = save(&alice, &[("do", "generate"), ("url", "https://other.example.org/")]).await;
    assert_eq!(answer.status, 200);
    answer.says(&["https://other.example.org/"]).hides(&[KEY]);
    assert_eq!(scene.ops.subscription("nextcloud/alice").await.unwrap().key.expose(), KEY);
}

#[tokio::test]
async fn what_the_operator_set_up_is_shown_and_not_changed_here() {
    let scene = Scene::new().await;
    let request = SubscriptionRequest {
        name: "rdm".into(),
        account: "alice".into(),
        protocol: ProtocolRequest::Nextcloud { connection_id: "declared-id".into() },
        url: "https://declared.example.org/".into(),
        key: Some(Secret::new("abcd")),
        min_interval: Duration::from_secs(7),
        filter: FilterText::default(),
        managed: true,
    };
    scene.ops.write_subscription(request).await.unwrap();
    let (alice, bob) = (scene.person("alice").await, scene.person("bob").await);
    alice.get(HERE).await.says(&["declared-id", "Declared in the configuration file", "Test rdm"]).hides(&["abcd"]);
    bob.get(HERE).await.hides(&["declared-id"]);
    let test = format!("{HERE}/test");
    assert_eq!(bob.submit(HERE, &test, &[("name", "rdm")]).await.status, 404);
}

#[tokio::test]
async fn a_test_says_how_far_it_came_and_leaves_no_trace() {
    let scene = Scene::new().await;
    let_out(&scene, true, Duration::from_millis(700));
    let alice = scene.person("alice").await;
    let test = format!("{HERE}/test");
    assert_eq!(alice.submit(HERE, &test, &[]).await.status, 404, "nothing is saved yet");
    for (does, said) in [
        (Does::Answer("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<b>hi</b>"), vec!["accepted it", "&#60;b&#62;hi"]),
        (
            Does::Answer("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops"),
            vec!["did not accept", "500", "oops", "own log"],
        ),
        (
            Does::Answer("HTTP/1.1 302 Go\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n"),
            vec!["Redirects are not followed"],
        ),
        (Does::Hang, vec!["did not accept", "no answer within 700 ms", "answers at once"]),
    ] {
        let receiver = Receiver::new(does).await;
        save(&alice, &[("url", &receiver.url)]).await;
        let subscription = scene.ops.subscription("nextcloud/alice").await.unwrap();
        scene.store.acknowledge_recent(subscription.account, TimestampSecs::from_secs(1234)).await.unwrap();
        let answer = alice.submit(HERE, &test, &[]).await;
        answer.says(&said).says(&["Find the host", "127.0.0.1", "egress.allow_networks"]).hides(&["<b>hi"]);
        let got = receiver.got();
        assert_eq!(got.len(), 1);
        assert!(got[0].starts_with("POST /hook HTTP/1.1\r\n") && got[0].contains("\"since\":\"1234\""), "{}", got[0]);
        let standings = scene.store.standings().await.unwrap();
        let told = standings.iter().find(|one| one.subscription == subscription.id).unwrap();
        assert_eq!((told.pending, told.delivered, told.dead, told.last_failure_at), (0, 0, 0, None));
        assert_eq!(scene.store.shown_until(subscription.id).await.unwrap(), TimestampSecs::from_secs(1234));
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    save(&alice, &[("url", &closed)]).await;
    alice.submit(HERE, &test, &[]).await.says(&["did not accept the connection", "Is the receiver running"]);
    let broken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", broken.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = broken.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"this is no TLS at all").unwrap();
    });
    save(&alice, &[("url", &url)]).await;
    alice.submit(HERE, &test, &[]).await.says(&["Encrypt (TLS)", "The certificate must be valid"]);
}

#[tokio::test]
async fn a_test_goes_nowhere_that_is_forbidden() {
    let scene = Scene::new().await;
    let_out(&scene, false, Duration::from_secs(2));
    let alice = scene.person("alice").await;
    let receiver = Receiver::new(Does::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await;
    save(&alice, &[("url", &receiver.url)]).await;
    let answer = alice.submit(HERE, &format!("{HERE}/test"), &[]).await;
    answer.says(&["did not accept", "a loopback address", "allow_networks", "[egress]"]).hides(&["Connect</td>"]);
    assert!(receiver.got().is_empty());
}

#[tokio::test]
async fn the_pages_own_script_may_ask_for_a_key_and_no_other_site() {
    let scene = Scene::new().await;
    let (alice, operator) = (scene.person("alice").await, scene.operator().await);
    let token = alice.get(HERE).await.field("csrf");
    for path in ["/apps/file_upload_notification/secret", "/index.php/apps/file_upload_notification/config"] {
        assert_eq!(alice.ask(path, &[("requesttoken", &token)]).await.status, 200);
        assert_eq!(alice.ask(path, &[("requesttoken", "wrong")]).await.status, 412);
        assert_eq!(alice.ask(path, &[]).await.status, 412);
        assert_eq!(scene.browser().ask(path, &[("requesttoken", &token)]).await.status, 401);
        assert_eq!(operator.ask(path, &[("requesttoken", &token)]).await.status, 401);
    }
    let secret = alice.ask("/apps/file_upload_notification/secret", &[("requesttoken", &token)]).await.text();
    assert_eq!(secret.len(), r#"{"secret":""}"#.len() + 32, "{secret}");
}
