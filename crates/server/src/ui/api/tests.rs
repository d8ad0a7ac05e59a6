use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::receiver::{Does, Receiver, let_out};
use super::super::scene::{BASE, Scene, TOKEN};
use crate::source::Roots;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

async fn document(scene: &Scene) -> Value {
    let answer = scene.browser().get("/api/openapi.json").await;
    serde_json::from_slice(&answer.body).unwrap()
}

/// Whether a value is what a schema says; else where it is not.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(pointer) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&pointer[1..]).expect(pointer), value, at);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let failed: Vec<_> = any.iter().filter_map(|one| fits(document, one, value, at).err()).collect();
        return if failed.len() < any.len() { Ok(()) } else { Err(failed.join("; ")) };
    }
    if let Some(words) = schema["enum"].as_array() {
        return if words.contains(value) { Ok(()) } else { Err(format!("{at}: {value} is no word of {words:?}")) };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(|one| one == kind),
        one => one == kind,
    };
    if !allowed {
        return Err(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let (Some(text), "date-time") = (value.as_str(), schema["format"].as_str().unwrap_or_default()) {
        text.parse::<jiff::Timestamp>().map_err(|error| format!("{at}: {error}"))?;
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item, &format!("{at}[]"))?;
    }
    if let (Some(members), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        for (name, member) in members {
            let schema = known.get(name).ok_or_else(|| format!("{at}: {name} is not in the document"))?;
            fits(document, schema, member, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

/// The paths of our own API, as its source names them.
fn routes() -> BTreeSet<String> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/native");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let texts = sources.map(|path| std::fs::read_to_string(path).unwrap());
    let quoted = |text: String| {
        text.split(".route(").skip(1).map(|rest| rest.split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    texts.flat_map(quoted).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_nothing_else() {
    let scene = Scene::new().await;
    let document = document(&scene).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], BASE);
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.keys().cloned().collect::<BTreeSet<_>>(), routes());
    let mut ids = BTreeSet::new();
    for (path, operations) in paths {
        for method in METHODS {
            let asked = path.replace(['{', '}'], "");
            let answer = scene.program(&method.to_uppercase(), &asked, "wrong", "").await;
            let known = operations.get(method);
            let served = answer.status != 405;
            assert_eq!(served, known.is_some(), "{method} {path}: {}", answer.text());
            let Some(operation) = known else { continue };
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            if operation["security"].is_null() {
                assert_eq!(answer.status, 401, "{method} {path}");
            }
            let named = path.matches('{').count();
            let given = operation["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "path");
            assert_eq!(given.count(), named, "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_really_answered_fits_the_document() {
    let scene = Scene::new().await;
    scene.ops.serving(Roots::default(), crate::delivery::Feed::new(filebell_core::time::TimestampMs::ZERO));
    let_out(&scene, true, Duration::from_secs(5));
    let receiver = Receiver::new(Does::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let document = document(&scene).await;
    scene.arrive("alice", &["/SEED/a", "/b"]).await;
    let root = scene.dir.path().join("carol");
    std::fs::create_dir(&root).unwrap();
    let mut asked = BTreeSet::new();
    let steps: Vec<(&str, &str, &str, Value, u16)> = vec![
        ("get", "/api/v1/changes", "/api/v1/changes?limit=1", Value::Null, 200),
        ("get", "/api/v1/changes", "/api/v1/changes?limit=0", Value::Null, 400),
        ("post", "/api/v1/accounts", "/api/v1/accounts", json!({"name": "carol", "root": root, "quota_bytes": 9}), 201),
        ("post", "/api/v1/accounts", "/api/v1/accounts", json!({"name": "carol"}), 409),
        ("post", "/api/v1/accounts", "/api/v1/accounts", json!({"name": "x", "root": "/nowhere"}), 422),
        ("post", "/api/v1/accounts", "/api/v1/accounts", json!({"nome": "x"}), 400),
        ("get", "/api/v1/accounts", "/api/v1/accounts", Value::Null, 200),
        (
            "patch",
            "/api/v1/accounts/{name}",
            "/api/v1/accounts/carol",
            json!({"password": "p", "quota_bytes": null}),
            200,
        ),
        ("get", "/api/v1/accounts/{name}", "/api/v1/accounts/carol", Value::Null, 200),
        ("get", "/api/v1/accounts/{name}", "/api/v1/accounts/eve", Value::Null, 404),
        (
            "post",
            "/api/v1/accounts/{name}/app-passwords",
            "/api/v1/accounts/carol/app-passwords",
            json!({"name": "laptop"}),
            201,
        ),
        ("get", "/api/v1/accounts/{name}/app-passwords", "/api/v1/accounts/carol/app-passwords", Value::Null, 200),
        (
            "delete",
            "/api/v1/accounts/{name}/app-passwords/{password}",
            "/api/v1/accounts/carol/app-passwords/laptop",
            Value::Null,
            204,
        ),
        ("delete", "/api/v1/accounts/{name}", "/api/v1/accounts/carol", Value::Null, 204),
        (
            "post",
            "/api/v1/applications",
            "/api/v1/applications",
            json!({"name": "ledger", "redirect_urls": ["https://l.example.org/"]}),
            201,
        ),
        ("get", "/api/v1/applications", "/api/v1/applications", Value::Null, 200),
        (
            "patch",
            "/api/v1/applications/{name}",
            "/api/v1/applications/ledger",
            json!({"notification_url": receiver.url}),
            200,
        ),
        ("get", "/api/v1/applications/{name}", "/api/v1/applications/ledger", Value::Null, 200),
        (
            "post",
            "/api/v1/applications/{name}/rotate-secret",
            "/api/v1/applications/ledger/rotate-secret",
            Value::Null,
            200,
        ),
        ("post", "/api/v1/applications/{name}/disable", "/api/v1/applications/ledger/disable", Value::Null, 204),
        ("post", "/api/v1/applications/{name}/enable", "/api/v1/applications/ledger/enable", Value::Null, 204),
        (
            "post",
            "/api/v1/grants",
            "/api/v1/grants",
            json!({"application": "ledger", "account": "alice", "folders": ["SEED"]}),
            201,
        ),
        ("get", "/api/v1/grants", "/api/v1/grants", Value::Null, 200),
        (
            "post",
            "/api/v1/subscriptions",
            "/api/v1/subscriptions",
            json!({"name": "w", "account": "alice", "protocol": "standard", "url": receiver.url}),
            201,
        ),
        (
            "post",
            "/api/v1/subscriptions",
            "/api/v1/subscriptions",
            json!({"name": "v", "account": "alice", "protocol": "nextcloud", "url": receiver.url}),
            400,
        ),
        ("get", "/api/v1/subscriptions", "/api/v1/subscriptions", Value::Null, 200),
        (
            "patch",
            "/api/v1/subscriptions/{name}",
            "/api/v1/subscriptions/w",
            json!({"min_interval_ms": 500, "filter": {"folders": ["SEED"]}}),
            200,
        ),
        (
            "patch",
            "/api/v1/subscriptions/{name}",
            "/api/v1/subscriptions/ledger%2Falice",
            json!({"url": "https://x/"}),
            409,
        ),
        ("get", "/api/v1/subscriptions/{name}", "/api/v1/subscriptions/ledger%2Falice", Value::Null, 200),
        ("post", "/api/v1/subscriptions/{name}/test", "/api/v1/subscriptions/w/test", Value::Null, 200),
        ("post", "/api/v1/subscriptions/{name}/pause", "/api/v1/subscriptions/w/pause", Value::Null, 204),
        ("post", "/api/v1/subscriptions/{name}/resume", "/api/v1/subscriptions/w/resume", Value::Null, 204),
        ("post", "/api/v1/subscriptions/{name}/rotate-key", "/api/v1/subscriptions/w/rotate-key", Value::Null, 200),
        ("post", "/api/v1/subscriptions/{name}/replay", "/api/v1/subscriptions/w/replay", Value::Null, 200),
        ("get", "/api/v1/status", "/api/v1/status", Value::Null, 200),
        ("post", "/api/v1/examine", "/api/v1/examine", Value::Null, 200),
        ("post", "/api/v1/scan", "/api/v1/scan", Value::Null, 200),
        ("get", "/api/v1/why", "/api/v1/why?account=alice&path=/SEED/a", Value::Null, 200),
        ("post", "/api/v1/emit", "/api/v1/emit", json!({"account": "alice", "path": "/b"}), 409),
        ("delete", "/api/v1/grants/{application}/{account}", "/api/v1/grants/ledger/alice", Value::Null, 204),
        ("delete", "/api/v1/subscriptions/{name}", "/api/v1/subscriptions/w", Value::Null, 204),
        ("delete", "/api/v1/applications/{name}", "/api/v1/applications/ledger", Value::Null, 204),
        ("get", "/api/openapi.json", "/api/openapi.json", Value::Null, 200),
    ];
    for (method, path, at, body, status) in steps {
        let operation = &document["paths"][path][method];
        if !body.is_null() && status < 400 {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            fits(&document, schema, &body, &format!("{method} {path} asks")).unwrap();
        }
        let sent = if body.is_null() { String::new() } else { body.to_string() };
        let answer = scene.program(&method.to_uppercase(), at, TOKEN, sent).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {at}: {}", answer.text());
        let told = &operation["responses"][status.to_string()];
        let told = told["$ref"].as_str().map_or(told, |pointer| document.pointer(&pointer[1..]).unwrap());
        assert!(told.is_object(), "{method} {path} may answer {status}");
        let kind = if status < 400 { "application/json" } else { "application/problem+json" };
        let schema = &told["content"][kind]["schema"];
        if schema.is_null() {
            assert!(answer.body.is_empty(), "{method} {path}: {}", answer.text());
        } else {
            assert_eq!(answer.header("content-type"), kind);
            let value = serde_json::from_slice(&answer.body).unwrap();
            fits(&document, schema, &value, &format!("{method} {path}")).unwrap();
        }
        asked.insert((path, method));
    }
    let all: usize = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
    // What deliveries and the live stream answer is tested where it is made.
    let elsewhere = ["notifications", "stream"].map(|word| format!("/api/v1/{word}"));
    let other: usize = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| elsewhere.iter().any(|one| path.starts_with(one.as_str())))
        .map(|(_, path)| path.as_object().unwrap().len())
        .sum();
    assert_eq!(asked.len() + other, all);
}

#[tokio::test]
async fn an_account_sees_itself_and_no_other() {
    let scene = Scene::new().await;
    let token = scene.ops.add_app_password("alice", "laptop").await.unwrap();
    let ask = async |method: &str, path: &str, body: &str| {
        scene.program(method, path, token.expose(), body.to_owned()).await.status.as_u16()
    };
    assert_eq!(ask("GET", "/api/v1/accounts/alice", "").await, 200);
    assert_eq!(ask("GET", "/api/v1/accounts/bob", "").await, 404);
    assert_eq!(ask("GET", "/api/v1/accounts/bob/app-passwords", "").await, 404);
    assert_eq!(ask("POST", "/api/v1/accounts/bob/app-passwords", r#"{"name":"x"}"#).await, 404);
    assert_eq!(ask("POST", "/api/v1/emit", r#"{"account":"bob","path":"/x"}"#).await, 404);
    assert_eq!(ask("POST", "/api/v1/accounts/alice/app-passwords", r#"{"name":"x"}"#).await, 201);
    for (method, path) in [
        ("GET", "/api/v1/accounts"),
        ("DELETE", "/api/v1/accounts/alice"),
        ("PATCH", "/api/v1/accounts/alice"),
        ("GET", "/api/v1/subscriptions"),
        ("DELETE", "/api/v1/subscriptions/x"),
        ("POST", "/api/v1/subscriptions/x/rotate-key"),
        ("POST", "/api/v1/examine"),
    ] {
        assert_eq!(ask(method, path, "{}").await, 403, "{method} {path}");
    }
    assert_eq!(ask("POST", "/api/v1/subscriptions/x/test", "").await, 404);
}

#[tokio::test]
async fn a_secret_is_in_the_answer_that_made_it_and_in_no_other() {
    let scene = Scene::new().await;
    let ask = async |method: &str, path: &str, body: Value| {
        serde_json::from_slice::<Value>(&scene.program(method, path, TOKEN, body.to_string()).await.body).unwrap()
    };
    let made = [
        ("/api/v1/applications", json!({"name": "ledger"}), "client_secret"),
        (
            "/api/v1/subscriptions",
            json!({"name": "w", "account": "alice", "protocol": "standard", "url": "https://x.example.org/"}),
            "key",
        ),
        ("/api/v1/accounts/alice/app-passwords", json!({"name": "laptop"}), "password"),
    ];
    for (path, body, member) in made {
        let secret = ask("POST", path, body).await[member].as_str().unwrap().to_owned();
        let later = scene.program("GET", path, TOKEN, "").await;
        assert_eq!(later.status, 200);
        later.hides(&[&secret, member]);
    }
}

#[tokio::test]
async fn the_page_shows_every_operation_to_whoever_comes() {
    let scene = Scene::new().await;
    let document = document(&scene).await;
    for browser in [scene.browser(), scene.operator().await, scene.person("alice").await] {
        let page = browser.get("/api").await;
        assert_eq!(page.status, 200);
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                page.says(&[&format!("<code>{} {path}</code>", method.to_uppercase())]);
            }
        }
        page.says(&["Authorization: Bearer $TOKEN", &format!("'{BASE}/api/v1/changes'")]);
    }
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_nobodys() {
    let scene = Scene::new().await;
    let document = document(&scene).await;
    for (path, methods) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.contains('{')) {
        let asked: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "%ff" } else { part }).collect();
        for method in METHODS.iter().filter(|method| methods.get(*method).is_some()) {
            let answer = scene.program(&method.to_uppercase(), &asked.join("/"), TOKEN, "{}").await;
            assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
            let with_body = methods[*method]["requestBody"]["required"] == true;
            assert!(answer.status == 404 || (answer.status == 400 && with_body), "{method} {path}: {}", answer.text());
        }
    }
    let operator = scene.operator().await;
    for path in ["/accounts/%ff", "/applications/%ff", "/subscriptions/%ff", "/deliveries/%ff", "/files/%ff"] {
        let answer = operator.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (404, "text/html; charset=utf-8"),
            "{path}"
        );
    }
    assert_eq!(scene.browser().get("/assets/%ff").await.status, 404);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_the_limit() {
    let scene = Scene::new().await;
    let answer = scene.program("POST", "/api/v1/accounts", TOKEN, vec![b' '; 3 << 20]).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (413, "application/problem+json"));
    answer.says(&["\"code\":\"body-too-large\"", "the body has more than 2097152 bytes"]);
}
