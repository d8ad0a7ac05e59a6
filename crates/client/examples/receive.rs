//! A receiver: verify, pull, download.

use std::path::Path;

use axum::{Router, http::StatusCode, routing::post};
use filebell_client::pull::{Http, NextcloudClient};
use filebell_client::{Secret, download::Expected, receive::Verified, verify::NextcloudKey};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (bell, mut rung) = tokio::sync::mpsc::channel(1);
    // Runs only if the signature fits.
    let notified = async move |_: Verified<NextcloudKey>| {
        let _ = bell.try_send(()); // full: it is ringing already
        StatusCode::NO_CONTENT
    };
    let routes = Router::new().route("/hook", post(notified)).with_state(NextcloudKey::new(Secret::new("4fdab231…")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    tokio::spawn(async { axum::serve(listener, routes).await });

    let http = Http::new(std::time::Duration::from_secs(30))?;
    let files = NextcloudClient::new(http, "https://files.example.org", "test2", Secret::new("secret"))?;
    let mut since = 0; // keep this where it survives
    while rung.recv().await.is_some() {
        for file in files.recent(since).await? {
            files.download(&file.path, Path::new("inbox"), &Expected::default(), |_, _| ()).await?;
            since = since.max(file.time);
        }
    }
    Ok(())
}
