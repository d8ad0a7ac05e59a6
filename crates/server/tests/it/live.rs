//! The stream of what happens, over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::house::{House, basic};
use crate::observe::{asked, standard};
use crate::promise::{ledger, token};
use crate::receiver::{PATIENCE, Receiver};

const OTHER: &str = "[[accounts]]\nname = \"other\"\npassword = \"other's\"\n";

/// Somebody who listens.
struct Listener {
    reader: BufReader<TcpStream>,
    /// Where it is.
    last: String,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq)]
struct Heard {
    event: String,
    data: Value,
}

impl Heard {
    /// The file that arrived, or how the subscription was told.
    fn text(&self) -> String {
        let text = |key: &str| self.data[key].as_str().unwrap().to_owned();
        match self.event.as_str() {
            "arrival" => text("path"),
            "delivery" => format!("{} {}", text("subscription"), text("state")),
            other => other.to_owned(),
        }
    }
}

impl Listener {
    /// Begins to listen, or goes on; returns when the server has said where it begins.
    fn start(house: &House, query: &str, authorization: &str, after: Option<&str>) -> Self {
        let url = house.url("");
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let after = after.map(|after| format!("Last-Event-ID: {after}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /api/v1/stream{query} HTTP/1.1\r\nHost: here\r\nAuthorization: {authorization}\r\n{after}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut listener = Self { reader: BufReader::new(stream), last: String::new() };
        assert_eq!(listener.line(), "HTTP/1.1 200 OK");
        while listener.last.is_empty() {
            listener.field();
        }
        listener
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        line.trim_end().to_owned()
    }

    /// The next field; the sizes of chunks and the empty lines between are passed over.
    fn field(&mut self) -> (String, String) {
        let line = self.line();
        let (name, value) = line.split_once(": ").unwrap_or_default();
        if name == "id" {
            value.clone_into(&mut self.last);
        }
        (name.to_owned(), value.to_owned())
    }

    fn hear(&mut self) -> Heard {
        let mut event = String::new();
        loop {
            match self.field() {
                (name, value) if name == "event" => event = value,
                (name, value) if name == "data" => {
                    return Heard { event, data: serde_json::from_str(&value).unwrap() };
                }
                _ => (),
            }
        }
    }

    fn hear_until(&mut self, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut heard = Vec::new();
        while !enough(&heard) {
            heard.push(self.hear().text());
        }
        heard
    }
}

fn operator(house: &House) -> String {
    let token = std::fs::read_to_string(house.path("data").join("admin-token")).unwrap();
    format!("Bearer {}", token.trim())
}

#[test]
fn arrivals_and_deliveries_are_told_as_they_happen() {
    let receiver = Receiver::start().answering(&["500 <b>Oh</b>"]);
    let house = House::open(&standard("each", &receiver.url("/hook"), ""));
    let mut listener = Listener::start(&house, "", &operator(&house), None);
    house.write("SEED/<a>.txt", "hello\n");
    let arrival = listener.hear();
    assert_eq!((arrival.event.as_str(), &arrival.data["path"]), ("arrival", &"/SEED/<a>.txt".into()));
    assert_eq!((&arrival.data["account"], &arrival.data["size"]), (&"test2".into(), &6.into()));
    let failed = listener.hear();
    assert_eq!((failed.text().as_str(), &failed.data["status"]), ("each pending", &500.into()));
    assert!(failed.data["next_at"].is_string(), "{failed:?}");
    let delivered = listener.hear();
    assert_eq!((delivered.text().as_str(), &delivered.data["attempts"]), ("each delivered", &2.into()));
    assert_eq!(delivered.data["notification"], failed.data["notification"]);
    assert_eq!((&delivered.data["first_seq"], &delivered.data["last_seq"]), (&1.into(), &1.into()));
}

#[test]
fn who_was_cut_off_goes_on_where_it_was_and_nothing_is_lost_or_doubled() {
    let receiver = Receiver::start();
    let mut house = House::open(&standard("each", &receiver.url("/hook"), ""));
    let token = operator(&house);
    let mut listener = Listener::start(&house, "", &token, None);
    let (mut files, mut told) = (Vec::new(), 0);
    for turn in 0..3 {
        for number in 0..20 {
            house.write(&format!("{turn}-{number:02}.txt"), "x");
        }
        // It is cut in the middle of what comes.
        while files.len() < turn * 20 + 7 {
            match listener.hear() {
                heard if heard.event == "arrival" => files.push(heard.text()),
                heard => told += usize::from(heard.text() == "each delivered"),
            }
        }
        let last = listener.last.clone();
        drop(listener);
        house.wait_for_events((turn + 1) * 20);
        listener = Listener::start(&house, "?kind=", &token, Some(&last));
    }
    while files.len() < 60 || told < 60 {
        match listener.hear() {
            heard if heard.event == "arrival" => files.push(heard.text()),
            heard => told += usize::from(heard.text() == "each delivered"),
        }
    }
    let journal: Vec<String> = house.events().iter().map(|one| one["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(files, journal, "in the order of the journal, each once");
    assert_eq!(told, 60);
    // Over a crash the arrivals are all there; of deliveries it is said that some may be missing.
    let last = listener.last.clone();
    drop(listener);
    house.kill();
    house.write("while-down.txt", "x");
    house.start();
    let mut listener = Listener::start(&house, "", &token, Some(&last));
    let heard = listener.hear_until(|heard| heard.iter().any(|one| one == "each delivered"));
    assert_eq!(heard.iter().filter(|one| *one == "/while-down.txt").count(), 1, "{heard:?}");
    assert_eq!(heard.iter().filter(|one| *one == "missed").count(), 1, "{heard:?}");
}

#[test]
fn an_account_hears_only_its_own() {
    let receiver = Receiver::start();
    let other_root = tempfile::tempdir().unwrap();
    let root = format!("{OTHER}root = \"{}\"\n", other_root.path().display());
    let house = House::open(&format!("{}{root}", standard("each", &receiver.url("/hook"), "")));
    let mut other = Listener::start(&house, "", &basic("other", "other's"), None);
    let mut own = Listener::start(&house, "", &basic("test2", "secret"), None);
    house.write("of-test2.txt", "x");
    assert_eq!(own.hear_until(|heard| heard.len() == 2), ["/of-test2.txt", "each delivered"]);
    std::fs::write(other_root.path().join("of-other.txt"), "x").unwrap();
    assert_eq!(other.hear().text(), "/of-other.txt", "and nothing of test2 before it");
    let refused = |query: &str, authorization: &str| {
        house.get(&format!("/api/v1/stream{query}"), &[("Authorization", authorization)]).status
    };
    assert_eq!(refused("?account=test2", &basic("other", "other's")), 404);
    assert_eq!(refused("?subscription=each", &basic("other", "other's")), 404);
    assert_eq!(refused("", &basic("other", "wrong")), 401);
    assert_eq!(refused("?kind=opened", &operator(&house)), 400);
    assert_eq!(refused("?after=7", &operator(&house)), 400);
    assert_eq!(house.get("/api/v1/stream", &[]).status, 401);
}

#[test]
fn filters_leave_out_what_is_not_asked_for() {
    let receiver = Receiver::start();
    let more = standard("csv", &receiver.url("/csv"), "filter = { include = [\"**/*.csv\"] }");
    let mut house = House::open(&format!("{}{more}", standard("each", &receiver.url("/hook"), "")));
    let token = operator(&house);
    let mut deleted = Listener::start(&house, "?kind=deleted", &token, None);
    let mut csv = Listener::start(&house, "?subscription=csv", &token, None);
    let mut told = Listener::start(&house, "?kind=delivery", &token, None);
    house.write("a.txt", "x");
    house.write("b.csv", "x");
    let heard = csv.hear_until(|heard| heard.len() == 2);
    assert_eq!(heard, ["/b.csv", "csv delivered"]);
    let mut heard = told.hear_until(|heard| heard.len() == 3);
    heard.sort();
    assert_eq!(heard, ["csv delivered", "each delivered", "each delivered"]);
    house.wait_for_events(2);
    std::fs::remove_file(house.root().join("a.txt")).unwrap();
    let heard = deleted.hear();
    assert_eq!((heard.text().as_str(), &heard.data["kind"]), ("/a.txt", &"deleted".into()));
    // Whoever listens does not keep the server from stopping.
    assert_eq!(house.stop(), Some(0));
}

#[test]
fn a_change_of_who_is_who_has_a_listener_ask_anew() {
    let house = House::open(OTHER);
    let auth = basic("other", "other's");
    let mut listener = Listener::start(&house, "", &auth, None);
    house.run("account", &["add", "third"]);
    house.write("wakes.txt", "x");
    let mut rest = String::new();
    listener.reader.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "it ends in order: {rest:?}");
    assert_eq!(asked(&house, "GET", "/api/v1/status")["sources"][0]["account"], "test2");
}

#[test]
fn a_poll_that_waits_is_answered_when_the_server_stops() {
    let mut house = House::open("");
    let by = [("Authorization", format!("Bearer {}", house.admin_token()))];
    let by = by.each_ref().map(|(name, value)| (*name, value.as_str()));
    // Both at once: when the first is answered, the second has been read.
    let first = house.head("GET", "/status.php", &[]).replace("Connection: close\r\n", "");
    let second = house.head("GET", "/api/v1/changes?wait=60", &by);
    let mut stream = house.connect();
    stream.write_all(format!("{first}{second}").as_bytes()).unwrap();
    let mut answers = BufReader::new(stream);
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), "HTTP/1.1 200 OK");
    assert_eq!(house.stop(), Some(0));
    let mut rest = String::new();
    answers.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with(r#"{"events":[],"next":"cur_0","more":false}"#), "{rest}");
}

#[test]
fn who_is_further_than_the_journal_is_told_so() {
    let house = House::open("");
    house.write("a.txt", "a");
    let newest = house.wait_for_events(1)[0]["seq"].as_i64().unwrap();
    let by = format!("Bearer {}", house.admin_token());
    let ask = |path: &str, header: (&str, &str)| house.get(path, &[("Authorization", &by), header]);
    let plain = ("Accept", "*/*");
    for answer in [
        ask(&format!("/api/v1/changes?wait=60&after=cur_{}", newest + 1), plain),
        ask("/api/v1/changes?after=cur_9223372036854775807", plain),
        ask(&format!("/api/v1/stream?after=pos_{}_0", newest + 1), plain),
        ask("/api/v1/stream", ("Last-Event-ID", "pos_999999_0")),
    ] {
        assert_eq!(answer.status, 400, "{}", answer.text());
        let problem = answer.json();
        assert_eq!(problem["code"], "unknown-position");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("the newest event, {newest}:")), "{detail}");
        assert!(detail.ends_with("begin again without `after`"), "{detail}");
    }
    let page = ask(&format!("/api/v1/changes?after=cur_{newest}"), plain).json();
    assert_eq!(page["next"], format!("cur_{newest}"));
}

#[test]
fn who_may_only_put_files_is_not_told_of_others() {
    let receiver = Receiver::start();
    let house = House::open(&ledger(&receiver).replace("api.dataDelivery", "api.dataIngestion"));
    let by = token(&house);
    for path in ["/api/v1/changes", "/api/v1/stream"] {
        let answer = house.get(path, &[("Authorization", &by)]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("not-granted")), "{path}");
        assert!(answer.text().contains("the scope api.dataDelivery"), "{}", answer.text());
    }
}
