use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::scene::Scene;
use crate::ops::{Examining, Finding};

/// What a look finds while the disk is full, and then.
fn examine(full: Arc<AtomicBool>) -> crate::ops::Examine {
    Box::new(move |_| -> Examining {
        let disk = match full.load(Ordering::SeqCst) {
            true => Finding::wrong("3 <b>MiB</b> are free", "make room"),
            false => Finding::well("3000 MiB are free"),
        };
        Box::pin(async move { vec![Finding::well("the store opens"), disk] })
    })
}

#[tokio::test]
async fn what_is_wrong_stands_first_with_what_to_do_until_it_is_well() {
    let scene = Scene::new().await;
    let operator = scene.operator().await;
    operator.get("/health").await.says(&["The first look at everything is under way"]).hides(&["All is well"]);
    let full = Arc::new(AtomicBool::new(true));
    scene.ops.examining(examine(full.clone()));
    let done = operator.submit("/health", "/health", &[]).await;
    assert_eq!((done.status.as_u16(), done.header("location")), (303, "/health?done=looked"));
    let page = operator.get("/health?done=looked").await;
    page.says(&["One thing is wrong", "3 &#60;b&#62;MiB", "What to do:</strong> make room", "The store opens."]);
    page.says(&["Everything was looked at again."]).hides(&["All is well", "<b>MiB"]);
    let text = page.text();
    assert!(text.find("make room") < text.find("The store opens"), "{text}");
    operator.get("/").await.says(&["role=\"alert\"", "3 &#60;b&#62;MiB", "/health"]);
    full.store(false, Ordering::SeqCst);
    operator.submit("/health", "/health", &[]).await;
    operator.get("/health").await.says(&["All is well.", "3000 MiB are free."]);
    operator.get("/").await.hides(&["role=\"alert\""]);
}

#[tokio::test]
async fn health_is_the_operators_and_a_forged_form_looks_at_nothing() {
    let scene = Scene::new().await;
    let looked = Arc::new(AtomicBool::new(false));
    let noted = looked.clone();
    scene.ops.examining(Box::new(move |_| -> Examining {
        noted.store(true, Ordering::SeqCst);
        Box::pin(async { Vec::new() })
    }));
    let alice = scene.person("alice").await;
    assert_eq!(alice.get("/health").await.status, 403);
    assert_eq!(alice.submit("/", "/health", &[]).await.status, 403);
    let operator = scene.operator().await;
    assert_eq!(operator.post("/health", &[("csrf", "forged")]).await.status, 403);
    assert_eq!(scene.browser().get("/health").await.status, 303);
    assert!(!looked.load(Ordering::SeqCst));
}
