use std::collections::HashMap;
use std::path::Path;

use filebell_core::wire::sagex3::ask::Transport;

use super::*;
use crate::ops::ProtocolRequest;

/// The example of the design, as it stands there.
const DESIGN: &str = r#"
listen = "127.0.0.1:8080"
public_url = "https://files.example.org"   # base of every URL handed out; default from listen
data_dir = "filebell-data"

[watch]
settle = "2s"
quiet = "0s"
orphan_after = "1m"
existing = "none"
rescan = "10m"
mode = "auto"
ignore = ["*.part", "*.tmp", "*.filepart", "*.crdownload", ".*", "~$*"]

[delivery]
timeout = "15s"
max_in_flight = 256
max_in_flight_per_endpoint = 16
schedule = ["5s", "30s", "2m", "10m", "30m", "1h", "2h", "4h", "8h", "12h", "24h"]
ring = ["10s", "30s", "2m", "10m", "1h"]

[egress]
allow_networks = ["127.0.0.0/8"]
allow_http = true

[[accounts]]
name = "test2"
password = "secret"
root = "/srv/files/test2"
customer_url = "https://x3.example.com"
customer_id = "9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90"
customer_code = "acme"

[[subscriptions]]
name = "rdm"
account = "test2"
protocol = "nextcloud"
url = "http://127.0.0.1:9000/hook"
connection_id = "https://nextcloud.example.com:test2"
min_interval = "10s"
key = "4fdab23178d6c424196c9448070d3bef"
folders = ["SEED"]
include = ["**/*.csv"]
exclude = []
kinds = ["created", "updated"]

[[applications]]
name = "ledger"
client_id = "5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10"
client_secret = "s3cr3t-Example"
redirect_urls = ["http://127.0.0.1:9001/callback"]
notification_url = "http://127.0.0.1:9001/notification"
signature_encoding = "hex"
[[applications.grants]]
account = "test2"
folders = ["SEED"]
scopes = ["api.dataDelivery"]
"#;

struct Scene {
    directory: tempfile::TempDir,
    env: HashMap<String, String>,
    flags: Vec<(&'static str, String)>,
    look_at_roots: bool,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, env: HashMap::new(), flags: Vec::new(), look_at_roots: false }
    }

    fn load(&self, text: &str) -> Result<Config, ConfigError> {
        let file = self.directory.path().join("filebell.toml");
        std::fs::write(&file, text).unwrap();
        let env = |name: &str| self.env.get(name).cloned();
        Config::load(&Sources {
            file: Some(file),
            env: &env,
            flags: self.flags.clone(),
            look_at_roots: self.look_at_roots,
        })
    }

    /// The report, without the directory.
    fn report(&self, text: &str) -> String {
        let error = self.load(text).expect_err(text);
        error.to_string().replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn check(text: &str, expected: &[&str]) {
    let head = match expected.len() {
        1 => "the configuration has a mistake".to_owned(),
        count => format!("the configuration has {count} mistakes"),
    };
    let expected = [&[head.as_str()], expected].concat().join("\n  ");
    assert_eq!(Scene::new().report(text), expected);
}

#[test]
fn the_example_of_the_design_is_read() {
    let scene = Scene::new();
    let config = scene.load(DESIGN).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.data_dir, scene.directory.path().join("filebell-data"), "relative to the file");
    assert_eq!(config.public_url.unwrap().as_str(), "https://files.example.org/");
    let [account] = &config.accounts[..] else { panic!() };
    assert_eq!((account.name.as_str(), account.root.as_deref()), ("test2", Some(Path::new("/srv/files/test2"))));
    assert!(account.managed);
    let [subscription] = &config.subscriptions[..] else { panic!() };
    assert!(matches!(&subscription.protocol, ProtocolRequest::Nextcloud { connection_id }
        if connection_id == "https://nextcloud.example.com:test2"));
    assert_eq!(subscription.min_interval, Duration::from_secs(10));
    assert_eq!(subscription.filter.include, ["**/*.csv"]);
    let [(application, grants)] = &config.applications[..] else { panic!() };
    assert_eq!(application.client_secret, Some(Secret::new("s3cr3t-Example")));
    assert_eq!(grants[0].folders, ["SEED"]);
    assert_eq!(config.egress.allow_networks, ["127.0.0.0/8".parse().unwrap()]);
}

#[test]
fn what_the_design_writes_down_are_the_defaults() {
    let (bare, full) = (Scene::new().load("").unwrap(), Scene::new().load(DESIGN).unwrap());
    assert_eq!(bare.listen, full.listen);
    assert_eq!(bare.data_dir, Path::new("filebell-data"));
    assert_eq!(bare.watch, full.watch);
    assert_eq!(bare.delivery, full.delivery);
    assert_eq!(bare.egress, Policy { allow_networks: Vec::new(), allow_http: false });
}

#[test]
fn the_example_that_is_shipped_is_read_and_says_the_defaults() {
    let shipped = include_str!("../../../../filebell.example.toml");
    let config = Scene::new().load(shipped).unwrap();
    let (_, grants) = &config.applications[0];
    assert_eq!((config.accounts.len(), config.subscriptions.len(), grants.len()), (1, 2, 1));
    assert_eq!(config.subscriptions[1].filter.include, ["**/*.csv"]);
    // With its comments taken away, each commented key holds its default.
    let keys: String = shipped
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
        .filter(|line| !line.contains("_file = "))
        .fold(String::new(), |text, line| text + line + "\n");
    let spelled = Scene::new().load(&keys).unwrap();
    let bare = Scene::new().load("").unwrap();
    assert_eq!((spelled.watch, spelled.delivery), (bare.watch, bare.delivery));
    assert_eq!(spelled.sagex3, bare.sagex3);
    assert_eq!((spelled.listen, spelled.egress.allow_http), (bare.listen, bare.egress.allow_http));
}

#[test]
fn what_sage_leaves_open_is_chosen_and_checked() {
    let chosen = "[sagex3]\nregion = \"eu-prod\"\ncallback = \"query\"\ndownload = \"direct\"\nerrors = \"flat\"\n\
                  consume_once = true\npage_size = 2\nquota_per_day = 9\naccess_token_life = \"1h\"\n";
    let sagex3 = Scene::new().load(chosen).unwrap().sagex3;
    assert_eq!((sagex3.region.as_str(), sagex3.page_size, sagex3.quota_per_day), ("eu-prod", 2, Some(9)));
    assert_eq!((sagex3.consume_once, sagex3.access_for), (true, Duration::from_secs(3600)));
    let server = Scene::new().load("[sagex3]\ncallback = \"server\"\n").unwrap().sagex3;
    assert_eq!(server.callback, Transport::Server);
    let wrong = "[sagex3]\ncallback = \"post\"\ndownload = \"directly\"\nerrors = \"x\"\npage_size = 0\n\
                 access_token_life = \"20ms\"\nrefresh_token_life = \"1m\"\nregoin = \"x\"\n";
    let report = Scene::new().load(wrong).unwrap_err().to_string();
    for part in [
        "`post` is not one of form, query, server",
        "did you mean `direct`?",
        "`x` is not one of documented, nested, flat",
        "a page has 1 to 10000 files",
        "at least a second",
        "nobody could ever renew",
        "did you mean `region`?",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mut scene = Scene::new();
    let file = "listen = \"127.0.0.1:1\"\n[watch]\nsettle = \"1s\"\n[egress]\nallow_http = false\n";
    for (name, text) in [
        ("FILEBELL_LISTEN", "127.0.0.1:2"),
        ("FILEBELL_WATCH_SETTLE", "2s"),
        ("FILEBELL_EGRESS_ALLOW_HTTP", "true"),
        ("FILEBELL_EGRESS_ALLOW_NETWORKS", "10.0.0.0/8, ::1"),
        ("FILEBELL_DELIVERY_MAX_IN_FLIGHT", "7"),
        ("FILEBELL_DATA_DIR", "from-env"),
    ] {
        scene.env.insert(name.to_owned(), text.to_owned());
    }
    scene.flags.push(("listen", "[::1]:3".to_owned()));
    let config = scene.load(file).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:3");
    assert_eq!(config.watch.settle, Duration::from_secs(2));
    assert_eq!(config.data_dir, Path::new("from-env"), "relative to the working directory");
    assert_eq!((config.delivery.max_in_flight, config.delivery.max_in_flight_per_endpoint), (7, 7));
    assert!(config.egress.allow_http);
    assert_eq!(config.egress.allow_networks.len(), 2);
    scene.env.insert("FILEBELL_WATCH_SETTLE".to_owned(), "soon".to_owned());
    scene.flags = vec![("listen", "here".to_owned())];
    assert_eq!(
        scene.report("lissten = 1"),
        "the configuration has 3 mistakes\n  \
         filebell.toml:1: lissten: unknown key; did you mean `listen`?\n  \
         FILEBELL_WATCH_SETTLE: `soon` is not a duration; write numbers with a unit, such as \"500ms\", \"10s\", \
         \"2m\", \"1h30m\" or \"1d\"\n  \
         --listen: `here` is not an address to listen on, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:0"
    );
}

#[test]
fn all_mistakes_are_reported_together_in_the_order_of_the_file() {
    check(
        r#"listen = 8080
database_url = "postgres://user:geheim@host/db"
public_url = "files.example.org"

[watch]
setle = "2s"
rescan = "0s"
mode = "inotfy"
existing = "yesterday"
ignore = ["*.part", "[x"]

[delivery]
timeout = "-1s"
max_in_flight = 4
max_in_flight_per_endpoint = 5
schedule = [
  "5s",
  "soon",
]
ring = ["0s"]
[egress]
allow_networks = ["localhost"]
allow_http = "yes"

[mystery]
"#,
        &[
            "filebell.toml:1: listen: expected text in quotes, found an integer",
            "filebell.toml:2: database_url: PostgreSQL is not built in yet; take this key out to use the embedded \
             store in data_dir",
            "filebell.toml:3: public_url: `files.example.org` is not a base URL such as https://files.example.org",
            "filebell.toml:6: watch.setle: unknown key; did you mean `settle`?",
            "filebell.toml:7: watch.rescan: must be longer than zero",
            "filebell.toml:8: watch.mode: `inotfy` is not one of auto, inotify, poll; did you mean `inotify`?",
            "filebell.toml:9: watch.existing: `yesterday` is neither \"none\" nor \"all\" nor a time such as \
             2026-11-22T17:00:00Z",
            "filebell.toml:10: watch.ignore: `[x` is not a glob: unclosed character class; missing ']'",
            "filebell.toml:13: delivery.timeout: `-1s` is not a duration; write numbers with a unit, such as \
             \"500ms\", \"10s\", \"2m\", \"1h30m\" or \"1d\"",
            "filebell.toml:15: delivery.max_in_flight_per_endpoint: is more than max_in_flight, which is 4",
            "filebell.toml:18: delivery.schedule: `soon` is not a duration; write numbers with a unit, such as \
             \"500ms\", \"10s\", \"2m\", \"1h30m\" or \"1d\"",
            "filebell.toml:20: delivery.ring: must be longer than zero",
            "filebell.toml:22: egress.allow_networks: `localhost` is not a network such as 127.0.0.0/8, 10.1.2.3 or \
             fd00::/8",
            "filebell.toml:23: egress.allow_http: expected true or false, found a string",
            "filebell.toml:25: mystery: unknown key; known here are listen, public_url, data_dir, database_url, \
             admin_token, admin_token_file, watch, delivery, egress, sagex3, accounts, subscriptions, applications",
        ],
    );
}

#[test]
fn objects_are_held_against_each_other() {
    check(
        r#"[[accounts]]
name = "test2"
[[accounts]]
name = "test2"
pasword = "x"
[[accounts]]
root = "/srv"

[[subscriptions]]
name = "rdm"
account = "tset2"
protocol = "nextcloud"
url = "http://192.0.2.1/hook"
min_interval = "1500ms"
key = "xyz"

[[subscriptions]]
name = "rdm"
account = "elsewhere"
protocol = "standard"
url = "ftp://x/"
filter = { kinds = [] }
folders = ["a"]

[[subscriptions]]
name = "a b"
account = "test2"
protocol = "sagex3"
url = "https://x/"

[[applications]]
name = "ledger"
signature_encoding = "hexx"
client_secret = "a"
client_secret_file = "b"
notification_url = "notification"
[[applications.grants]]
account = "test2"
[[applications.grants]]
account = "test2"
folders = ["a/b"]
"#,
        &[
            "filebell.toml:4: accounts.name: `test2` is there already, in line 2",
            "filebell.toml:5: accounts.pasword: unknown key; did you mean `password`?",
            "filebell.toml:6: accounts.name: missing",
            "filebell.toml:9: subscriptions.connection_id: missing",
            "filebell.toml:11: subscriptions.account: no account `tset2` is declared here; did you mean `test2`?",
            "filebell.toml:13: subscriptions.url: http:// is sent only to a network in egress.allow_networks, or with \
             egress.allow_http = true; otherwise write https://",
            "filebell.toml:14: subscriptions.min_interval: the nextcloud protocol counts in whole seconds, at least \
             \"1s\"",
            "filebell.toml:15: subscriptions.key: a common key is an even number of hex digits, at least two; make \
             one with: openssl rand -hex 16",
            "filebell.toml:17: subscriptions.key: missing (or key_file); make one with: echo whsec_$(openssl rand \
             -base64 32)",
            "filebell.toml:18: subscriptions.name: `rdm` is there already, in line 10",
            "filebell.toml:19: subscriptions.account: no account `elsewhere` is declared here; add [[accounts]] with \
             name = \"elsewhere\"",
            "filebell.toml:21: subscriptions.url: a notification goes to http:// or https://, not to ftp://",
            "filebell.toml:22: subscriptions.filter.kinds: kinds is empty: nothing would ever be told",
            "filebell.toml:23: subscriptions.folders: stands beside the table `filter`; write it into that table",
            "filebell.toml:26: subscriptions.name: `a b` cannot be a name: use letters, digits and . _ @ - (at most \
             64, starting with a letter or digit)",
            "filebell.toml:28: subscriptions.protocol: sagex3 is told by grants: declare [[applications]] with a \
             notification_url, and [[applications.grants]] for the account",
            "filebell.toml:33: applications.signature_encoding: `hexx` is not one of hex, base64; did you mean `hex`?",
            "filebell.toml:35: applications.client_secret_file: stands beside applications.client_secret; keep one \
             of the two",
            "filebell.toml:36: applications.notification_url: `notification` is not a URL such as \
             https://app.example.org/hook",
            "filebell.toml:37: applications.grants.folders: missing; name the top-level directories it may see, such \
             as [\"SEED\"]",
            "filebell.toml:39: applications.grants.folders: `a/b` is not a folder: give the name of one top-level \
             directory, without `/`",
            "filebell.toml:40: applications.grants.account: `test2` is there already, in line 38",
        ],
    );
}

#[test]
fn text_that_is_not_toml_is_reported_with_its_line() {
    check(
        "listen = \"x\n",
        &[
            "filebell.toml:1: this is not TOML: invalid basic string, expected `\"`",
            "filebell.toml:1: listen: `x` is not an address to listen on, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:0",
        ],
    );
    check("\n[watch]\nsettle = \"1s\"\nsettle = \"2s\"\n", &["filebell.toml:4: this is not TOML: duplicate key"]);
    check(
        "accounts = 3\nwatch = 4\n",
        &[
            "filebell.toml:1: accounts: expected tables, each headed [[accounts]], found an integer",
            "filebell.toml:2: watch: expected a table, found an integer",
        ],
    );
}

#[test]
fn secrets_stand_in_files_beside_the_file() {
    let scene = Scene::new();
    std::fs::write(scene.directory.path().join("p"), "secret\n").unwrap();
    std::fs::write(scene.directory.path().join("empty"), "\n").unwrap();
    let config = scene.load("[[accounts]]\nname = \"a\"\npassword_file = \"p\"\n").unwrap();
    assert_eq!(config.accounts[0].password, Some(Secret::new("secret")));
    assert_eq!(
        scene.report("admin_token_file = \"empty\"\n[[accounts]]\nname = \"a\"\npassword_file = \"gone\"\n"),
        "the configuration has 2 mistakes\n  \
         filebell.toml:1: admin_token_file: is empty\n  \
         filebell.toml:4: accounts.password_file: gone cannot be read: No such file or directory (os error 2)"
    );
    let mut scene = scene;
    scene.env.insert("FILEBELL_ADMIN_TOKEN".to_owned(), "from the environment".to_owned());
    let config = scene.load("admin_token_file = \"empty\"\n").unwrap();
    assert_eq!(config.admin_token, Some(Secret::new("from the environment")));
}

#[test]
fn roots_are_looked_at_only_to_serve() {
    let mut scene = Scene::new();
    std::fs::create_dir_all(scene.directory.path().join("a/b")).unwrap();
    let text = "[[accounts]]\nname = \"a\"\nroot = \"a\"\n[[accounts]]\nname = \"b\"\nroot = \"a/b\"\n\
                [[accounts]]\nname = \"c\"\nroot = \"c\"\n[[accounts]]\nname = \"d\"\nroot = \"filebell.toml\"\n";
    assert!(scene.load(text).is_ok());
    scene.look_at_roots = true;
    assert_eq!(
        scene.report(text),
        "the configuration has 3 mistakes\n  \
         filebell.toml:6: accounts.root: a/b overlaps DIR, the root of account `a`; give each account a directory of \
         its own\n  \
         filebell.toml:9: accounts.root: c does not exist; make it first (mkdir -p)\n  \
         filebell.toml:12: accounts.root: filebell.toml is not a directory"
            .replace("DIR", "a")
    );
}

#[test]
fn a_missing_file_is_a_mistake() {
    let sources =
        Sources { file: Some("/nowhere/f.toml".into()), env: &|_| None, flags: Vec::new(), look_at_roots: false };
    assert_eq!(
        Config::load(&sources).unwrap_err().to_string(),
        "the configuration has a mistake\n  /nowhere/f.toml: cannot be read: No such file or directory (os error 2)"
    );
}
