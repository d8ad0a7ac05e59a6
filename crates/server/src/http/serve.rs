//! The accept loop: bounds on what a connection may cost before it has said anything, and a stop that waits.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::auth::{Line, Peer};

/// Open connections at most; the next one waits to be accepted.
const CONNECTIONS_MAX: usize = 10_000;
/// How long a client may take to send its first byte, and then a request's headers.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(30);
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// How long to wait after a failed accept (out of file descriptors) before trying again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop`, then lets answers under way finish for at most `patience`.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, patience: Duration) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(20)));
    let (builder, open) = (Arc::new(builder), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let (tasks, graceful) = (TaskTracker::new(), GracefulShutdown::new());
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &open)).await {
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let peer = stream.peer_addr().ok().map(|address| Peer(address.ip()));
        let (stopping, cut) = (stop.clone(), CancellationToken::new());
        let line = Line { stopping: stopping.clone(), cut: cut.clone() };
        let service = TowerToHyperService::new(WithPeer { router: router.clone(), peer, line });
        let (builder, watcher) = (builder.clone(), graceful.watcher());
        tasks.spawn(async move {
            let _permit = permit;
            // The builder reads the first bytes to tell HTTP versions apart, and no timer of its own covers that.
            let speaks = tokio::time::timeout(FIRST_BYTE_WITHIN, first_byte(&stream));
            if !matches!(stopping.run_until_cancelled(speaks).await, Some(Ok(true))) {
                return;
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            if let Some(Err(error)) = cut.run_until_cancelled(watcher.watch(connection)).await {
                tracing::debug!(error, "a connection broke");
            }
        });
    }
    drop(listener);
    tasks.close();
    let finished = async {
        graceful.shutdown().await;
        tasks.wait().await;
    };
    if tokio::time::timeout(patience, finished).await.is_err() {
        tracing::warn!("stopped with answers still under way");
    }
}

/// Tells every request of a connection who is at its other end, and what it came by.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: Option<Peer>,
    line: Line,
}

impl<B> Service<Request<B>> for WithPeer
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.router.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        request.extensions_mut().insert(self.line.clone());
        self.router.call(request)
    }
}

async fn accept(
    listener: &TcpListener,
    open: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = open.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn first_byte(stream: &TcpStream) -> bool {
    matches!(stream.peek(&mut [0; 1]).await, Ok(1))
}
