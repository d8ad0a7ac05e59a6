//! The pages over the router, as a browser asks for them, with a clock that is moved by hand. For tests.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, request};
use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::path::FilePath;
use filebell_core::secret::Secret;
use filebell_core::time::TimestampMs;
use filebell_core::wire::percent_encode;
use tower_service::Service;
use url::Url;

use crate::http::router;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::ops::{AccountRequest, Ops};
use crate::seams::Seams;
use crate::store::{Store, StoreKey};

pub(super) const BASE: &str = "https://files.example.org";
pub(super) const TOKEN: &str = "the admin token";
const START: i64 = 1_700_000_000_000;

/// A filebell without sockets: the accounts alice and bob (their passwords are `alice's` and `bob's`), each with a root.
pub(super) struct Scene {
    pub(super) ops: Ops,
    pub(super) store: Store,
    pub(super) journal: Journal,
    pub(super) metrics: Metrics,
    pub(super) dir: tempfile::TempDir,
    router: Router,
    clock: Arc<AtomicI64>,
}

/// A browser: it keeps cookies.
pub(super) struct Browser {
    router: Router,
    cookies: Mutex<BTreeMap<String, String>>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of the first field of this name.
    pub(super) fn field(&self, name: &str) -> String {
        let text = self.text();
        let rest = text.split_once(&format!("name=\"{name}\" value=\"")).map(|(_, rest)| rest.to_owned());
        let rest = rest.unwrap_or_else(|| panic!("no field {name}: {text}"));
        rest.split('"').next().unwrap().to_owned()
    }

    /// The page says all of this.
    #[track_caller]
    pub(super) fn says(&self, words: &[&str]) -> &Self {
        let text = self.text();
        for word in words {
            assert!(text.contains(word), "{} without `{word}`: {text}", self.status);
        }
        self
    }

    /// The page says nothing of this.
    #[track_caller]
    pub(super) fn hides(&self, words: &[&str]) -> &Self {
        let text = self.text();
        for word in words {
            assert!(!text.contains(word), "`{word}` is shown: {text}");
        }
        self
    }
}

impl Scene {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let ticking = clock.clone();
        let seams = Seams::with_clock(move || TimestampMs::from_millis(ticking.load(Ordering::Relaxed)));
        let store = Store::open_sqlite(dir.path(), StoreKey::generate().unwrap()).await.unwrap();
        let metrics = Metrics::new();
        let journal = Journal::open(store.clone(), seams.clone(), metrics.clone());
        let admin = Some(Secret::new(TOKEN));
        let ops = Ops::new(store.clone(), journal.clone(), seams, Url::parse(BASE).unwrap(), admin);
        let router = router(ops.clone(), super::router(&ops));
        let scene = Self { ops, store, journal, metrics, dir, router, clock };
        for name in ["alice", "bob"] {
            scene.account(name, &format!("{name}'s")).await;
        }
        scene
    }

    /// Writes an account with a root of its own.
    pub(super) async fn account(&self, name: &str, password: &str) {
        let root = self.dir.path().join(name);
        std::fs::create_dir_all(root.join("SEED")).unwrap();
        let request = AccountRequest {
            name: name.into(),
            password: Some(Secret::new(password)),
            root: Some(root),
            customer_url: String::new(),
            customer_id: String::new(),
            customer_code: String::new(),
            quota_bytes: None,
            managed: false,
        };
        self.ops.write_account(request).await.unwrap();
    }

    /// Time goes by.
    pub(super) fn wait(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Files that some source brought; each path is a file of its own.
    pub(super) async fn arrive(&self, account: &str, paths: &[&str]) {
        let account = self.ops.account(account).await.unwrap();
        let arrival = |(number, path): (usize, &&str)| Arrival {
            account: account.id,
            path: FilePath::from_bytes(path.as_bytes()).unwrap(),
            claim: Claim::Present(Present {
                fingerprint: Fingerprint {
                    dev: 1,
                    inode: u64::try_from(number).unwrap() + 1,
                    birth_ns: None,
                    size: 7,
                    mtime_ns: 1,
                    ctime_ns: 1,
                },
                version: Version { sha256: [1; 32], md5: [1; 16], size: 7 },
                completeness: Completeness::Leased,
                moved_from: None,
                announce: Announce::News,
            }),
            source: SourceKind::Folder,
            user: account.name.clone(),
        };
        self.journal.record(paths.iter().enumerate().map(arrival).collect()).await.unwrap();
    }

    /// Asks as a program does, with a bearer token.
    pub(super) async fn program(&self, method: &str, path: &str, token: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {token}"));
        self.browser().send(request, body.into()).await
    }

    /// A browser that nobody has signed in with.
    pub(super) fn browser(&self) -> Browser {
        Browser { router: self.router.clone(), cookies: Mutex::default() }
    }

    /// A browser that alice or bob has signed in with.
    pub(super) async fn person(&self, name: &str) -> Browser {
        let browser = self.browser();
        let password = format!("{name}'s");
        let answer = browser.sign_in(&[("name", name), ("password", &password)]).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }

    /// A browser that the operator has signed in with.
    pub(super) async fn operator(&self) -> Browser {
        let browser = self.browser();
        let answer = browser.sign_in(&[("as", "operator"), ("token", TOKEN)]).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        browser
    }
}

impl Browser {
    pub(super) async fn sign_in(&self, fields: &[(&str, &str)]) -> Answer {
        self.submit("/sign-in", "/sign-in", fields).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).header("Accept", "text/html"), Body::empty()).await
    }

    /// Gets something as a script does, with these headers.
    pub(super) async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
        self.send(request, Body::empty()).await
    }

    /// Posts a form that was opened on `page`: with its token.
    pub(super) async fn submit(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.get(page).await.field("csrf");
        self.post(path, &[&[("csrf", token.as_str())], fields].concat()).await
    }

    /// Posts these fields and no other.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent_encode(value.as_bytes()));
        let body: Vec<String> = fields.iter().map(pair).collect();
        let request = Request::post(path).header("Content-Type", "application/x-www-form-urlencoded");
        self.send(request, body.join("&").into()).await
    }

    async fn send(&self, mut request: request::Builder, body: Body) -> Answer {
        for (name, value) in &*self.cookies.lock().unwrap() {
            request = request.header("Cookie", format!("{name}={value}"));
        }
        let response = self.router.clone().call(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        for set in parts.headers.get_all("set-cookie") {
            let (pair, attributes) = set.to_str().unwrap().split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.ends_with("HttpOnly; SameSite=Lax; Secure"), "{attributes}");
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap().into() }
    }
}
