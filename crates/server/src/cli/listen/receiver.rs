//! The receiving application: an HTTP endpoint that verifies and rings, and one worker that pulls.
//!
//! A ring carries no data. The worker asks the server what is new, at the start, when it is rung, and now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use filebell::seams::Seams;
use filebell_client::verify::BODY_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Step;
use super::fetch::{Puller, Refused, Why};

/// The pauses after failed pulls grow from the first to the second.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// A running receiver; it ends when this is dropped.
pub(in crate::cli) struct Receiver {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    puller: Puller,
    poll: Duration,
    bell: Notify,
    /// Notifications taken on, and how many of them are done.
    told: AtomicU64,
    done: AtomicU64,
    progress: Notify,
}

impl Receiver {
    pub(super) fn start(listener: TcpListener, puller: Puller, poll: Duration) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("the address of the receiver is not known")?;
        let shared = Arc::new(Shared {
            puller,
            poll,
            bell: Notify::new(),
            told: AtomicU64::new(0),
            done: AtomicU64::new(0),
            progress: Notify::new(),
        });
        shared.puller.say(Step::Listening { address });
        let routes = Router::new().fallback(notified).with_state(shared.clone());
        let serve = async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the receiver cannot be served");
            }
        };
        let tasks = [tokio::spawn(serve), tokio::spawn(pull_for_ever(shared.clone()))];
        Ok(Self { shared, tasks })
    }

    /// Waits until so many notifications are done: verified, and everything pulled that was there by then.
    pub(super) async fn done(&self, count: u64) {
        loop {
            let progress = self.shared.progress.notified();
            if self.shared.done.load(Ordering::Acquire) >= count {
                return;
            }
            progress.await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn notified(State(shared): State<Arc<Shared>>, request: Request<Body>) -> (StatusCode, String) {
    let at = Instant::now();
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "notifications are sent by POST\n".to_owned());
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("a notification has at most {BODY_BYTES_MAX} bytes\n"));
    };
    let (worker, headers, bytes) = (shared.clone(), parts.headers.clone(), body.clone());
    let now = Seams::real().now().to_secs();
    // Taking on may write to disk.
    let taken = tokio::task::spawn_blocking(move || worker.puller.take_on(&headers, &bytes, now)).await;
    match taken {
        Ok(Ok(())) => {
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let body = String::from_utf8_lossy(&body).into_owned();
            shared.puller.say(Step::Notified { at, headers, body });
            shared.told.fetch_add(1, Ordering::AcqRel);
            shared.bell.notify_one();
            (StatusCode::NO_CONTENT, String::new())
        }
        Ok(Err(Refused::Signature(error))) => {
            shared.puller.say(Step::Refused { why: error.to_string() });
            let status = if error.is_malformed() { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED };
            (status, format!("{error}\n"))
        }
        Ok(Err(Refused::Disk(error))) => {
            shared.puller.say(Step::Failed { why: format!("{error:#}") });
            (StatusCode::SERVICE_UNAVAILABLE, "the notification cannot be kept now\n".to_owned())
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
    }
}

async fn pull_for_ever(shared: Arc<Shared>) {
    let (mut again, mut why) = (AGAIN_FIRST, Why::Poll);
    loop {
        let told = shared.told.load(Ordering::Acquire);
        let wait = match shared.puller.pull(why).await {
            Ok(()) => {
                again = AGAIN_FIRST;
                why = Why::Told;
                shared.done.store(told, Ordering::Release);
                shared.progress.notify_waiters();
                shared.poll
            }
            Err(error) => {
                shared.puller.say(Step::Failed { why: format!("{error:#}") });
                let wait = again;
                again = again.saturating_mul(2).min(AGAIN_MAX);
                wait
            }
        };
        tokio::select! {
            () = shared.bell.notified() => (),
            () = tokio::time::sleep(wait) => why = Why::Poll,
        }
    }
}
