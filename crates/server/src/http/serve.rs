//! The accept loop: bounds on what a connection may cost before it has said anything, a close that is heard, and a stop
//! that waits.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::auth::{Line, Peer};

/// Open connections at most; the next one waits to be accepted.
const CONNECTIONS_MAX: usize = 10_000;
/// How long a client may take to send its first byte, and then a request's headers.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(30);
const HEADERS_WITHIN: Duration = Duration::from_secs(15);
/// What is still sent to a connection that is being closed is read for so long, as long as it does not pause.
const LINGER_MAX: Duration = Duration::from_secs(30);
const LINGER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Read at a time while lingering.
const LINGER_BYTES: usize = 16 * 1024;
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
                sleep(ACCEPT_PAUSE).await;
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
            let stream = Lingering { stream, stop: stopping, closing: None };
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

/// A connection that is closed in two steps (RFC 9112, section 9.6): who is refused while still sending an upload hears
/// why, and not a reset.
struct Lingering {
    stream: TcpStream,
    stop: CancellationToken,
    closing: Option<Closing>,
}

struct Closing {
    until: Instant,
    pause: Pin<Box<Sleep>>,
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, stop, closing } = &mut *self;
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let closing = closing.get_or_insert_with(|| Closing {
            until: Instant::now() + LINGER_MAX,
            pause: Box::pin(sleep(LINGER_PAUSE_MAX)),
        });
        let mut dropped = [0; LINGER_BYTES];
        loop {
            let now = Instant::now();
            if stop.is_cancelled() || now >= closing.until || closing.pause.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut dropped);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => closing.pause.as_mut().reset(now + LINGER_PAUSE_MAX),
                // It has hung up too.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
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
