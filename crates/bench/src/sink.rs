//! A receiver that counts, and the bare HTTP client that is the floor of delivering.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// Answers 204 to everything.
pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

/// What has come in.
#[derive(Default)]
pub(crate) struct Seen {
    count: AtomicU64,
    /// How many are waited for, and who waits: woken once, for a waking each time would count as filebell's.
    wanted: AtomicU64,
    enough: Notify,
    /// The bodies with their times, if they are kept.
    bodies: Option<Mutex<Vec<(Instant, Bytes)>>>,
}

impl Sink {
    pub(crate) async fn start(keep_bodies: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen { bodies: keep_bodies.then(Mutex::default), ..Seen::default() });
        let accepting = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = accepting.clone();
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    let answer = hyper::service::service_fn(move |request| answer(seen.clone(), request));
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Ok(Self { address, seen })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Seen {
    pub(crate) async fn wait_for(&self, count: u64) {
        self.wanted.store(count, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < count {
            self.enough.notified().await;
        }
    }

    pub(crate) fn bodies(&self) -> Vec<(Instant, Bytes)> {
        self.bodies
            .as_ref()
            .map_or_else(Vec::new, |bodies| bodies.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    if let Some(bodies) = &seen.bodies {
        bodies.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), body));
    }
    if seen.count.fetch_add(1, Ordering::SeqCst) + 1 == seen.wanted.load(Ordering::SeqCst) {
        seen.enough.notify_one();
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = hyper::StatusCode::NO_CONTENT;
    Ok(response)
}

/// The same HTTP client that filebell sends with, bare.
pub(crate) type Bare = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn bare_client() -> Bare {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Posts a body and reads the answer to its end.
pub(crate) async fn post(client: &Bare, url: &str, headers: &[(&'static str, String)], body: Bytes) -> Result<()> {
    let mut request = Request::post(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = client.request(request.body(Full::new(body))?).await?;
    answer.into_body().collect().await?;
    Ok(())
}
