//! What an application needs that is told by filebell: verify the notification, pull what changed, fetch the file.
//!
//! ```text
//! notification -> verify (is it true?) -> pull (what changed?) -> download (whole, checked, in place)
//! ```
//!
//! A notification is a hint: it says *something is there, come and look*. Answer it at once, do the work afterwards,
//! and look now and then without being told. What was seen twice must do no harm.
//!
//! ```no_run
//! # #[cfg(all(feature = "pull", feature = "axum"))]
//! # mod example {
//! use std::path::Path;
//! use std::time::Duration;
//!
//! use axum::http::StatusCode;
//! use axum::routing::post;
//! use filebell_client::Secret;
//! use filebell_client::download::Expected;
//! use filebell_client::pull::{Http, NextcloudClient};
//! use filebell_client::receive::Verified;
//! use filebell_client::verify::NextcloudKey;
//! use tokio::sync::mpsc;
//!
//! type Error = Box<dyn std::error::Error>;
//!
//! #[derive(Clone)]
//! struct App {
//!     key: NextcloudKey,
//!     bell: mpsc::Sender<()>,
//! }
//!
//! impl axum::extract::FromRef<App> for NextcloudKey {
//!     fn from_ref(app: &App) -> Self {
//!         app.key.clone()
//!     }
//! }
//!
//! // Runs only if the signature fits. Rings the bell and answers.
//! async fn notified(
//!     axum::extract::State(app): axum::extract::State<App>,
//!     Verified(notification): Verified<NextcloudKey>,
//! ) -> StatusCode {
//!     println!("{} rings", notification.id);
//!     let _ = app.bell.try_send(()); // full means that it is ringing already
//!     StatusCode::NO_CONTENT
//! }
//!
//! pub async fn run() -> Result<(), Error> {
//!     let (bell, mut rung) = mpsc::channel(1);
//!     let app = App { key: NextcloudKey::new(Secret::new("4fdab23178d6c424196c9448070d3bef")), bell };
//!     let routes = axum::Router::new().route("/hook", post(notified)).with_state(app);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
//!     tokio::spawn(async move { axum::serve(listener, routes).await });
//!
//!     let http = Http::new(Duration::from_secs(30))?;
//!     let files = NextcloudClient::new(http, "https://files.example.org", "test2", Secret::new("secret"))?;
//!     let mut since = 0; // keep this in your database
//!     while rung.recv().await.is_some() {
//!         for file in files.recent(since).await? {
//!             let progress = |done, _total| println!("{}: {done} bytes", file.name);
//!             files.download(&file.path, Path::new("inbox"), &Expected::default(), progress).await?;
//!             since = since.max(file.time); // inclusive: the newest file will be listed again
//!         }
//!     }
//!     Ok(())
//! }
//! # }
//! ```
//!
//! | feature | brings |
//! |---|---|
//! | `pull` (default) | [`pull`] and [`download`]: an HTTP client with TLS |
//! | `axum` | [`receive`]: an extractor that verifies before a handler runs |
//!
//! The pure functions behind it are [`wire`]; with [`verify`] they need no feature at all.

#[cfg(feature = "pull")]
pub mod download;
#[cfg(feature = "pull")]
pub mod pull;
#[cfg(feature = "axum")]
pub mod receive;
pub mod recent;
pub mod verify;

pub use filebell_core::secret::Secret;
pub use filebell_core::time::{TimestampMs, TimestampSecs};
pub use filebell_core::wire;
pub use uuid::Uuid;
