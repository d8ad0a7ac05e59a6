use super::super::scene::Scene;
use crate::ops::GrantRequest;

const LEDGER: [(&str, &str); 4] = [
    ("name", "ledger"),
    ("redirect_urls", "https://ledger.example.org/callback\nhttps://ledger.example.org/other"),
    ("notification_url", "https://ledger.example.org/notification"),
    ("signature_encoding", "base64"),
];

fn secret_of(text: &str) -> String {
    let rest = text.split_once("<code class=\"secret\">").unwrap().1;
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn an_application_is_registered_changed_and_removed() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    operator.get("/applications").await.says(&["filebell application add"]);
    let shown = operator.submit("/applications", "/applications", &LEDGER).await;
    assert_eq!((shown.status.as_u16(), shown.header("cache-control")), (200, "no-store"));
    let secret = secret_of(&shown.text());
    assert!(secret.starts_with("fbs_"));
    let known = scene.ops.application("ledger").await.unwrap();
    assert_eq!((known.redirect_urls.len(), known.signature_encoding.as_str()), (2, "base64"));
    for path in ["/applications", "/applications/ledger"] {
        operator.get(path).await.says(&["ledger"]).hides(&[&secret, &known.client_secret_hash]);
    }

    let page = "/applications/ledger";
    let fields = [("do", "change"), ("redirect_urls", ""), ("notification_url", ""), ("signature_encoding", "hex")];
    assert_eq!(operator.submit(page, page, &fields).await.header("location"), "/applications/ledger?done=changed");
    let changed = scene.ops.application("ledger").await.unwrap();
    assert_eq!((changed.redirect_urls.len(), changed.notification_url), (0, None));
    assert_eq!((changed.client_id, changed.client_secret_hash), (known.client_id, known.client_secret_hash));

    let rotated = operator.submit(page, page, &[("do", "rotate"), ("overlap", "2")]).await;
    let fresh = secret_of(&rotated.text());
    assert_ne!(fresh, secret);
    operator.get(page).await.says(&["Secret before this one"]).hides(&[&fresh]);
    let wrong = operator.submit(page, page, &[("do", "rotate"), ("overlap", "99999")]).await;
    assert_eq!(wrong.status, 422);
    wrong.says(&["overlap-error", "value=\"99999\""]);

    operator.submit(page, page, &[("do", "disable")]).await;
    assert!(scene.ops.application("ledger").await.unwrap().disabled);
    operator.submit(page, page, &[("do", "enable")]).await;
    assert!(!scene.ops.application("ledger").await.unwrap().disabled);
    operator.submit(page, page, &[("do", "remove")]).await;
    assert!(scene.ops.applications().await.unwrap().is_empty());
    assert_eq!(operator.get(page).await.status, 404);
}

#[tokio::test]
async fn a_wrong_form_keeps_what_was_typed_and_changes_nothing() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    for (field, value) in [
        ("name", "no spaces"),
        ("name", "<script>alert(1)</script>"),
        ("redirect_urls", "nonsense"),
        ("notification_url", "ftp://x/"),
    ] {
        let fields = LEDGER.map(|(name, typed)| (name, if name == field { value } else { typed }));
        let answer = operator.submit("/applications", "/applications", &fields).await;
        assert_eq!(answer.status, 422, "{field}");
        answer.says(&[&format!("id=\"{field}-error\"")]).hides(&["<script>alert"]);
        if field != "notification_url" {
            answer.says(&["https://ledger.example.org/notification"]);
        }
        assert!(scene.ops.applications().await.unwrap().is_empty());
    }
    assert_eq!(operator.post("/applications", &LEDGER).await.status, 403);
    operator.submit("/applications", "/applications", &LEDGER).await;
    let again = operator.submit("/applications", "/applications", &LEDGER).await;
    again.says(&["name-error", "already"]);
    assert!(scene.ops.applications().await.unwrap().len() == 1);
}

#[tokio::test]
async fn grants_are_given_by_hand_and_taken_back_by_their_account() {
    let scene = Scene::new().await;
    let (operator, alice, bob) = (scene.operator().await, scene.person("alice").await, scene.person("bob").await);
    operator.submit("/applications", "/applications", &LEDGER).await;
    let page = "/applications/ledger";
    let scope = ("scope", "api.dataDelivery");
    let none = operator.submit(page, page, &[("do", "grant"), ("account", "alice"), ("folders", ""), scope]).await;
    none.says(&["grant-folders-error"]);
    let wrong = operator.submit(page, page, &[("do", "grant"), ("account", "alice"), ("folders", "a/b"), scope]).await;
    wrong.says(&["grant-folders-error", "a/b"]);
    let nobody = operator.submit(page, page, &[("do", "grant"), ("account", "eve"), ("folders", "SEED"), scope]).await;
    nobody.says(&["grant-account-error"]);
    operator
        .submit(page, page, &[("do", "grant"), ("account", "alice"), ("folders", "SEED")])
        .await
        .says(&["scope-error"]);
    assert!(scene.ops.grants().await.unwrap().is_empty());

    let given = [("do", "grant"), ("account", "alice"), ("folders", "SEED"), scope];
    assert_eq!(operator.submit(page, page, &given).await.status, 303);
    alice.get("/applications").await.says(&["ledger", "SEED", "list, download and delete files", "2023-11-14"]);
    bob.get("/applications").await.says(&["No application may see your files"]).hides(&["ledger"]);
    assert_eq!(bob.get(page).await.status, 403);
    assert_eq!(bob.submit("/applications", "/applications", &[("application", "ledger")]).await.status, 404);
    assert_eq!(alice.submit("/applications", page, &[("do", "remove")]).await.status, 403);
    assert_eq!(scene.ops.grants().await.unwrap().len(), 1);
    assert_eq!(alice.submit("/applications", "/applications", &[("application", "ledger")]).await.status, 303);
    assert!(scene.ops.grants().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_declared_is_not_changed_here() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    let request = crate::ops::ApplicationRequest {
        name: "declared".into(),
        client_id: None,
        client_secret: None,
        redirect_urls: Vec::new(),
        notification_url: None,
        signature_encoding: filebell_core::subscription::SignatureEncoding::Hex,
        managed: true,
    };
    scene.ops.write_application(request).await.unwrap();
    let grant = GrantRequest {
        application: "declared".into(),
        account: "alice".into(),
        folders: vec!["SEED".into()],
        scopes: Vec::new(),
    };
    scene.ops.write_grant(grant).await.unwrap();
    let page = "/applications/declared";
    operator.get(page).await.says(&["Declared in the configuration file"]).hides(&["Make a new secret"]);
    for fields in
        [[("do", "rotate"), ("overlap", "1")], [("do", "change"), ("redirect_urls", "")], [("do", "remove"), ("", "")]]
    {
        assert_eq!(operator.submit(page, page, &fields).await.status, 409, "{fields:?}");
    }
    assert!(scene.ops.application("declared").await.unwrap().managed);
}
