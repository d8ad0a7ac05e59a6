//! A receiver on a real socket, for tests of test deliveries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::scene::{BASE, Scene};
use crate::app::send_trial;
use crate::delivery::{Egress, Policy};
use crate::seams::Seams;

/// What it does with a request.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// Answers so.
    Answer(&'static str),
    /// Takes it, and says nothing.
    Hang,
}

pub(super) struct Receiver {
    pub(super) url: String,
    got: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    pub(super) async fn new(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let noted = got.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = String::new();
                while !whole(&request) {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    request.push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
                noted.lock().unwrap().push(request);
                match does {
                    Does::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    Does::Hang => held.push(stream),
                }
            }
        });
        Self { url, got }
    }

    pub(super) fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }
}

fn whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// From now on test deliveries leave the scene, to loopback addresses too if `loopback` says so.
pub(super) fn let_out(scene: &Scene, loopback: bool, deadline: Duration) {
    let allow_networks = if loopback { vec!["127.0.0.0/8".parse().unwrap()] } else { Vec::new() };
    let egress = Egress::new(Policy { allow_networks, allow_http: true }, Seams::real()).unwrap();
    scene.ops.trying(send_trial(egress, BASE.to_owned(), deadline));
}
