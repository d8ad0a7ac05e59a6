//! A receiver that records what it is sent, byte for byte, and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a condition is waited for before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST /hook HTTP/1.1`.
    pub line: String,
    /// Names in lower case, values as sent.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Shared {
    received: Mutex<Vec<Received>>,
    answers: Mutex<VecDeque<&'static str>>,
    arrived: Condvar,
}

pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Receiver {
    /// Answers 204 to everything that no other answer was set for.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || while serve_one(&stream, &shared).is_some() {});
            }
        });
        Self { address, shared }
    }

    /// The answers to the next requests, as raw heads such as `500 Internal Server Error`.
    pub fn answering(self, answers: &[&'static str]) -> Self {
        self.shared.answers.lock().unwrap().extend(answers);
        self
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until `count` requests have come.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(|received| received.len() >= count)
    }

    /// Waits until what has come fulfils a condition.
    pub fn wait_until(&self, enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        let (received, waited) =
            self.shared.arrived.wait_timeout_while(received, PATIENCE, |received| !enough(received)).unwrap();
        assert!(!waited.timed_out(), "waited in vain; received {received:#?}");
        received.clone()
    }
}

fn serve_one(stream: &TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = shared.answers.lock().unwrap().pop_front().unwrap_or("204 No Content");
    let received = Received { line: line.trim_end().to_owned(), headers, body, at: Instant::now() };
    shared.received.lock().unwrap().push(received);
    let length = if answer.starts_with("204") { "" } else { "Content-Length: 0\r\n" };
    (&*stream).write_all(format!("HTTP/1.1 {answer}\r\n{length}\r\n").as_bytes()).ok()?;
    shared.arrived.notify_all();
    Some(())
}
