//! Replays what was captured from real servers, and what was computed by other implementations (`vectors/`).

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::time::Duration;

use filebell_core::id::{FileId, NotificationId};
use filebell_core::secret::Secret;
use filebell_core::subscription::{Customer, SignatureEncoding};
use filebell_core::time::TimestampSecs;
use filebell_core::wire::ocs::{Failure, Format, Node, RecentRow, RecentWriter, Version, success};
use filebell_core::wire::{nextcloud, ocs, sagex3, standard};
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use uuid::Uuid;

macro_rules! vectors {
    ($file:literal) => {
        serde_json::from_str(include_str!(concat!("vectors/", $file))).unwrap()
    };
}

#[derive(Deserialize)]
struct NextcloudPost {
    name: String,
    key: String,
    headers: Vec<String>,
    body: String,
    signature: String,
}

#[test]
fn nextcloud_notifications_are_byte_for_byte_the_same() {
    let posts: Vec<NextcloudPost> = vectors!("nextcloud/notifications.json");
    assert_eq!(posts.len(), 7);
    for NextcloudPost { name, key, headers, body, signature } in posts {
        let key = nextcloud::common_key(&key).unwrap();
        let read = nextcloud::verify(&key, &signature, body.as_bytes()).unwrap();
        // Settings posted as JSON numbers come out as numbers; ours are always texts.
        if name == "int_interval" {
            assert_eq!(read.min_interval, Duration::from_secs(1));
            continue;
        }
        let written = nextcloud::notification(&read.id, read.min_interval, read.since, &key);
        assert_eq!(String::from_utf8(written.body).unwrap(), body, "{name}");
        let written: Vec<_> = written.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(written, headers[3..], "{name}");
    }
}

#[derive(Deserialize)]
struct SagePush {
    client_id: String,
    public_url: String,
    notification_id: String,
    customer_url: String,
    customer_id: String,
    datetime: String,
    body: String,
    hmac_sha256_hex: String,
    hmac_sha256_base64: String,
}

#[test]
fn sage_pushes_are_byte_for_byte_the_same() {
    let pushes: Vec<SagePush> = vectors!("sagex3/notifications.json");
    assert_eq!(pushes.len(), 3);
    for push in pushes {
        let customer = Customer { url: push.customer_url, id: push.customer_id, code: String::new() };
        let id = NotificationId::new(Uuid::try_parse(&push.notification_id).unwrap());
        let body = sagex3::body(&push.public_url, id, &customer, push.datetime.parse().unwrap());
        assert_eq!(String::from_utf8(body.clone()).unwrap(), push.body);
        let key = Secret::new(push.client_id);
        for (encoding, signature) in
            [(SignatureEncoding::Hex, push.hmac_sha256_hex), (SignatureEncoding::Base64, push.hmac_sha256_base64)]
        {
            let request = sagex3::sign(body.clone(), &key, encoding);
            assert_eq!(request.headers[1], ("HMAC_SHA256", signature.clone()));
            let read = sagex3::verify(&key, &signature, &request.body).unwrap();
            assert_eq!((read.notification_id, &read.customer_id), (id.uuid(), &customer.id));
        }
    }
}

#[test]
fn sage_payloads_are_byte_for_byte_the_same() {
    let payloads: Vec<BTreeMap<String, String>> = vectors!("sagex3/payloads.json");
    assert_eq!(payloads.len(), 3);
    for case in payloads {
        let (folder, name) = (case["folder"].as_bytes(), case["file_name"].as_bytes());
        assert_eq!(sagex3::payload("https://api.eu-prod-sagex3.com", folder, name), case["payload"]);
    }
}

#[derive(Deserialize)]
struct StandardMessage {
    secret: String,
    id: String,
    timestamp: i64,
    body: String,
    signature: String,
}

#[test]
fn standard_signatures_are_the_same() {
    let messages: Vec<StandardMessage> = vectors!("standard/v1.json");
    assert_eq!(messages.len(), 2);
    for StandardMessage { secret, id, timestamp, body, signature } in messages {
        let key = standard::StandardKey::parse(&Secret::new(secret)).unwrap();
        let sent_at = TimestampSecs::from_secs(timestamp);
        assert_eq!(standard::signature(&key, &id, sent_at, body.as_bytes()), signature);
        let headers = standard::Headers { id: &id, timestamp: &timestamp.to_string(), signature: &signature };
        standard::check(&key, headers, body.as_bytes(), sent_at, Duration::ZERO).unwrap();
    }
}

#[derive(Deserialize)]
struct Exchange {
    name: String,
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    path: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Exchange {
    fn version(&self) -> Version {
        if self.request.path.starts_with("/ocs/v1.php") { Version::V1 } else { Version::V2 }
    }

    fn parameter(&self, wanted: &str) -> Option<&str> {
        let (_, query) = self.request.path.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted).map(|pair| pair.1)
    }

    fn format(&self) -> Result<Format, Failure> {
        Format::negotiate(self.parameter("format"), self.request.headers.get("Accept").map(String::as_str))
    }

    fn content_type(&self) -> &str {
        let headers = &self.response.headers;
        headers.get("Content-Type").or_else(|| headers.get("Content-type")).unwrap()
    }
}

fn exchanges() -> Vec<Exchange> {
    let files: [Vec<Exchange>; 3] =
        [vectors!("nextcloud/ocs.json"), vectors!("nextcloud/app.json"), vectors!("nextcloud/nc24.json")];
    files.into_iter().flatten().collect()
}

/// Which refusal an exchange shows, by what it asked and what it got.
fn refusal(exchange: &Exchange) -> Option<Failure> {
    let body = &exchange.response.body;
    let says = |text: &str| body.contains(text);
    // Nextcloud 24 writes parameter errors, and what it answers early, otherwise (C8); ours are those of 31.
    if exchange.name.starts_with("nc24/") && !says("Current user is not logged in") {
        return None;
    }
    match () {
        () if says("since is missing") => Some(ocs::parse_since(exchange.parameter("since")).unwrap_err()),
        () if says("since is invalid") => Some(ocs::parse_since(exchange.parameter("since")).unwrap_err()),
        () if says("Unauthorised") => Some(Failure::WrongPassword),
        () if says("Current user is not logged in") => Some(Failure::NoCredentials),
        () if says("must be an admin") => Some(Failure::NotAdmin),
        () if says("Invalid query") => Some(Failure::UnknownRoute),
        () if says("Reached maximum delay") => Some(Failure::TooManyLogins),
        () if says("Internal Server Error") => Some(exchange.format().err().unwrap_or(Failure::Internal)),
        () => None,
    }
}

#[test]
fn ocs_refusals_are_byte_for_byte_the_same() {
    let mut seen = 0;
    for exchange in exchanges() {
        let Some(failure) = refusal(&exchange) else { continue };
        let format = if failure.is_early() {
            Format::of_parameter(exchange.parameter("format"))
        } else {
            exchange.format().unwrap_or(Format::Xml)
        };
        // The settings pages answer a missing login as OCS version 1 (D).
        let version = if exchange.request.path.contains("index.php") { Version::V1 } else { exchange.version() };
        let answer = failure.answer(version, format);
        assert_eq!(String::from_utf8(answer.body).unwrap(), exchange.response.body, "{}", exchange.name);
        assert_eq!(answer.status, exchange.response.status, "{}", exchange.name);
        assert_eq!(answer.content_type, exchange.content_type(), "{}", exchange.name);
        seen += 1;
    }
    assert_eq!(seen, 50);
}

#[test]
fn wrong_methods_name_the_early_content_type() {
    let ocs_405 = |exchange: &Exchange| exchange.response.status == 405 && exchange.request.path.starts_with("/ocs/");
    for exchange in exchanges().iter().filter(|exchange| ocs_405(exchange)) {
        let format = Format::of_parameter(exchange.parameter("format"));
        assert_eq!(format.early_content_type(), exchange.content_type(), "{}", exchange.name);
    }
}

struct Row {
    id: i64,
    time: i64,
    name: String,
    path: String,
    user: String,
}

/// The rows of a captured list, in JSON or (by cutting it at its tags) in XML.
fn rows(body: &str) -> Vec<Row> {
    let unescape =
        |text: &str| text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    if body.starts_with('{') {
        let body: Value = serde_json::from_str(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let files = body["ocs"]["data"]["files"].as_array().unwrap();
        let row = |file: &Value| Row {
            id: file["id"].as_i64().unwrap(),
            time: file["time"].as_i64().unwrap(),
            name: text(&file["name"]),
            path: text(&file["path"]),
            user: text(&file["modified_user"]),
        };
        files.iter().map(row).collect()
    } else {
        let field = |element: &str, name: &str| {
            let (_, rest) = element.split_once(&format!("<{name}>")).unwrap();
            unescape(rest.split_once(&format!("</{name}>")).unwrap().0)
        };
        let row = |element: &str| Row {
            id: field(element, "id").parse().unwrap(),
            time: field(element, "time").parse().unwrap(),
            name: field(element, "name"),
            path: field(element, "path"),
            user: field(element, "modified_user"),
        };
        body.split("<element>").skip(1).map(row).collect()
    }
}

#[test]
fn recent_lists_are_byte_for_byte_the_same() {
    let mut seen = 0;
    for exchange in exchanges() {
        let body = &exchange.response.body;
        if !(exchange.request.path.contains("api/recent") && body.contains("files")) {
            continue;
        }
        let rows = rows(body);
        let format = exchange.format().unwrap();
        let mut writer = RecentWriter::new(exchange.version(), format, rows.len());
        for row in &rows {
            writer.row(&RecentRow {
                id: FileId::new(row.id),
                time: TimestampSecs::from_secs(row.time),
                name: &row.name,
                path: &row.path,
                modified_user: &row.user,
            });
        }
        assert_eq!(String::from_utf8(writer.finish()).unwrap(), *body, "{}", exchange.name);
        assert_eq!(format.content_type(), exchange.content_type(), "{}", exchange.name);
        seen += 1;
    }
    assert_eq!(seen, 20);
}

/// A [`Node`] read from JSON with its members in order.
struct Tree(Node);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tree;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("what PHP can hold")
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree(Node::text(text.to_owned())))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree(Node::Int(number)))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(Tree(Node::Int(number.try_into().unwrap())))
            }
            fn visit_bool<E>(self, truth: bool) -> Result<Tree, E> {
                Ok(Tree(Node::Bool(truth)))
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree(Node::Null))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(Tree(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree(Node::List(list)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some((name, Tree(value))) = members.next_entry::<String, Tree>()? {
                    map.push((name.into(), value));
                }
                Ok(Tree(Node::Map(map)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize)]
struct Envelope {
    ocs: Ocs,
}

#[derive(Deserialize)]
struct Ocs {
    data: Tree,
}

#[test]
fn every_tree_is_written_as_php_writes_it() {
    let all = exchanges();
    let by_name = |name: &str| all.iter().find(|exchange| exchange.name == name).unwrap();
    for (json, xml) in [
        ("ocs/v1_json_user", "ocs/v1_xml_user"),
        ("ocs/v1_json_user", "ocs/v2_xml_user"),
        ("ocs/v1_json_capabilities_anon", "ocs/v2_xml_capabilities_anon"),
        ("ocs/v2_json_capabilities_anon", "ocs/v2_xml_capabilities_anon"),
        ("ocs/v2_json_config", "ocs/v1_xml_config"),
        ("ocs/v2_json_config", "ocs/v2_xml_config"),
    ] {
        let (json, xml) = (by_name(json), by_name(xml));
        let Envelope { ocs: Ocs { data: Tree(data) } } = serde_json::from_str(&json.response.body).unwrap();
        for (exchange, format) in [(json, Format::Json), (xml, Format::Xml)] {
            let written = String::from_utf8(success(exchange.version(), format, &data)).unwrap();
            assert_eq!(written, exchange.response.body, "{}", exchange.name);
        }
    }
}

#[test]
fn settings_are_written_as_php_writes_them() {
    for exchange in exchanges().iter().filter(|exchange| exchange.request.path.contains("index.php")) {
        if !exchange.content_type().starts_with("application/json") {
            continue;
        }
        let Tree(tree) = serde_json::from_str(&exchange.response.body).unwrap();
        assert_eq!(tree.to_json(), exchange.response.body, "{}", exchange.name);
    }
}
