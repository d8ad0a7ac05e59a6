//! The whole road over the router, with a clock that is moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use filebell_core::secret::Secret;
use filebell_core::subscription::SignatureEncoding;
use filebell_core::time::TimestampMs;
use filebell_core::wire::percent_encode;
use filebell_core::wire::sagex3::ErrorForm;
use filebell_core::wire::sagex3::ask::Transport;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tower_service::Service;
use url::Url;

use crate::delivery::{Egress, Policy};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::ops::{AccountRequest, ApplicationRequest, Caller, Download, GrantRequest, Ops, SageX3Settings};
use crate::seams::Seams;
use crate::store::{Store, StoreKey};

const CLIENT: &str = "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10";
const SECRET: &str = "s3cr3t-Example";
const CALLBACK: &str = "https://app.example.org/x3/callback";
const CUSTOMER: &str = "https://x3.acme.example";
const BASE: &str = "http://files.example.org";
const START: i64 = 1_700_000_000_000;
/// The example of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Scene {
    ops: Ops,
    router: Router,
    clock: Arc<AtomicI64>,
    dir: tempfile::TempDir,
}

struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answered {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text()))
    }

    fn header(&self, name: &str) -> String {
        self.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    /// The value of a hidden field.
    fn field(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("name=\"{name}\" value=\""))?;
        Some(rest.split('"').next().unwrap().to_owned())
    }

    fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap().to_owned()
    }

    #[track_caller]
    fn refuses(&self, status: u16, message: &str) {
        assert_eq!((self.status.as_u16(), self.json()), (status, json!({ "message": message })));
    }
}

impl Scene {
    async fn new() -> Self {
        Self::with(SageX3Settings { download: Download::Direct, ..SageX3Settings::default() }).await
    }

    async fn with(settings: SageX3Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let ticking = clock.clone();
        let seams = Seams::with_clock(move || TimestampMs::from_millis(ticking.load(Ordering::Relaxed)));
        let store = Store::open_sqlite(dir.path(), StoreKey::generate().unwrap()).await.unwrap();
        let journal = Journal::open(store.clone(), seams.clone(), Metrics::new());
        let admin = Some(Secret::new("operator"));
        let ops = Ops::with_sagex3(store, journal, seams, Url::parse(BASE).unwrap(), admin, settings);
        let scene = Self { router: crate::http::router(ops.clone(), Router::new()), ops, clock, dir };
        scene.account("acme", CUSTOMER).await;
        scene.account("other", "https://x3.other.example").await;
        scene.application("ledger", CLIENT).await;
        scene.application("stranger", "stranger-client").await;
        scene
    }

    async fn account(&self, name: &str, customer_url: &str) {
        let root = self.dir.path().join(name);
        std::fs::create_dir_all(root.join("SEED")).unwrap();
        std::fs::create_dir_all(root.join("<b>&\"")).unwrap();
        std::fs::create_dir_all(root.join(".hidden")).unwrap();
        let request = AccountRequest {
            name: name.into(),
            password: Some(Secret::new("secret")),
            root: Some(root),
            customer_url: customer_url.into(),
            customer_id: format!("{name}-config"),
            customer_code: name.into(),
            quota_bytes: None,
            managed: false,
        };
        self.ops.write_account(request).await.unwrap();
    }

    async fn application(&self, name: &str, client_id: &str) {
        let request = ApplicationRequest {
            name: name.into(),
            client_id: Some(client_id.into()),
            client_secret: Some(Secret::new(SECRET)),
            redirect_urls: vec![CALLBACK.into(), "https://app.example.org/second?a=b".into()],
            notification_url: None,
            signature_encoding: SignatureEncoding::Hex,
            managed: false,
        };
        self.ops.write_application(request).await.unwrap();
    }

    async fn grant(&self, application: &str, account: &str) {
        let request = GrantRequest {
            application: application.into(),
            account: account.into(),
            folders: vec!["SEED".into()],
            scopes: vec!["api.dataDelivery".into(), "api.dataIngestion".into()],
        };
        self.ops.write_grant(request).await.unwrap();
    }

    fn pass(&self, secs: i64) {
        self.clock.fetch_add(secs * 1000, Ordering::Relaxed);
    }

    fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed) / 1000
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().call(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answered { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str, bearer: &str) -> Answered {
        self.ask("GET", path, &[("authorization", &format!("Bearer {bearer}"))], "").await
    }

    async fn token(&self, body: Value) -> Answered {
        self.ask("POST", "/v1/token", &[("content-type", "application/json")], body.to_string()).await
    }

    async fn standard(&self, path: &str, form: &str) -> Answered {
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{SECRET}")));
        let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, &headers, form.to_owned()).await
    }

    async fn exchange(&self, code: &str) -> Answered {
        self.token(json!({"grant_type": "authorization_code", "code": code, "client_id": CLIENT,
            "client_secret": SECRET, "redirect_uri": CALLBACK}))
            .await
    }

    async fn renew(&self, refresh: &Value) -> Answered {
        self.token(json!({"grant_type": "refresh_token", "refresh_token": refresh, "client_id": CLIENT,
            "client_secret": SECRET}))
            .await
    }

    async fn log_in(&self, query: &str) -> (String, Answered) {
        let page = self.ask("GET", &format!("/v1/token/authorise?{query}"), &[], "").await;
        assert_eq!(page.status, 200, "{}", page.text());
        let form = format!("{query}&csrf={}&name=acme&password=secret", page.field("csrf").unwrap());
        let sent = self.ask("POST", "/v1/token/authorise", &[("cookie", &page.cookie())], form).await;
        assert_eq!(sent.status, 303, "{}", sent.text());
        let at = format!("/v1/token/{}", sent.header("location"));
        let page = self.ask("GET", &at, &[("cookie", &sent.cookie())], "").await;
        assert_eq!(page.status, 200, "{}", page.text());
        (format!("{at} {}", sent.cookie()), page)
    }

    /// Sends the decision of the page at `place`, a path and a cookie.
    async fn decide(&self, place: &str, page: &Answered, decision: &str) -> Answered {
        let (at, cookie) = place.split_once(' ').unwrap();
        let form = format!("csrf={}&{decision}", page.field("csrf").unwrap());
        self.ask("POST", at, &[("cookie", cookie)], form).await
    }

    async fn code(&self) -> String {
        let (place, page) = self.log_in(&query()).await;
        let back = self.decide(&place, &page, "decision=accept&folder=SEED").await;
        back.field("authorizationCode").unwrap_or_else(|| panic!("{}", back.text()))
    }

    /// Changes the store behind its back.
    fn meddle(&self, sql: &str) {
        rusqlite::Connection::open(self.dir.path().join("filebell.db")).unwrap().execute_batch(sql).unwrap();
    }

    async fn pair(&self) -> Value {
        let answer = self.exchange(&self.code().await).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }
}

fn query() -> String {
    let (customer, redirect) = (percent_encode(CUSTOMER.as_bytes()), percent_encode(CALLBACK.as_bytes()));
    format!("client_id={CLIENT}&scope=api.dataDelivery&customer={customer}&redirect_uri={redirect}&state=fB0q.%2B%26")
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

fn access(tokens: &Value) -> &str {
    tokens["access_token"].as_str().unwrap()
}

// --- pairing

#[tokio::test]
async fn a_pairing_goes_through_login_and_consent_to_the_callback_and_its_code_to_tokens() {
    let scene = Scene::new().await;
    let (place, page) = scene.log_in(&query()).await;
    assert!(page.text().contains("&#60;b&#62;&#38;&#34;"), "names are escaped: {}", page.text());
    assert!(!page.text().contains(".hidden") && !page.text().contains("<script"));
    let back = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    assert_eq!(back.status, 200);
    assert!(back.text().contains(&format!("action=\"{CALLBACK}\"")), "{}", back.text());
    assert_eq!(back.field("state").unwrap(), "fB0q.+&#38;", "unchanged");
    let tokens = scene.exchange(&back.field("authorizationCode").unwrap()).await;
    assert_eq!((tokens.status.as_u16(), tokens.header("cache-control").as_str()), (200, "no-store"));
    let tokens = tokens.json();
    assert_eq!(tokens["scope"], "api.dataDelivery folder.SEED");
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(300)));
    let folders = scene.get("/v1/folders", access(&tokens)).await.json();
    assert_eq!(folders["folders"][0]["name"], "SEED");
}

#[tokio::test]
async fn the_pages_cannot_be_framed_run_no_script_and_are_kept_by_nobody() {
    let scene = Scene::new().await;
    let page = scene.ask("GET", &format!("/v1/token/authorise?{}", query()), &[], "").await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("form-action 'self';") && !policy.contains("script-src"), "{policy}");
    assert_eq!((page.header("x-frame-options"), page.header("cache-control")), ("DENY".into(), "no-store".into()));
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    let cookie = page.header("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
}

#[tokio::test]
async fn a_rejection_goes_to_the_application_with_its_state() {
    let scene = Scene::new().await;
    let (place, page) = scene.log_in(&query()).await;
    let back = scene.decide(&place, &page, "decision=reject").await;
    assert_eq!(back.field("error").unwrap(), "The pairing request has been rejected.");
    assert_eq!(back.field("state").unwrap(), "fB0q.+&#38;");
    assert_eq!(back.field("authorizationCode"), None);
    let again = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    again.refuses(403, "Pairing request not found");
    assert!(scene.ops.grants().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_answer_travels_in_the_query_where_that_was_chosen() {
    let scene = Scene::with(SageX3Settings { callback: Transport::Query, ..SageX3Settings::default() }).await;
    let second = percent_encode(b"https://app.example.org/second?a=b");
    let asked = query().replace(&percent_encode(CALLBACK.as_bytes()), &second);
    let (place, page) = scene.log_in(&asked).await;
    let policy = page.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https://app.example.org"), "{policy}");
    let back = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    assert_eq!(back.status, 303);
    let to = Url::parse(&back.header("location")).unwrap();
    let pairs: std::collections::HashMap<_, _> = to.query_pairs().collect();
    assert!(to.as_str().starts_with("https://app.example.org/second?a=b&"), "{to}");
    assert_eq!((pairs["state"].as_ref(), pairs["iss"].as_ref()), ("fB0q.+&", BASE));
    assert_eq!(pairs["code"], pairs["authorizationCode"]);
}

#[tokio::test]
async fn nothing_goes_to_an_address_that_is_not_registered() {
    let scene = Scene::new().await;
    let unknown = "Could not associate the values with an application registered on Sage Business Cloud";
    for wrong in [
        "https://evil.example/x3/callback",
        "https://app.example.org/x3/callback/",
        "https://app.example.org/x3/callback?x=1",
        "https://app.example.org.evil.example/x3/callback",
        "https://app.example.org@evil.example/x3/callback",
        "HTTPS://app.example.org/x3/callback",
        "//app.example.org/x3/callback",
        "javascript:alert(1)",
    ] {
        let asked = query().replace(&percent_encode(CALLBACK.as_bytes()), &percent_encode(wrong.as_bytes()));
        let answer = scene.ask("GET", &format!("/v1/token/authorise?{asked}"), &[], "").await;
        answer.refuses(404, unknown);
        let answer = scene.ask("POST", "/v1/token/authorise", &[], asked).await;
        answer.refuses(404, unknown);
    }
}

#[tokio::test]
async fn a_request_for_consent_is_refused_in_the_documented_words() {
    let scene = Scene::new().await;
    let check = async |query: &str, status: u16, message: &str| {
        scene.ask("GET", &format!("/v1/token/authorise?{query}"), &[], "").await.refuses(status, message);
    };
    for name in ["client_id", "scope", "customer", "redirect_uri", "state"] {
        let without = query().split('&').filter(|pair| !pair.starts_with(name)).collect::<Vec<_>>().join("&");
        check(&without, 400, "Missing required request parameters").await;
        check(&format!("{}&{name}=x", query()), 400, &format!("Invalid request parameter {name}")).await;
    }
    let long = query().replace("state=", &format!("state={}", "x".repeat(5000)));
    check(&long, 400, "Invalid request parameter state").await;
    check(
        &query().replace(CLIENT, "nobody"),
        404,
        "Could not associate the values with an active application registered on Sage Business Cloud",
    )
    .await;
    check(&query().replace("api.dataDelivery", "api.everything"), 400, "Invalid request parameter scope").await;
    scene.ops.set_application_disabled("ledger", true).await.unwrap();
    check(&query(), 403, "The application registered on Sage Business Cloud is disabled").await;
    scene.ops.set_application_disabled("ledger", false).await.unwrap();

    let page = format!("/v1/token/authorise?{}", query().replace("acme", "nobody"));
    let back = scene.ask("GET", &page, &[], "").await;
    assert_eq!(back.status, 404);
    let unknown =
        "Could not associate the requested url with an customer application registered on Sage Business Cloud";
    assert_eq!(back.field("error").unwrap(), unknown);
    assert_eq!(back.field("state").unwrap(), "fB0q.+&#38;");

    let page = format!("/v1/token/authorise?{}", query().replace("state", "estate"));
    let shown = scene.ask("GET", &page, &[("accept", "text/html,*/*")], "").await;
    assert!(shown.text().contains("Missing required request parameters") && shown.text().contains("<main>"));
}

#[tokio::test]
async fn only_the_browser_that_was_shown_a_form_can_send_it_and_only_the_customers_account_counts() {
    let scene = Scene::new().await;
    let page = scene.ask("GET", &format!("/v1/token/authorise?{}", query()), &[], "").await;
    let csrf = page.field("csrf").unwrap();
    let form =
        |csrf: &str, name: &str, password: &str| format!("{}&csrf={csrf}&name={name}&password={password}", query());
    for (cookie, body) in [
        (String::new(), form(&csrf, "acme", "secret")),
        ("filebell-login=other".to_owned(), form(&csrf, "acme", "secret")),
        (page.cookie(), form("00", "acme", "secret")),
        (page.cookie(), form(&csrf, "acme", "wrong")),
        (page.cookie(), form(&csrf, "other", "secret")),
        (page.cookie(), form(&csrf, "nobody", "secret")),
    ] {
        let sent = scene.ask("POST", "/v1/token/authorise", &[("cookie", &cookie)], body).await;
        assert_eq!(sent.status, 403, "{}", sent.text());
        assert!(sent.text().contains("role=\"alert\""));
    }
    let (place, page) = scene.log_in(&query()).await;
    let (at, cookie) = place.split_once(' ').unwrap();
    for (cookie, body) in [
        ("", format!("csrf={}&decision=accept&folder=SEED", page.field("csrf").unwrap())),
        ("filebell-pairing=x", format!("csrf={}&decision=accept&folder=SEED", page.field("csrf").unwrap())),
        (cookie, "csrf=00&decision=accept&folder=SEED".to_owned()),
        (cookie, "decision=accept&folder=SEED".to_owned()),
    ] {
        scene.ask("POST", at, &[("cookie", cookie)], body).await.refuses(403, "Pairing request not found");
    }
    for folders in ["", "&folder=NONE", "&folder=SEED&folder=../etc", "&folder=.hidden"] {
        let again = scene.decide(&place, &page, &format!("decision=accept{folders}")).await;
        assert_eq!(again.status, 400, "{folders}");
    }
    assert!(scene.ops.grants().await.unwrap().is_empty());
    scene.pass(24 * 60 * 60);
    scene.decide(&place, &page, "decision=accept&folder=SEED").await.refuses(403, "The request has expired.");
}

// --- tokens

#[tokio::test]
async fn every_row_of_the_table_of_errors_is_answered_in_its_words() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    let good = json!({"grant_type": "authorization_code", "code": code, "client_id": CLIENT,
        "client_secret": SECRET, "redirect_uri": CALLBACK});
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        changed
    };
    let no_client = "Could not associate the values with an active application registered on Sage Business Cloud";
    let no_redirect = "Could not associate the values with an application registered on Sage Business Cloud";
    for name in ["grant_type", "code", "client_id", "client_secret", "redirect_uri"] {
        scene.token(with(name, json!(""))).await.refuses(400, "Missing required request parameters");
        let invalid = format!("Invalid request parameter {name}");
        scene.token(with(name, json!(7))).await.refuses(400, &invalid);
        scene.token(with(name, json!("x".repeat(1 << 14)))).await.refuses(400, &invalid);
    }
    scene.token(with("grant_type", json!("password"))).await.refuses(400, "Invalid grant type");
    scene.token(with("grant_type", json!("client_credentials"))).await.refuses(400, "Invalid grant type");
    scene.token(with("client_id", json!("nobody"))).await.refuses(404, no_client);
    scene.token(with("client_secret", json!("wrong"))).await.refuses(404, no_client);
    scene.token(with("redirect_uri", json!("https://evil.example/"))).await.refuses(404, no_redirect);
    let second = json!("https://app.example.org/second?a=b");
    scene.token(with("redirect_uri", second)).await.refuses(404, no_redirect);
    scene.token(with("code", json!("nonsense"))).await.refuses(403, "Pairing request not found");
    let forged = format!("{}.forged", code.split('.').next().unwrap());
    scene.token(with("code", json!(forged))).await.refuses(403, "Pairing request not found");
    scene.token(with("client_id", json!("stranger-client"))).await.refuses(403, "Pairing request not found");
    scene.token(with("code_verifier", json!(VERIFIER))).await.refuses(403, "Pairing request not found");

    let (place, page) = scene.log_in(&query()).await;
    let waiting = format!("{}.x", place.split(' ').next().unwrap().rsplit('/').next().unwrap());
    scene.token(with("code", json!(waiting))).await.refuses(403, "The pairing request has not been accepted.");
    scene.decide(&place, &page, "decision=reject").await;
    scene.token(with("code", json!(waiting))).await.refuses(403, "The pairing request has not been accepted.");

    scene.ops.set_application_disabled("ledger", true).await.unwrap();
    let disabled = "The application registered on Sage Business Cloud is disabled";
    scene.token(with("client_secret", json!("wrong"))).await.refuses(403, disabled);
    scene.ops.set_application_disabled("ledger", false).await.unwrap();
    scene.pass(600);
    scene.token(good.clone()).await.refuses(403, "The request has expired.");
    assert_eq!(scene.get("/v1/folders", "nonsense").await.status, 401);
}

#[tokio::test]
async fn a_code_is_used_once_and_ends_what_came_of_it_when_it_comes_again() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    let tokens = scene.exchange(&code).await.json();
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
    scene.exchange(&code).await.refuses(403, "Pairing request not found");
    scene.get("/v1/folders", access(&tokens)).await.refuses(401, "Unauthorised");
    scene.renew(&tokens["refresh_token"]).await.refuses(403, "The request has expired.");
}

#[tokio::test]
async fn a_code_with_a_challenge_needs_its_verifier() {
    let scene = Scene::new().await;
    let asked = format!("{}&code_challenge={CHALLENGE}&code_challenge_method=S256", query());
    let (place, page) = scene.log_in(&asked).await;
    let back = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    let code = back.field("authorizationCode").unwrap();
    scene.exchange(&code).await.refuses(403, "Pairing request not found");
    let form = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={}&code_verifier={VERIFIER}",
        percent_encode(CALLBACK.as_bytes())
    );
    let tokens = scene.standard("/oauth/token", &form).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
}

#[tokio::test]
async fn the_claims_are_the_documented_ones() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let application = scene.ops.application("ledger").await.unwrap().application_id;
    let mut access = claims(access(&tokens));
    let refresh = claims(tokens["refresh_token"].as_str().unwrap());
    let now = scene.now();
    assert_eq!((&access["sid"], access["exp"].as_i64()), (&refresh["sid"], Some(now + 300)));
    assert_eq!(refresh["exp"].as_i64(), Some(now + 30 * 86_400));
    assert!(refresh["jti"].is_string() && access.get("jti").is_none());
    access.as_object_mut().unwrap().remove("sid");
    let expected = json!({"iss": "files.example.org", "aud": "files.example.org", "iat": now, "exp": now + 300,
        "region": "local", "sub": "acme-config", "azp": application, "scopes": "api.dataDelivery folder.SEED"});
    assert_eq!(access, expected);
}

#[tokio::test]
async fn a_token_ends_at_its_time_and_no_other_token_is_taken() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let token = access(&tokens).to_owned();
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    assert_eq!((&header["alg"], &header["typ"]), (&json!("RS256"), &json!("at+jwt")));
    let none = encode(&json!({"alg": "none", "typ": "at+jwt", "kid": header["kid"]}));
    let keys = scene.ask("GET", "/.well-known/jwks.json", &[], "").await.json();
    let modulus = keys["keys"][0]["n"].as_str().unwrap();
    let hs = |key: &[u8]| {
        let head = encode(&json!({"alg": "HS256", "typ": "at+jwt", "kid": header["kid"]}));
        let signed = format!("{head}.{}", parts[1]);
        let tag = filebell_core::wire::sign::hmac_sha256(key, &[signed.as_bytes()]);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let mut kid = header.clone();
    kid["kid"] = json!("other");
    let mut longer = claims(&token);
    longer["exp"] = json!(scene.now() + 99_999);
    for wrong in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        hs(modulus.as_bytes()),
        hs(&URL_SAFE_NO_PAD.decode(modulus).unwrap()),
        hs(b""),
        format!("{}.{}.{}", encode(&kid), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], encode(&longer), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        tokens["refresh_token"].as_str().unwrap().to_owned(),
        String::new(),
    ] {
        scene.get("/v1/folders", &wrong).await.refuses(401, "Unauthorised");
    }
    scene.renew(&json!(token)).await.refuses(403, "The request has expired.");
    scene.pass(-61);
    scene.get("/v1/folders", &token).await.refuses(401, "Unauthorised");
    scene.pass(61 + 299);
    assert_eq!(scene.get("/v1/folders", &token).await.status, 200);
    scene.pass(1);
    scene.get("/v1/folders", &token).await.refuses(401, "Unauthorised");
}

#[tokio::test]
async fn a_token_for_another_host_is_none() {
    // Two servers on one store, so that the same key signs for both.
    let scene = Scene::new().await;
    scene.grant("ledger", "acme").await;
    let seams = Seams::with_clock(|| TimestampMs::from_millis(START));
    let key = StoreKey::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(dir.path(), key).await.unwrap();
    let ops = |host: &str| {
        let journal = Journal::open(store.clone(), seams.clone(), Metrics::new());
        Ops::new(store.clone(), journal, seams.clone(), Url::parse(host).unwrap(), None)
    };
    let (one, other) = (ops("https://one.example"), ops("https://other.example"));
    let account = AccountRequest {
        name: "acme".into(),
        password: None,
        root: None,
        customer_url: CUSTOMER.into(),
        customer_id: String::new(),
        customer_code: String::new(),
        quota_bytes: None,
        managed: false,
    };
    one.write_account(account).await.unwrap();
    let application = ApplicationRequest {
        name: "ledger".into(),
        client_id: None,
        client_secret: None,
        redirect_urls: vec![],
        notification_url: None,
        signature_encoding: SignatureEncoding::Hex,
        managed: false,
    };
    one.write_application(application).await.unwrap();
    let grant = GrantRequest {
        application: "ledger".into(),
        account: "acme".into(),
        folders: vec!["SEED".into()],
        scopes: vec![],
    };
    one.write_grant(grant).await.unwrap();
    let pair = one.issue_tokens("ledger", "acme", Duration::from_secs(60)).await.unwrap();
    assert!(one.bearer(&pair.access).await.is_ok());
    assert!(other.bearer(&pair.access).await.is_err());
}

#[tokio::test]
async fn a_renewal_that_is_lost_can_be_asked_for_again_and_a_theft_ends_the_pairing() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let lost = scene.renew(&tokens["refresh_token"]).await.json();
    assert!(lost["refresh_token"].is_string());
    scene.pass(59);
    let second = scene.renew(&tokens["refresh_token"]).await.json();
    assert_ne!(second["refresh_token"], tokens["refresh_token"]);
    let third = scene.renew(&second["refresh_token"]).await.json();
    assert_eq!(scene.get("/v1/folders", access(&third)).await.status, 200);
    scene.renew(&tokens["refresh_token"]).await.refuses(403, "The request has expired.");
    scene.get("/v1/folders", access(&third)).await.refuses(401, "Unauthorised");
    scene.renew(&third["refresh_token"]).await.refuses(403, "The request has expired.");
}

#[tokio::test]
async fn tokens_are_deleted_by_their_application_only_and_deleting_again_is_no_error() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let delete = async |client: &str, secret: &str| {
        let body = json!({"client_id": client, "client_secret": secret, "refresh_token": tokens["refresh_token"]});
        scene.ask("DELETE", "/v1/token", &[], body.to_string()).await.status.as_u16()
    };
    assert_eq!(scene.ask("DELETE", "/v1/token", &[], "").await.status, 401);
    assert_eq!(delete(CLIENT, "wrong").await, 404);
    assert_eq!(delete("stranger-client", SECRET).await, 204);
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200, "another's is not touched");
    assert_eq!(delete(CLIENT, SECRET).await, 204);
    assert_eq!(delete(CLIENT, SECRET).await, 204);
    scene.renew(&tokens["refresh_token"]).await.refuses(403, "The request has expired.");

    let tokens = scene.pair().await;
    let jti = claims(tokens["refresh_token"].as_str().unwrap())["jti"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}", access(&tokens));
    for _ in 0..2 {
        let deleted = scene.ask("DELETE", &format!("/v1/token/{jti}"), &[("authorization", &bearer)], "").await;
        assert_eq!((deleted.status.as_u16(), deleted.text().as_str()), (204, ""));
    }
    scene.get("/v1/folders", access(&tokens)).await.refuses(401, "Unauthorised");
}

#[tokio::test]
async fn a_rotated_key_signs_and_the_old_one_still_verifies() {
    let scene = Scene::new().await;
    let before = scene.pair().await;
    let kid = scene.ops.rotate_keys().await.unwrap();
    let keys = scene.ask("GET", "/.well-known/jwks.json", &[], "").await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none() && key["alg"] == "RS256"));
    assert_eq!(scene.get("/v1/folders", access(&before)).await.status, 200);
    let after = scene.renew(&before["refresh_token"]).await.json();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(access(&after).split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!(header["kid"], kid);
}

#[tokio::test]
async fn a_standard_client_finds_its_way() {
    let scene = Scene::new().await;
    let told = scene.ask("GET", "/.well-known/oauth-authorization-server", &[], "").await.json();
    assert_eq!((&told["issuer"], &told["code_challenge_methods_supported"]), (&json!(BASE), &json!(["S256"])));
    let nobody = scene.standard("/oauth/token", "grant_type=client_credentials").await;
    assert_eq!((nobody.status.as_u16(), nobody.json()["error"].clone()), (400, json!("invalid_grant")));
    scene.grant("ledger", "acme").await;
    let tokens = scene.standard("/oauth/token", "grant_type=client_credentials").await.json();
    assert_eq!(tokens.get("refresh_token"), None);
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
    scene.grant("ledger", "other").await;
    let which = scene.standard("/oauth/token", "grant_type=client_credentials").await;
    assert_eq!(which.json()["error"], "invalid_request");
    let one = scene.standard("/oauth/token", "grant_type=client_credentials&customer=other").await.json();
    assert_eq!(claims(access(&one))["sub"], "other-config");

    let introspect = async |token: &str| scene.standard("/oauth/introspect", &format!("token={token}")).await.json();
    let seen = introspect(access(&one)).await;
    assert_eq!(
        (&seen["active"], &seen["sub"], &seen["client_id"]),
        (&json!(true), &json!("other-config"), &json!(CLIENT))
    );
    assert_eq!(scene.standard("/oauth/revoke", &format!("token={}", access(&one))).await.status, 200);
    assert_eq!(scene.standard("/oauth/revoke", "token=nonsense").await.status, 200);
    assert_eq!(introspect(access(&one)).await, json!({"active": false}));
    scene.grant("stranger", "acme").await;
    let foreign = scene.ops.issue_tokens("stranger", "acme", Duration::from_secs(300)).await.unwrap();
    assert_eq!(introspect(foreign.access.expose()).await, json!({"active": false}));
    assert_eq!(introspect(foreign.refresh.expose()).await, json!({"active": false}));

    let wrong = scene.ask("POST", "/oauth/token", &[], "{}").await;
    assert_eq!((wrong.status.as_u16(), wrong.json()["error"].clone()), (400, json!("invalid_request")));
    let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:wrong")));
    let body = "grant_type=client_credentials";
    let headers = [("authorization", basic.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let wrong = scene.ask("POST", "/oauth/token", &headers, body).await;
    assert_eq!((wrong.status.as_u16(), wrong.json()["error"].clone()), (401, json!("invalid_client")));
}

// --- revocation, secrets

#[tokio::test]
async fn a_consent_that_is_taken_back_ends_everything_at_once() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let account = Caller::Account(scene.ops.login("acme", Secret::new("secret"), None).await.unwrap());
    let stranger = Caller::Account(scene.ops.login("other", Secret::new("secret"), None).await.unwrap());
    assert!(scene.ops.revoke_grant(&stranger, "ledger", "acme").await.is_err());
    scene.ops.revoke_grant(&account, "ledger", "acme").await.unwrap();
    scene.get("/v1/folders", access(&tokens)).await.refuses(401, "Unauthorised");
    scene.renew(&tokens["refresh_token"]).await.refuses(403, "The request has expired.");
    let declared = GrantRequest {
        application: "ledger".into(),
        account: "acme".into(),
        folders: vec!["SEED".into()],
        scopes: vec![],
    };
    assert!(!scene.ops.declare_grant(declared).await.unwrap(), "a restart does not bring it back");
    let again = scene.pair().await;
    assert_eq!(scene.get("/v1/folders", access(&again)).await.status, 200);
    scene.get("/v1/folders", access(&tokens)).await.refuses(401, "Unauthorised");
}

#[tokio::test]
async fn a_code_of_a_consent_that_was_taken_back_is_worth_nothing() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    scene.ops.revoke_grant(&Caller::Operator, "ledger", "acme").await.unwrap();
    scene.exchange(&code).await.refuses(403, "Pairing request not found");
}

#[tokio::test]
async fn a_new_secret_overlaps_with_the_old_one() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let fresh = scene.ops.rotate_application_secret("ledger", Duration::from_secs(60)).await.unwrap();
    let tokens = scene.renew(&tokens["refresh_token"]).await.json();
    let new = json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": CLIENT,
        "client_secret": fresh.expose()});
    let tokens = scene.token(new).await.json();
    scene.pass(60);
    assert_eq!(scene.renew(&tokens["refresh_token"]).await.status, 404);
}

#[tokio::test]
async fn a_disabled_applications_tokens_do_not_count_until_it_is_enabled() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let (change, mut changed) = watch::channel(0);
    scene.ops.telling(change);
    scene.ops.set_application_disabled("ledger", true).await.unwrap();
    assert!(changed.has_changed().unwrap(), "whoever sends hears of it at once");
    changed.mark_unchanged();
    scene.get("/v1/folders", access(&tokens)).await.refuses(401, "Unauthorised");
    let disabled = "The application registered on Sage Business Cloud is disabled";
    scene.renew(&tokens["refresh_token"]).await.refuses(403, disabled);
    scene.ops.set_application_disabled("ledger", false).await.unwrap();
    assert!(changed.has_changed().unwrap());
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
}

// --- data

#[tokio::test]
async fn a_signed_address_is_good_for_one_file_one_hour_and_one_consent() {
    let scene = Scene::with(SageX3Settings::default()).await;
    let tokens = scene.pair().await;
    let seed = scene.dir.path().join("acme/SEED");
    std::fs::create_dir_all(seed.join("sub")).unwrap();
    std::fs::write(seed.join("sub/a b.txt"), "hello\n").unwrap();
    std::fs::write(seed.join("other.txt"), "other").unwrap();
    let answer = scene.get("/v1/datadelivery/SEED?filename=sub%2Fa%20b.txt", access(&tokens)).await;
    assert_eq!(answer.status, 302);
    let to = answer.header("location");
    let path = to.strip_prefix(BASE).unwrap().to_owned();
    let fetch = async |path: &str| scene.ask("GET", path, &[], "").await;
    let whole = fetch(&path).await;
    assert_eq!((whole.status.as_u16(), whole.text().as_str()), (200, "hello\n"));
    let part = scene.ask("GET", &path, &[("range", "bytes=1-3")], "").await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "ell"));
    let head = scene.ask("HEAD", &path, &[], "").await;
    assert_eq!((head.status.as_u16(), head.header("content-length").as_str()), (200, "6"));
    for (from, to) in [
        ("sub%2Fa%20b.txt", "other.txt"),
        ("sub%2Fa%20b.txt", "..%2F..%2Fother%2FSEED%2Fx"),
        ("/SEED/", "/OTHER/"),
        ("/storage/1/", "/storage/2/"),
        ("expires=1", "expires=2"),
        ("signature=", "signature=0"),
        ("&signature=", "&x="),
    ] {
        assert!(path.contains(from), "{path}");
        fetch(&path.replace(from, to)).await.refuses(403, "Forbidden");
    }
    std::fs::remove_file(seed.join("sub/a b.txt")).unwrap();
    fetch(&path).await.refuses(404, "File not found");
    scene.get("/v1/datadelivery/SEED?filename=sub%2Fa%20b.txt", access(&tokens)).await.refuses(404, "File not found");
    std::fs::write(seed.join("sub/a b.txt"), "again").unwrap();
    scene.ops.revoke_grant(&Caller::Operator, "ledger", "acme").await.unwrap();
    fetch(&path).await.refuses(403, "Forbidden");
    scene.grant("ledger", "acme").await;
    assert_eq!(fetch(&path).await.status, 200);
    scene.pass(3600);
    fetch(&path).await.refuses(403, "Forbidden");
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_downloaded_and_a_folder_or_an_id_that_is_not_is_none() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::with(SageX3Settings::default()).await;
    let tokens = scene.pair().await;
    let name = std::ffi::OsStr::from_bytes(b"bad\xff\xfename");
    std::fs::write(scene.dir.path().join("acme/SEED").join(name), "hello").unwrap();
    let answer = scene.get("/v1/datadelivery/SEED?filename=bad%FF%FEname", access(&tokens)).await;
    let to = answer.header("location");
    let file = scene.ask("GET", to.strip_prefix(BASE).unwrap(), &[], "").await;
    assert_eq!((file.status.as_u16(), file.text().as_str()), (200, "hello"), "{to}");

    for (method, path, status, message) in [
        ("GET", "/v1/datadelivery/%FF", 403, "Forbidden"),
        ("GET", "/v1/datadelivery/%FF?filename=a", 403, "Forbidden"),
        ("DELETE", "/v1/datadelivery/%FF?filename=a", 403, "Forbidden"),
        ("POST", "/v1/dataingestion/%FF?filename=a", 403, "Forbidden"),
        ("GET", "/v1/notification/%FF", 404, "Notification not found"),
        ("GET", "/v1/dataingestion/tracking/%FF", 404, "File not found"),
    ] {
        let by = format!("Bearer {}", access(&tokens));
        scene.ask(method, path, &[("authorization", &by)], "").await.refuses(status, message);
        scene.ask(method, path, &[], "").await.refuses(401, "Unauthorised");
    }
    for path in ["/v1/storage/1/%FF/a", "/v1/storage/%FF/SEED/a", "/v1/storage/x/SEED/a"] {
        scene.ask("GET", path, &[], "").await.refuses(403, "Forbidden");
    }
    scene.ask("PUT", "/v1/storage/%FF/%FF", &[], "").await.refuses(403, "Forbidden");
}

#[tokio::test]
async fn a_name_that_leads_out_and_a_folder_that_was_not_granted_are_refused() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    std::fs::write(scene.dir.path().join("acme/secret.txt"), "x").unwrap();
    let seed = scene.dir.path().join("acme/SEED");
    std::os::unix::fs::symlink("/etc", seed.join("etc")).unwrap();
    for name in ["..%2Fsecret.txt", "%2Fetc%2Fhostname", "etc%2Fhostname", "a%00b", "", ".", "a%2F%2Fb"] {
        let path = format!("/v1/datadelivery/SEED?filename={name}");
        scene.get(&path, access(&tokens)).await.refuses(404, "File not found");
        let by = format!("Bearer {}", access(&tokens));
        assert!([404, 204].contains(&scene.ask("DELETE", &path, &[("authorization", &by)], "").await.status.as_u16()));
    }
    assert!(scene.dir.path().join("acme/secret.txt").exists());
    for folder in ["OTHER", "..", "%2e%2e", "SEED%2F.."] {
        let answer = scene.get(&format!("/v1/datadelivery/{folder}?filename=secret.txt"), access(&tokens)).await;
        assert!([403, 404].contains(&answer.status.as_u16()), "{folder}: {}", answer.text());
    }
    let missing = scene.get("/v1/datadelivery/SEED?filename=a&filename=b", access(&tokens)).await;
    assert_eq!(missing.status, 400);
    assert_eq!(missing.json()["missingParam"]["message"], "Missing required request parameters filename");
}

#[tokio::test]
async fn the_switches_for_the_form_of_errors_and_for_a_quota_hold() {
    let settings = SageX3Settings {
        errors: ErrorForm::Flat,
        quota_per_day: Some(3),
        region: "eu-prod".into(),
        access_for: Duration::from_secs(3600 * 48),
        ..SageX3Settings::default()
    };
    let scene = Scene::with(settings).await;
    let tokens = scene.pair().await;
    assert_eq!(claims(access(&tokens))["region"], "eu-prod");
    let twice = "/v1/datadelivery/SEED?filename=a&filename=b";
    scene.get(twice, access(&tokens)).await.refuses(400, "Missing required request parameters filename");
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
    let over = scene.get("/v1/folders", access(&tokens)).await;
    over.refuses(429, "Too Many Requests");
    let wait: i64 = over.header("retry-after").parse().unwrap();
    scene.pass(wait);
    assert_eq!(scene.get("/v1/folders", access(&tokens)).await.status, 200);
}

#[tokio::test]
async fn an_application_is_registered_turned_off_and_removed_by_the_operator_and_a_grant_also_by_its_account() {
    let scene = Scene::new().await;
    let operator = ("authorization", "Bearer operator");
    let basic = |name: &str| format!("Basic {}", STANDARD.encode(format!("{name}:secret")));
    let body = json!({"name": "new", "redirect_urls": [CALLBACK]}).to_string();
    let added = scene.ask("POST", "/api/v1/applications", &[operator], body.clone()).await;
    assert_eq!((added.status.as_u16(), added.json()["client_secret"].is_string()), (201, true));
    assert_eq!(scene.ask("POST", "/api/v1/applications", &[operator], body.clone()).await.status, 409);
    let mine = [("authorization", &*basic("acme"))];
    let refused = scene.ask("POST", "/api/v1/applications", &mine, body).await;
    assert_eq!((refused.status.as_u16(), refused.json()["code"].clone()), (403, json!("not-granted")));
    let shown = scene.ask("GET", "/api/v1/applications/new", &[operator], "").await.json();
    assert_eq!(shown.get("client_secret"), None);
    let rotated = scene.ask("POST", "/api/v1/applications/new/rotate-secret", &[operator], "").await.json();
    assert_ne!(rotated["client_secret"], added.json()["client_secret"]);
    for (path, disabled) in [("disable", true), ("enable", false)] {
        let path = format!("/api/v1/applications/new/{path}");
        assert_eq!(scene.ask("POST", &path, &[operator], "").await.status, 204);
        assert_eq!(scene.ops.application("new").await.unwrap().disabled, disabled);
    }
    assert_eq!(scene.ask("POST", "/api/v1/applications", &[operator], "{\"nam\":1}").await.status, 400);

    let body = json!({"application": "new", "account": "acme", "folders": ["SEED"]}).to_string();
    assert_eq!(scene.ask("POST", "/api/v1/grants", &[operator], body).await.status, 201);
    let seen = scene.ask("GET", "/api/v1/grants", &mine, "").await.json();
    assert_eq!(seen[0]["application"], "new");
    let others = [("authorization", &*basic("other"))];
    assert_eq!(scene.ask("GET", "/api/v1/grants", &others, "").await.json(), json!([]));
    assert_eq!(scene.ask("DELETE", "/api/v1/grants/new/acme", &others, "").await.status, 404);
    assert_eq!(scene.ask("DELETE", "/api/v1/grants/new/acme", &mine, "").await.status, 204);
    assert_eq!(scene.ask("DELETE", "/api/v1/grants/new/acme", &mine, "").await.status, 404);
    assert_eq!(scene.ask("DELETE", "/api/v1/applications/new", &[operator], "").await.status, 204);
}

#[tokio::test]
async fn an_upload_is_announced_put_followed_and_an_arrival_like_any_other() {
    let settings = SageX3Settings { upload_bytes_max: 10, ..SageX3Settings::default() };
    let scene = Scene::with(settings).await;
    let asked = query().replace("api.dataDelivery", "api.dataDelivery%20api.dataIngestion");
    let (place, page) = scene.log_in(&asked).await;
    let back = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    let tokens = scene.exchange(&back.field("authorizationCode").unwrap()).await.json();
    let by = format!("Bearer {}", access(&tokens));
    let announce = async |path: &str| scene.ask("POST", path, &[("authorization", &by)], "").await;
    let announced = announce("/v1/dataingestion/SEED?filename=sub%2Fimport1.txt").await;
    assert_eq!(announced.status, 200, "{}", announced.text());
    let url = |key: &str| announced.json()[key].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
    let (to, follow) = (url("uploadUrl"), url("trackingUrl"));
    let tracked = scene.get(&follow, access(&tokens)).await.json();
    assert_eq!(
        (&tracked["status"], &tracked["statusMessage"]),
        (&json!("awaiting_upload"), &json!("Waiting for upload"))
    );
    assert_eq!((&tracked["fileName"], &tracked["customerCode"]), (&json!("sub/import1.txt"), &json!("acme")));
    scene.ask("PUT", &to.replace("signature=", "signature=0"), &[], "x").await.refuses(403, "Forbidden");
    let large = scene.ask("PUT", &to, &[], "x".repeat(11)).await;
    assert_eq!(large.status, 413);
    assert_eq!(scene.get(&follow, access(&tokens)).await.json()["status"], "error");
    assert_eq!(scene.ask("PUT", &to, &[], "hello\n").await.status, 200);
    assert_eq!(scene.get(&follow, access(&tokens)).await.json()["status"], "done");
    scene.ask("PUT", &to, &[], "again").await.refuses(403, "File already exists");
    announce("/v1/dataingestion/SEED/?filename=sub%2Fimport1.txt").await.refuses(403, "File already exists");
    let missing = "Missing required request parameters filename";
    announce("/v1/dataingestion/SEED").await.refuses(400, missing);
    announce("/v1/dataingestion/OTHER?filename=a").await.refuses(403, "Forbidden");
    announce("/v1/dataingestion/SEED?filename=..%2Fa").await.refuses(400, "Invalid request parameter filename");
    let listed = scene.get("/v1/datadelivery/SEED", access(&tokens)).await.json();
    assert_eq!(listed["items"][0]["checksum"], "\"b1946ac92492d2347c6235b4d2611184\"");

    scene.grant("stranger", "acme").await;
    let stranger = scene.ops.issue_tokens("stranger", "acme", Duration::from_secs(300)).await.unwrap();
    scene.get(&follow, stranger.access.expose()).await.refuses(404, "File not found");
}

#[tokio::test]
async fn a_detail_is_read_by_its_own_application_within_its_consent_for_thirty_days() {
    for consume_once in [false, true] {
        let scene = Scene::with(SageX3Settings { consume_once, ..SageX3Settings::default() }).await;
        let request = ApplicationRequest {
            name: "told".into(),
            client_id: None,
            client_secret: None,
            redirect_urls: vec![],
            notification_url: Some("http://127.0.0.1:9/notification".into()),
            signature_encoding: SignatureEncoding::Hex,
            managed: false,
        };
        scene.ops.write_application(request).await.unwrap();
        scene.grant("told", "acme").await;
        let issue = async |application: &str, account: &str| {
            scene.grant(application, account).await;
            let life = Duration::from_secs(60 * 86_400);
            scene.ops.issue_tokens(application, account, life).await.unwrap().access
        };
        let told = issue("told", "acme").await;
        let by = format!("Bearer {}", told.expose());
        let announced = scene.ask("POST", "/v1/dataingestion/SEED?filename=a", &[("authorization", &by)], "").await;
        let to = announced.json()["uploadUrl"].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
        assert_eq!(scene.ask("PUT", &to, &[], "hello\n").await.status, 200);
        let id = scene.ops.notifications("told/acme", 1).await.unwrap().remove(0).id.uuid();
        let detail = format!("/v1/notification/{id}");
        for stranger in [issue("ledger", "acme").await, issue("told", "other").await] {
            scene.get(&detail, stranger.expose()).await.refuses(404, "Notification not found");
        }
        scene.get(&detail, "nonsense").await.refuses(401, "Unauthorised");
        scene.get("/v1/notification/nonsense", told.expose()).await.refuses(404, "Notification not found");
        let read = scene.get(&detail, told.expose()).await.json();
        assert_eq!((&read["notificationID"], &read["customerId"]), (&json!(id.to_string()), &json!("acme-config")));
        let again = scene.get(&detail, told.expose()).await;
        if consume_once {
            again.refuses(404, "Notification not found");
            continue;
        }
        assert_eq!(again.status, 200);
        let narrowed = GrantRequest {
            application: "told".into(),
            account: "acme".into(),
            folders: vec!["OTHER".into()],
            scopes: vec!["api.dataDelivery".into()],
        };
        scene.ops.write_grant(narrowed).await.unwrap();
        scene.get(&detail, told.expose()).await.refuses(404, "Notification not found");
        scene.grant("told", "acme").await;
        scene.pass(30 * 86_400 - 1);
        assert_eq!(scene.get(&detail, told.expose()).await.status, 200);
        scene.pass(1);
        scene.get(&detail, told.expose()).await.refuses(404, "Notification not found");
        scene.ops.revoke_grant(&Caller::Operator, "told", "acme").await.unwrap();
        scene.get(&detail, told.expose()).await.refuses(401, "Unauthorised");
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_comes_and_goes() {
    let scene = Scene::with(SageX3Settings { page_size: 2, ..SageX3Settings::default() }).await;
    scene.grant("ledger", "acme").await;
    let tokens = scene.ops.issue_tokens("ledger", "acme", Duration::from_secs(300)).await.unwrap();
    let by = format!("Bearer {}", tokens.access.expose());
    for name in ["a", "b", "c", "d", "e"] {
        let path = format!("/v1/dataingestion/SEED?filename={name}");
        let announced = scene.ask("POST", &path, &[("authorization", &by)], "").await.json();
        let to = announced["uploadUrl"].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
        assert_eq!(scene.ask("PUT", &to, &[], name).await.status, 200);
    }
    let page = async |link: &str| {
        let page = scene.get(&format!("/v1/datadelivery/{link}"), tokens.access.expose()).await.json();
        let keys: Vec<String> =
            page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect();
        (keys.join(" "), page["$next"].as_str().unwrap_or_default().to_owned(), page["isTruncated"].clone())
    };
    assert_eq!(page("SEED").await, ("a b".into(), "SEED?page=2".into(), json!(true)));
    for name in ["a", "b"] {
        let path = format!("/v1/datadelivery/SEED?filename={name}");
        assert_eq!(scene.ask("DELETE", &path, &[("authorization", &by)], "").await.status, 204);
    }
    assert_eq!(page("SEED?page=2").await, ("c d".into(), "SEED?page=3".into(), json!(true)));
    assert_eq!(page("SEED?page=3").await, ("e".into(), String::new(), json!(false)));
    assert_eq!(page("SEED?page=9").await.0, "");
    for wrong in ["0", "-1", "x", "1&page=2", ""] {
        let answer = scene.get(&format!("/v1/datadelivery/SEED?page={wrong}"), tokens.access.expose()).await;
        answer.refuses(400, "Invalid request parameter page");
    }
}

#[tokio::test]
async fn what_fails_inside_is_answered_in_the_documented_words_and_discloses_nothing() {
    let scene = Scene::new().await;
    let code = scene.code().await;
    scene.meddle("CREATE TRIGGER no_key BEFORE INSERT ON signing_key BEGIN SELECT RAISE(IGNORE); END");
    scene.exchange(&code).await.refuses(501, "no existing key for the signature of tokens");
    scene.meddle("DROP TRIGGER no_key");
    let tokens = scene.pair().await;
    scene.meddle("ALTER TABLE pairing RENAME TO hidden");
    let internal = "An internal error occurred: try again later";
    scene.exchange(&code).await.refuses(501, internal);
    let (place, cookie) = (format!("/v1/token/authorise/{}", uuid::Uuid::nil()), "filebell-pairing=x");
    scene.ask("GET", &place, &[("cookie", cookie)], "").await.refuses(501, internal);
    scene.meddle("ALTER TABLE hidden RENAME TO pairing; ALTER TABLE refresh_token RENAME TO hidden");
    scene.renew(&tokens["refresh_token"]).await.refuses(501, internal);
}

#[tokio::test]
async fn a_delete_that_fails_says_so_and_can_be_repeated() {
    let scene = Scene::new().await;
    let tokens = scene.pair().await;
    let by = format!("Bearer {}", access(&tokens));
    let seed = scene.dir.path().join("acme/SEED");
    std::fs::create_dir(seed.join("directory")).unwrap();
    std::fs::write(seed.join("file"), "x").unwrap();
    let delete = async |name: &str| {
        let path = format!("/v1/datadelivery/SEED?filename={name}");
        scene.ask("DELETE", &path, &[("authorization", &by)], "").await
    };
    delete("directory").await.refuses(500, "The file could not be deleted");
    assert!(seed.join("directory").exists());
    scene.meddle("ALTER TABLE file RENAME TO hidden");
    delete("file").await.refuses(500, "The file could not be deleted");
    scene.meddle("ALTER TABLE hidden RENAME TO file");
    assert_eq!(delete("file").await.status, 204);
    assert_eq!(delete("file").await.status, 204);
}

/// Answers one request with `status`; tells what was asked.
async fn receiver(status: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !String::from_utf8_lossy(&asked).contains("&state=fB0q.%2B%26") {
            assert_ne!(stream.read_buf(&mut asked).await.unwrap(), 0);
        }
        let answer = format!("HTTP/1.1 {status}\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(asked).unwrap()
    });
    (port, asked)
}

impl Scene {
    /// A scene whose server posts the answers to this port, if its policy allows loopback.
    async fn posting(port: u16, allowed: bool) -> (Self, String) {
        let settings = SageX3Settings { callback: Transport::Server, ..SageX3Settings::default() };
        let scene = Self::with(settings).await;
        let allow_networks = if allowed { vec!["127.0.0.0/8".parse().unwrap()] } else { vec![] };
        let egress = Egress::new(Policy { allow_networks, allow_http: false }, Seams::real()).unwrap();
        scene.ops.posting(crate::app::post_form(egress, Duration::from_secs(5)));
        let callback = format!("http://127.0.0.1:{port}/x3/callback");
        let request = ApplicationRequest {
            name: "near".into(),
            client_id: Some("near-client".into()),
            client_secret: Some(Secret::new(SECRET)),
            redirect_urls: vec![callback.clone()],
            notification_url: None,
            signature_encoding: SignatureEncoding::Hex,
            managed: false,
        };
        scene.ops.write_application(request).await.unwrap();
        let asked = query().replace(CLIENT, "near-client");
        let asked = asked.replace(&percent_encode(CALLBACK.as_bytes()), &percent_encode(callback.as_bytes()));
        (scene, asked)
    }
}

#[tokio::test]
async fn the_server_posts_the_answer_itself_where_that_was_chosen() {
    for (decision, field) in [
        ("decision=accept&folder=SEED", "\r\n\r\nauthorizationCode="),
        ("decision=reject", "\r\n\r\nerror=The+pairing+request+has+been+rejected.&state="),
    ] {
        let (port, asked) = receiver("204 No Content").await;
        let (scene, query) = Scene::posting(port, true).await;
        let (place, page) = scene.log_in(&query).await;
        let told = scene.decide(&place, &page, decision).await;
        assert_eq!((told.status.as_u16(), told.header("location").as_str()), (200, ""));
        assert!(told.text().contains("near has been told") && !told.text().contains("<form"), "{}", told.text());
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /x3/callback HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("content-type: application/x-www-form-urlencoded\r\n"), "{asked}");
        assert!(asked.contains(field) && asked.ends_with("&state=fB0q.%2B%26"), "{asked}");
    }
}

#[tokio::test]
async fn an_answer_that_the_server_cannot_post_says_why() {
    let (port, asked) = receiver("302 Found").await;
    let (scene, query) = Scene::posting(port, true).await;
    let (place, page) = scene.log_in(&query).await;
    let told = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    assert_eq!(told.status, 502);
    assert!(told.text().contains("near could not be told: it answered 302"), "{}", told.text());
    asked.await.unwrap();

    let (port, asked) = receiver("204 No Content").await;
    let (scene, query) = Scene::posting(port, false).await;
    let (place, page) = scene.log_in(&query).await;
    let told = scene.decide(&place, &page, "decision=accept&folder=SEED").await;
    assert_eq!(told.status, 502);
    assert!(told.text().contains("add it to egress.allow_networks"), "{}", told.text());
    assert!(!asked.is_finished(), "nothing may be connected to");

    // Nobody has logged in: the browser carries it.
    let unknown = query.replace(&percent_encode(CUSTOMER.as_bytes()), "https%3A%2F%2Fnobody.example");
    let back = scene.ask("GET", &format!("/v1/token/authorise?{unknown}"), &[], "").await;
    assert_eq!((back.status.as_u16(), back.field("error").is_some()), (404, true));
    assert!(!asked.is_finished());
}

#[tokio::test]
async fn a_body_of_a_megabyte_is_not_read() {
    let scene = Scene::new().await;
    let big = "x".repeat(1 << 20);
    assert_eq!(scene.ask("POST", "/v1/token", &[], big.clone()).await.status, 400);
    assert_eq!(scene.ask("POST", "/v1/token/authorise", &[], big.clone()).await.status, 413);
    assert_eq!(scene.ask("POST", "/oauth/token", &[], big).await.status, 400);
}

#[test]
fn the_challenge_of_the_examples_is_of_their_verifier() {
    assert_eq!(URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER)), CHALLENGE);
}

#[tokio::test]
async fn an_upload_that_the_quota_has_no_room_for_is_refused_and_may_come_later() {
    let scene = Scene::new().await;
    scene.grant("ledger", "acme").await;
    let tokens = scene.ops.issue_tokens("ledger", "acme", Duration::from_secs(300)).await.unwrap();
    let by = format!("Bearer {}", tokens.access.expose());
    let announced = scene.ask("POST", "/v1/dataingestion/SEED?filename=a", &[("authorization", &by)], "").await.json();
    let to = announced["uploadUrl"].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
    scene.ops.set_quota("acme", Some(4)).await.unwrap();
    scene.ask("PUT", &to, &[("content-length", "5")], "hello").await.refuses(507, "Insufficient Storage");
    scene.ask("PUT", &to, &[], "hello").await.refuses(507, "Insufficient Storage");
    assert_eq!(std::fs::read_dir(scene.dir.path().join("acme/SEED")).unwrap().count(), 0);
    let listed = scene.get("/v1/datadelivery/SEED", tokens.access.expose()).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 0);
    scene.ops.set_quota("acme", Some(5)).await.unwrap();
    assert_eq!(scene.ask("PUT", &to, &[], "hello").await.status, 200);
}
