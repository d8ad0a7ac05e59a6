//! How long it took to open a connection, told to whoever sends over it first.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Extensions, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

use crate::store::Timing;

/// How a connection came to be.
#[derive(Debug)]
pub(super) struct Opening {
    resolve: Duration,
    connect: Duration,
    connected_at: Instant,
    tls: OnceLock<Duration>,
    used: AtomicBool,
}

impl Opening {
    /// A connection whose host was resolved from `began` to `resolved_at`, and which stands now.
    pub(super) fn new(began: Instant, resolved_at: Instant) -> Self {
        let connected_at = Instant::now();
        Self {
            resolve: resolved_at.duration_since(began),
            connect: connected_at.duration_since(resolved_at),
            connected_at,
            tls: OnceLock::new(),
            used: AtomicBool::new(false),
        }
    }
}

/// The timing of an exchange whose answer began after `first_byte`. Its connection was opened for it if this is the
/// first exchange over it.
pub(super) fn timing(answer: &Extensions, first_byte: Duration) -> Timing {
    let opening = answer.get::<Arc<Opening>>().filter(|opening| !opening.used.swap(true, Ordering::Relaxed));
    Timing {
        resolve: opening.map(|opening| opening.resolve),
        connect: opening.map(|opening| opening.connect),
        tls: opening.and_then(|opening| opening.tls.get().copied()),
        first_byte: Some(first_byte),
    }
}

/// A TCP connection that knows its opening.
pub(super) struct Opened {
    io: TokioIo<TcpStream>,
    opening: Arc<Opening>,
}

impl Opened {
    pub(super) fn new(stream: TcpStream, opening: Opening) -> Self {
        Self { io: TokioIo::new(stream), opening: Arc::new(opening) }
    }
}

impl Connection for Opened {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.opening.clone())
    }
}

impl Read for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl Write for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

/// A connector above TLS, which notes how long the handshake took.
#[derive(Clone)]
pub(super) struct Timed<C>(pub(super) C);

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri>,
    C::Response: Connection + Send,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = uri.scheme_str() == Some("https");
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            if tls {
                let mut extras = Extensions::new();
                stream.connected().get_extras(&mut extras);
                if let Some(opening) = extras.get::<Arc<Opening>>() {
                    let _ = opening.tls.set(opening.connected_at.elapsed());
                }
            }
            Ok(stream)
        })
    }
}
