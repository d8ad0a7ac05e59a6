use super::super::scene::Scene;
use crate::ops::{AccountChange, OpsError};
use filebell_core::secret::Secret;

const LIST: &str = "/accounts";

fn secret_of(text: &str) -> String {
    let rest = text.split_once("<code class=\"secret\">").unwrap().1;
    rest.split_once('<').unwrap().0.to_owned()
}

#[tokio::test]
async fn an_account_is_added_changed_and_removed() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    let root = scene.dir.path().join("carol");
    std::fs::create_dir(&root).unwrap();
    let root = root.to_str().unwrap();
    let fields = [("name", "carol"), ("password", "carol's secret"), ("root", root)];
    let answer = operator.submit(LIST, LIST, &fields).await;
    assert_eq!(answer.header("location"), "/accounts/carol?done=added");
    operator.get(LIST).await.says(&["alice", "bob", "carol", root]).hides(&["carol's secret", "argon2"]);
    let page = "/accounts/carol";
    operator.get(page).await.says(&[root, "0 B"]).hides(&["argon2"]);

    let login = async |password: &str| scene.ops.login("carol", Secret::new(password), None).await.is_ok();
    assert!(login("carol's secret").await);
    operator.submit(page, page, &[("do", "password"), ("password", " new one ")]).await;
    assert!(login(" new one ").await && !login("carol's secret").await);
    operator.submit(page, page, &[("do", "password"), ("password", "")]).await.says(&["password-error"]);

    let settings = [("do", "change"), ("root", root), ("quota", "10MiB"), ("customer_code", "acme")];
    assert_eq!(operator.submit(page, page, &settings).await.status, 303);
    operator.get(page).await.says(&["10 MiB", "value=\"10MiB\"", "acme"]);
    let wrong = operator.submit(page, page, &[("do", "change"), ("root", "/nowhere/at/all"), ("quota", "1GB")]).await;
    wrong.says(&["root-error", "/nowhere/at/all"]);
    operator.submit(page, page, &[("do", "change"), ("root", root), ("quota", "much")]).await.says(&["quota-error"]);
    let account = scene.ops.account("carol").await.unwrap();
    assert_eq!((account.quota_bytes, account.customer_code.as_str()), (Some(10 << 20), "acme"));
    operator.submit(page, page, &[("do", "remove")]).await;
    assert!(scene.ops.account("carol").await.is_err());
    assert!(std::path::Path::new(root).is_dir());
}

#[tokio::test]
async fn a_wrong_form_keeps_what_was_typed_and_changes_nothing() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    let taken = scene.dir.path().join("alice").join("SEED");
    for (name, root, field) in [
        ("a b", "", "name"),
        ("alice", "", "name"),
        ("carol", "/nowhere", "root"),
        ("carol", taken.to_str().unwrap(), "root"),
    ] {
        let fields = [("name", name), ("password", "typed-password"), ("root", root)];
        let answer = operator.submit(LIST, LIST, &fields).await;
        assert_eq!(answer.status, 422, "{name} {root}");
        answer.says(&[&format!("id=\"{field}-error\""), &format!("value=\"{name}\"")]).hides(&["typed-password"]);
    }
    assert_eq!(operator.post(LIST, &[("name", "carol")]).await.status, 403);
    assert_eq!(scene.ops.accounts().await.unwrap().len(), 2);
    let alice = scene.person("alice").await;
    for path in [LIST, "/accounts/alice", "/accounts/bob"] {
        assert_eq!(alice.get(path).await.status, 403);
        assert_eq!(alice.submit("/passwords", path, &[("do", "remove")]).await.status, 403);
    }
}

#[tokio::test]
async fn app_passwords_are_shown_once_and_are_their_accounts_alone() {
    let scene = Scene::new().await;
    let (alice, bob, operator) = (scene.person("alice").await, scene.person("bob").await, scene.operator().await);
    let page = "/passwords";
    let shown = alice.submit(page, page, &[("do", "make"), ("name", "laptop")]).await;
    let password = secret_of(&shown.text());
    assert!(password.starts_with("fbp_") && shown.header("cache-control") == "no-store");
    shown.says(&["rclone config create", "/remote.php/dav/files/alice/"]);
    alice.get(page).await.says(&["laptop", "never"]).hides(&[&password]);
    operator.get("/accounts/alice").await.says(&["laptop"]).hides(&[&password]);
    bob.get(page).await.hides(&["laptop"]);
    assert_eq!(bob.submit(page, page, &[("do", "revoke"), ("name", "laptop")]).await.status, 404);
    assert!(scene.ops.login("alice", Secret::new(password.as_str()), None).await.is_ok());
    alice.get(page).await.hides(&[">never<"]);
    alice.submit(page, page, &[("do", "make"), ("name", "laptop")]).await.says(&["app-password-name-error"]);
    alice
        .submit(page, page, &[("do", "make"), ("name", "<b>")])
        .await
        .says(&["app-password-name-error"])
        .hides(&["<b>"]);
    assert_eq!(alice.post(page, &[("do", "revoke"), ("name", "laptop")]).await.status, 403);
    assert_eq!(alice.submit(page, page, &[("do", "revoke"), ("name", "laptop")]).await.status, 303);
    assert!(scene.ops.login("alice", Secret::new(password), None).await.is_err());
    assert_eq!(operator.get(page).await.status, 403);

    let made = operator.submit("/accounts/bob", "/accounts/bob", &[("do", "make"), ("name", "sync")]).await;
    made.says(&["fbp_", "/remote.php/dav/files/bob/"]);
    bob.get(page).await.says(&["sync"]);
}

#[tokio::test]
async fn a_declared_account_is_not_changed_here() {
    let scene = Scene::new().await;
    let request = crate::ops::AccountRequest {
        name: "declared".into(),
        password: None,
        root: None,
        customer_url: String::new(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: true,
    };
    scene.ops.write_account(request).await.unwrap();
    let operator = scene.operator().await;
    let page = "/accounts/declared";
    operator.get(page).await.says(&["Declared in the configuration file"]).hides(&["Change the password"]);
    for fields in
        [[("do", "password"), ("password", "x")], [("do", "change"), ("root", "")], [("do", "remove"), ("", "")]]
    {
        assert_eq!(operator.submit(page, page, &fields).await.status, 409);
    }
    let refused = scene.ops.change_account("declared", AccountChange::default()).await;
    assert!(matches!(refused, Err(OpsError::Managed(_))));
}
