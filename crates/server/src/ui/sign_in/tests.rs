use std::time::Duration;

use axum::http::StatusCode;
use filebell_core::secret::Secret;

use super::local;
use crate::ops::AccountRequest;
use crate::ui::scene::Scene;

const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn the_way_back_stays_here() {
    assert_eq!(local("/deliveries?state=dead"), "/deliveries?state=dead");
    for elsewhere in ["//evil.example", "/\\evil.example", "https://evil.example", "", "/\t/evil.example"] {
        assert_eq!(local(elsewhere), "", "{elsewhere:?}");
    }
}

#[tokio::test]
async fn whoever_is_not_signed_in_is_asked_to_and_comes_back() {
    let scene = Scene::new().await;
    let browser = scene.browser();
    let asked = browser.get("/settings/user/file_upload_notification?a=1").await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER);
    let way = asked.header("location").to_owned();
    assert!(way.starts_with("/sign-in?next=%2Fsettings%2F"), "{way}");
    let next = browser.get(&way).await.field("next");
    let fields = [("name", "alice"), ("password", "alice's"), ("next", next.as_str())];
    let signed_in = browser.submit(&way, "/sign-in", &fields).await;
    assert_eq!(signed_in.header("location"), "/settings/user/file_upload_notification?a=1");
    assert_eq!(browser.get("/settings/user/file_upload_notification").await.status, StatusCode::OK);
}

#[tokio::test]
async fn wrong_passwords_are_refused_then_not_looked_at() {
    let scene = Scene::new().await;
    let browser = scene.browser();
    for _ in 0..=10 {
        let answer = browser.sign_in(&[("name", "alice"), ("password", "<b>guess</b>")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        answer.says(&["Account or password is wrong.", "value=\"alice\""]).hides(&["guess"]);
    }
    let answer = browser.sign_in(&[("name", "alice"), ("password", "alice's")]).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "1801");
    for _ in 0..=10 {
        let answer = browser.sign_in(&[("as", "operator"), ("token", "guess")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        answer.says(&["This is not the admin token."]).hides(&["guess"]);
    }
    let answer = browser.sign_in(&[("as", "operator"), ("token", crate::ui::scene::TOKEN)]).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "1801");
}

#[tokio::test]
async fn a_form_from_elsewhere_signs_nobody_in_and_nobody_out() {
    let scene = Scene::new().await;
    let browser = scene.browser();
    let answer = browser.post("/sign-in", &[("name", "alice"), ("password", "alice's")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let alice = scene.person("alice").await;
    let answer = alice.post("/sign-out", &[("csrf", "guess")]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    answer.says(&["This form came from elsewhere"]);
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "still signed in");
}

#[tokio::test]
async fn a_session_ends_when_nobody_uses_it_when_it_is_old_and_by_hand() {
    let scene = Scene::new().await;
    let signed_out = StatusCode::SEE_OTHER;
    let alice = scene.person("alice").await;
    scene.wait(11 * HOUR);
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    scene.wait(11 * HOUR);
    assert_eq!(alice.get("/").await.status, StatusCode::OK, "the use before counts");
    scene.wait(12 * HOUR);
    assert_eq!(alice.get("/").await.status, signed_out, "unused for twelve hours");

    let alice = scene.person("alice").await;
    for _ in 0..167 {
        scene.wait(HOUR);
        assert_eq!(alice.get("/").await.status, StatusCode::OK);
    }
    scene.wait(HOUR);
    assert_eq!(alice.get("/").await.status, signed_out, "a week old");

    let alice = scene.person("alice").await;
    let answer = alice.submit("/", "/sign-out", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::SEE_OTHER, "/sign-in"));
    assert_eq!(alice.get("/").await.status, signed_out);
}

#[tokio::test]
async fn a_new_password_ends_the_sessions_of_the_old_one_and_the_same_one_does_not() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.person("alice").await, scene.person("bob").await);
    let write = |password: &str| {
        let account = AccountRequest {
            name: "alice".into(),
            password: Some(Secret::new(password)),
            root: Some(scene.dir.path().join("alice")),
            customer_url: String::new(),
            customer_id: String::new(),
            customer_code: String::new(),
            quota_bytes: None,
            managed: false,
        };
        scene.ops.write_account(account)
    };
    write("alice's").await.unwrap();
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    write("another").await.unwrap();
    assert_eq!(alice.get("/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(bob.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_page_keeps_others_out() {
    let scene = Scene::new().await;
    let answer = scene.browser().get("/nothing/is/here").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!((answer.header("x-frame-options"), answer.header("cache-control")), ("DENY", "no-store"));
}
