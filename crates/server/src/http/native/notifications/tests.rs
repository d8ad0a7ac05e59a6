//! Over the router, with a real store.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use filebell_core::secret::Secret;
use serde_json::Value;
use tower_service::Service;
use url::Url;

use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::ops::Ops;
use crate::seams::Seams;
use crate::store::{Store, StoreKey};

async fn ask(router: &Router, method: &str, path: &str, authorization: &str) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("Authorization", authorization);
    let answer = router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn wrong_questions_are_problems_and_nobody_learns_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_sqlite(dir.path(), StoreKey::generate().unwrap()).await.unwrap();
    let journal = Journal::open(store.clone(), Seams::real(), Metrics::new());
    let url = Url::parse("https://files.example.org").unwrap();
    let ops = Ops::new(store, journal, Seams::real(), url, Some(Secret::new("admin")));
    let router = crate::http::router(ops.clone(), Router::new());
    let (operator, nobody) = ("Bearer admin", "Bearer no");
    let base = "/api/v1/notifications";
    let (status, empty) = ask(&router, "GET", base, operator).await;
    assert_eq!((status, &empty["notifications"], &empty["next"]), (200, &Value::Array(vec![]), &Value::Null));
    assert_eq!(ask(&router, "GET", base, nobody).await.0, 401);
    for wrong in ["?state=odd", "?after=odd", "?limit=0", "?from=yesterday", "?odd=1", "?state=dead&state=dead"] {
        let (status, problem) = ask(&router, "GET", &format!("{base}{wrong}"), operator).await;
        assert_eq!((status, problem["code"].as_str()), (400, Some("bad-parameter")), "{wrong}");
    }
    let absent = format!("{base}/ntf_{}", "0".repeat(32));
    for (method, path) in
        [("GET", absent.clone()), ("GET", format!("{absent}/attempts")), ("POST", format!("{absent}/replay"))]
    {
        assert_eq!(ask(&router, method, &path, operator).await.0, 404, "{path}");
    }
    assert_eq!(ask(&router, "GET", &format!("{base}/odd"), operator).await.0, 404);
    assert_eq!(ask(&router, "GET", &format!("{base}?subscription=none"), operator).await.0, 404);
}
