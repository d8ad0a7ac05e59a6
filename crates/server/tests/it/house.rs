//! A filebell as an operator runs it: the real binary, a configuration file, real folders.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::receiver::PATIENCE;

/// The configuration that every house has; `{root}` and `{data}` stand for its own directories.
const BASE: &str = r#"
listen = "127.0.0.1:0"
data_dir = "{data}"

[delivery]
timeout = "2s"
schedule = ["100ms", "200ms", "400ms", "1s", "1s", "1s", "1s", "1s", "1s", "1s"]

[egress]
allow_networks = ["127.0.0.0/8"]

[[accounts]]
name = "test2"
password = "secret"
root = "{root}"
customer_url = "https://x3.example.com"
customer_id = "9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90"
customer_code = "acme"
"#;

pub struct House {
    dir: tempfile::TempDir,
    process: Option<Child>,
    base: String,
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

impl House {
    /// A house that is not open yet; `more` is added to its configuration.
    pub fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let house = Self { dir, process: None, base: String::new() };
        fs::create_dir_all(house.root()).unwrap();
        let text = format!("{BASE}\n{more}")
            .replace("{data}", house.path("data").to_str().unwrap())
            .replace("{root}", house.root().to_str().unwrap());
        fs::write(house.path("filebell.toml"), text).unwrap();
        house
    }

    /// A house that is open.
    pub fn open(more: &str) -> Self {
        let mut house = Self::new(more);
        house.start();
        house
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Starts the server and waits until it says that it listens.
    pub fn start(&mut self) {
        self.start_as(self.command("serve"));
    }

    /// Starts the server by another command than its plain one.
    pub fn start_as(&mut self, mut command: Command) {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.base = line.trim_end().strip_prefix("listening on http://").expect(&line).to_owned();
        self.process = Some(process);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// SIGTERM; answers the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.process.take().unwrap().wait().unwrap().code()
    }

    /// Sends the server a signal.
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        run("kill", &[&format!("-{name}"), &id]);
    }

    /// A command on this house's configuration.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filebell"));
        command.arg(name).arg("--config").arg(self.path("filebell.toml"));
        command
    }

    /// What a command that succeeds prints.
    pub fn run(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.command(name).args(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} {arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// Writes a file the plain way: open, write, close.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What the operator asks with.
    pub fn admin_token(&self) -> String {
        fs::read_to_string(self.path("data").join("admin-token")).unwrap().trim().to_owned()
    }

    /// The URL of a path on the server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.base)
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", path, headers)
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.exchange(self.head(method, path, headers).as_bytes()).expect("an answer has a head")
    }

    /// The same with a body, whose length is said.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let headers = [headers, &[("Content-Length", &length)]].concat();
        let head = self.head(method, path, &headers);
        self.exchange(&[head.as_bytes(), body].concat()).expect("an answer has a head")
    }

    /// The head of a request that is the last one of its connection.
    pub fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.base)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.base).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes, and waits until the server has said all it has to say: an answer, or nothing.
    pub fn exchange(&self, bytes: &[u8]) -> Option<Answer> {
        self.say(bytes, false)
    }

    /// The same, and says that there will be no more.
    pub fn break_off(&self, bytes: &[u8]) -> Option<Answer> {
        self.say(bytes, true)
    }

    fn say(&self, bytes: &[u8], breaks_off: bool) -> Option<Answer> {
        let mut stream = self.connect();
        // Whoever has heard enough hangs up, and need not hear the rest.
        let _ = stream.write_all(bytes);
        if breaks_off {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
        let mut bytes = Vec::new();
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> =
            lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
        let mut body = bytes[end + 4..].to_vec();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            body = unchunk(&body);
        }
        Some(Answer { status, headers, body })
    }

    /// A field of the server's `/proc/PID/status` that counts in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        let id = self.process.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The journal from the beginning, as the operator sees it.
    pub fn events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut next = String::new();
        while self.more_events(&mut events, &mut next, 0) {}
        events
    }

    /// Waits until the journal holds `count` events.
    pub fn wait_for_events(&self, count: usize) -> Vec<Value> {
        self.wait_until_told(&format!("{count} events"), |events| events.len() >= count)
    }

    /// Waits until the journal fulfils a condition.
    pub fn wait_until_told(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        let mut events = Vec::new();
        let mut next = String::new();
        loop {
            let more = self.more_events(&mut events, &mut next, 0);
            if !more && enough(&events) {
                return events;
            }
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}: {events:#?}");
            if !more {
                self.more_events(&mut events, &mut next, 1);
            }
        }
    }

    /// Asks for what came after `next`, and waits for it so many seconds; answers whether there is more.
    fn more_events(&self, events: &mut Vec<Value>, next: &mut String, wait: u32) -> bool {
        let path = format!("/api/v1/changes?after={next}&wait={wait}");
        let answer = self.get(&path, &[("Authorization", &format!("Bearer {}", self.admin_token()))]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        events.extend(page["events"].as_array().unwrap().iter().cloned());
        page["next"].as_str().unwrap().clone_into(next);
        page["more"].as_bool().unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|part| part == b"\r\n").expect("a chunk has a size");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

/// The value of an `Authorization` header.
pub fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}")))
}

/// Runs a program to its good end.
pub fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; ./check installs what the tests need"));
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{program} {arguments:?} ended with {}: {said}", output.status);
}

/// Set where a test runs inside namespaces of its own.
const INSIDE: &str = "FILEBELL_TEST_INSIDE";

/// Whether this is the run inside. A test that mounts runs itself again where it is root and sees its own mounts only,
/// and is good if that run is.
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, of the package util-linux, is needed");
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success() && said.contains("1 passed"), "user namespaces are needed: {said}");
    false
}
