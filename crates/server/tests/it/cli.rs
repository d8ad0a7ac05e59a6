//! The commands from outside: what they print, where, and how they end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

/// A data directory of one's own, and the binary.
struct Desk {
    directory: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A server that is stopped when the test ends.
struct Serving {
    process: Child,
    address: String,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A command in the desk's directory, with nothing of ours in its environment but the data directory.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_filebell"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FILEBELL_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("FILEBELL_DATA_DIR", "data").current_dir(self.directory.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    fn config(&self, text: &str) {
        fs::write(self.path("filebell.toml"), text).unwrap();
    }

    fn serve(&self, arguments: &[&str]) -> Serving {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let command = self.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = command.unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Serving { address: address.trim_end().to_owned(), process }
    }
}

fn ended(command: &mut Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

impl Serving {
    /// SIGTERM; answers the exit code and what was said on stderr.
    fn stop(mut self) -> (Option<i32>, String) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.process.wait().unwrap().code(), said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Ended {
    #[track_caller]
    fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    #[track_caller]
    fn refused(self, code: i32, err: &str) {
        assert_eq!((self.code, self.err.trim_end(), self.out.as_str()), (Some(code), err, ""));
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }
}

#[test]
fn the_whole_job_is_shown_and_every_step_succeeds() {
    let ended = Desk::new().run(&["quickstart", "--exit"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    for protocol in ["nextcloud", "sagex3", "standard"] {
        assert!(ended.out.contains(&format!("\n  {protocol}\n")), "{}", ended.out);
    }
    assert_eq!(ended.out.matches("signature checked over these bytes").count(), 3, "{}", ended.out);
    assert!(ended.out.contains("Every step succeeded"), "{}", ended.out);
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let desk = Desk::new();
    for arguments in [
        &["bogus"] as &[_],
        &[],
        &["serve", "--bogus"],
        &["serve", "--watch", "root"],
        &["serve", "--watch", "nowhere", "--notify", "http://127.0.0.1:9/"],
        &["serve", "--watch", "root", "--notify", "nonsense"],
        &["serve", "--watch", "root", "--notify", "http://example.org/"],
        &["serve", "--listen", "here"],
        &["serve", "--database-url", "postgres://h/d"],
        &["serve", "--config", "nowhere.toml"],
        &["status", "--log", "a=b=c"],
        &["account", "add", "a b"],
        &["replay", "ntf_1", "--subscription", "a"],
        &["listen", "--protocol", "standard", "--server", "http://x", "--account", "a", "--into", "in"],
    ] {
        let ended = desk.run(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(!ended.err.is_empty());
    }
    let neither = desk.run(&["replay"]).err;
    assert!(neither.contains("<NOTIFICATION-ID|--subscription <NAME>>"), "{neither}");
    for arguments in [&["--help"] as &[_], &["--version"], &["listen", "--help"], &["subscription", "add", "--help"]] {
        assert!(!desk.run(arguments).done().is_empty());
    }
}

#[test]
fn mistakes_in_the_configuration_are_reported_together() {
    let desk = Desk::new();
    desk.config("lissten = \"127.0.0.1:0\"\n\n[watch]\nsettle = \"soon\"\n");
    desk.run(&["serve", "--config", "filebell.toml"]).refused(
        2,
        "error: the configuration has 2 mistakes\n  \
         filebell.toml:1: lissten: unknown key; did you mean `listen`?\n  \
         filebell.toml:4: watch.settle: `soon` is not a duration; write numbers with a unit, such as \"500ms\", \
         \"10s\", \"2m\", \"1h30m\" or \"1d\"",
    );
    desk.config("[[accounts]]\nname = \"a\"\nroot = \"nowhere\"\n[[accounts]]\nname = \"b\"\nroot = \"root\"\n");
    desk.run(&["serve", "--config", "filebell.toml"]).refused(
        2,
        "error: the configuration has a mistake\n  \
         filebell.toml:3: accounts.root: nowhere does not exist; make it first (mkdir -p)",
    );
}

#[test]
fn accounts_come_and_go() {
    let desk = Desk::new();
    desk.run(&["account", "list"])
        .refused(1, "error: there is no data directory data: give the server's by --data-dir or --config");
    let root = fs::canonicalize(desk.path("root")).unwrap();
    let shown = format!(
        "account        test2\nroot           {}\npassword       set\nused           0B\nquota          none\n",
        root.display()
    );
    let added = ended(desk.command(&["account", "add", "test2", "--root", "root"]).env("FILEBELL_PASSWORD", "secret"));
    assert_eq!(added.done(), shown);
    desk.run(&["account", "add", "test2"]).refused(1, "error: there is already account `test2`");
    fs::create_dir(desk.path("root/inner")).unwrap();
    let overlap = format!(
        "error: the root root/inner overlaps {}, the root of account `test2`; give each account a directory of its own",
        root.display()
    );
    desk.run(&["account", "add", "test3", "--root", "root/inner"]).refused(1, &overlap);
    desk.run(&["account", "add", "test3", "--root", "nowhere"])
        .refused(1, "error: the root nowhere does not exist; make it first (mkdir -p)");
    desk.run(&["account", "add", "test3", "--root", "/dev/null"])
        .refused(1, "error: the root /dev/null is not a directory");
    assert_eq!(desk.run(&["account", "show", "test2"]).done(), shown);
    let list = desk.run(&["account", "list", "--json"]).json();
    assert_eq!((list[0]["name"].clone(), list[0]["has_password"].clone()), (json!("test2"), json!(true)));
    assert_eq!(desk.run(&["account", "list"]).done().lines().count(), 2);
    assert_eq!(desk.run(&["account", "remove", "test2"]).done(), "removed account test2\n");
    desk.run(&["account", "show", "test2"]).refused(1, "error: there is no account `test2`");
    assert!(desk.path("root/inner").is_dir(), "the files stay");
}

#[test]
fn a_password_comes_from_stdin_too() {
    let desk = Desk::new();
    let mut command = desk.command(&["account", "add", "test2", "--password-stdin", "--json"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"secret\n").unwrap();
    let output = process.wait_with_output().unwrap();
    let view: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(view["has_password"], true);
}

#[test]
fn tokens_are_printed_as_json_and_secrets_shown_once() {
    let desk = Desk::new();
    desk.run(&["account", "add", "test2", "--root", "root"]).done();
    let url = "http://127.0.0.1:9001/notification";
    let added = desk.run(&["application", "add", "ledger", "--notification-url", url, "--json"]).json();
    assert!(added["client_secret"].as_str().unwrap().len() > 40);
    desk.run(&["token", "--application", "ledger", "--account", "test2"])
        .refused(1, "error: there is no grant of `test2` to `ledger`");
    desk.run(&["application", "grant", "ledger", "--account", "test2", "--folder", "SEED"]).done();
    let token = desk.run(&["token", "--application", "ledger", "--account", "test2", "--access-for", "30m"]).json();
    assert_eq!((token["token_type"].clone(), token["expires_in"].clone()), (json!("Bearer"), json!(1800)));
    assert_eq!(token["scope"], "api.dataDelivery folder.SEED");
    assert_ne!(token["access_token"], token["refresh_token"]);
    let shown = desk.run(&["application", "show", "ledger", "--json"]).json();
    assert_eq!((shown.get("client_secret"), shown["grants"][0]["account"].clone()), (None, json!("test2")));

    let url = "http://127.0.0.1:9000/hook";
    let add = ["subscription", "add", "shop", "--account", "test2", "--protocol", "standard", "--url", url, "--json"];
    assert!(desk.run(&add).json()["key"].as_str().unwrap().starts_with("whsec_"));
    desk.run(&add).refused(1, "error: there is already subscription `shop`");
    let shown = desk.run(&["subscription", "show", "shop", "--json"]).json();
    assert_eq!((shown.get("key"), shown["status"].clone()), (None, json!("active")));
    desk.run(&["subscription", "pause", "shop"]).done();
    let status = desk.run(&["status", "--json"]).json();
    let paused: Vec<&Value> = status["subscriptions"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(paused, ["active", "paused"]);
    assert_eq!(desk.run(&["replay", "--subscription", "shop"]).done(), "0 dead notifications are due again\n");
}

#[test]
fn what_keeps_a_server_from_starting_is_said() {
    let desk = Desk::new();
    let serving = desk.serve(&[]);
    desk.run(&["serve", "--listen", "127.0.0.1:0"]).refused(
        1,
        "error: another filebell already serves the data directory data: stop it, or give this one its own --data-dir",
    );
    let taken = &serving.address;
    desk.run(&["serve", "--data-dir", "other", "--listen", taken]).refused(
        1,
        &format!(
            "error: cannot listen on {taken}: choose another with --listen, or stop what uses it\n  \
             because: Address already in use (os error 98)"
        ),
    );
    assert_eq!(desk.run(&["account", "add", "test2"]).code, Some(0), "commands work beside a server");
    assert_eq!(serving.stop().0, Some(0));
    fs::write(desk.path("file"), "").unwrap();
    let ended = desk.run(&["serve", "--data-dir", "file"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(
        ended.err.starts_with("error: cannot write to the data directory file: choose another with --data-dir"),
        "{}",
        ended.err
    );
}

#[test]
fn watch_and_notify_need_no_configuration_and_the_key_is_shown_once() {
    let desk = Desk::new();
    // A port that nobody else is given while the test runs.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", held.local_addr().unwrap());
    let arguments = ["--watch", "root", "--notify", &url, "--log", "error"];
    let (code, said) = desk.serve(&arguments).stop();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("\n    whsec_").count(), 1, "{said}");
    let (code, said) = desk.serve(&arguments).stop();
    assert_eq!((code, said.as_str()), (Some(0), ""), "not again");
    let listed = desk.run(&["subscription", "list", "--json"]).json();
    let shown = ["name", "account", "protocol", "url"].map(|key| listed[0][key].as_str().unwrap().to_owned());
    assert_eq!(shown, ["notify", "root", "standard", &url]);
}

#[test]
fn the_receiver_that_the_server_recommends_downloads() {
    let desk = Desk::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", held.local_addr().unwrap());
    drop(held);
    let mut serving = desk.serve(&["--watch", "root", "--notify", &url, "--log", "error"]);
    let mut said = String::new();
    let mut lines = BufReader::new(serving.process.stderr.take().unwrap()).lines().map(Result::unwrap);
    while !said.contains("--into") {
        said.push_str(&lines.next().unwrap());
        said.push('\n');
    }
    let recommended = said.split_once("FILEBELL_KEY=").unwrap().1;
    let command = format!("FILEBELL_KEY={}", recommended.replace("filebell listen", "exec \"$0\" listen").trim_end());
    let mut receiver = Command::new("sh")
        .args(["-c", &format!("{command} --json --once"), env!("CARGO_BIN_EXE_filebell")])
        .current_dir(desk.path("."))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut steps = BufReader::new(receiver.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(steps.next().unwrap().contains("\"listening\""));
    fs::create_dir(desk.path("root/SEED")).unwrap();
    fs::write(desk.path("root/SEED/a.txt"), "one").unwrap();
    let steps: Vec<String> = steps.collect();
    assert!(receiver.wait().unwrap().success());
    assert_eq!(fs::read(desk.path("received/SEED/a.txt")).unwrap(), b"one", "{steps:?}");
}

#[test]
fn doctor_beside_a_server_says_what_that_finds_by_its_own_configuration() {
    let desk = Desk::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", held.local_addr().unwrap());
    let serving = desk.serve(&["--watch", "root", "--notify", &url, "--log", "error"]);
    let said = desk.run(&["doctor", "--data-dir", "data"]).done();
    assert!(said.contains(&format!("{url}, is at 127.0.0.1, which may be told")), "{said}");
    assert!(said.ends_with("ok       the server answers\n"), "{said}");
    let findings = desk.run(&["doctor", "--json"]).json();
    assert!(findings.as_array().unwrap().iter().all(|one| one["ok"] == true && one["remedy"].is_null()), "{findings}");
    serving.stop();
    // By a configuration that allows nothing.
    let alone = desk.run(&["doctor"]);
    assert_eq!(alone.code, Some(1));
    assert!(alone.out.contains("no server runs on the data directory"), "{}", alone.out);
    desk.run(&["doctor", "--data-dir", "typo"])
        .refused(1, "error: there is no data directory typo: give the server's by --data-dir or --config");
    assert!(!desk.path("typo").exists());
    desk.config("data_dir = \"later\"\n");
    let mut before = desk.command(&["doctor", "--config", "filebell.toml"]);
    let before = ended(before.env_remove("FILEBELL_DATA_DIR")).done();
    assert!(before.contains("the data directory later does not exist yet"), "{before}");
}

#[test]
fn the_keys_of_the_server_are_in_no_account_s_tree() {
    let desk = Desk::new();
    let why = "holds the data directory data, where filebell keeps its keys; give one of them a place outside the other \
               (data_dir in the configuration, or --data-dir)";
    let watch = desk.run(&["serve", "--watch", ".", "--notify", "http://127.0.0.1:9/"]);
    watch.refused(2, &format!("error: --watch .: {why}"));
    desk.config("[[accounts]]\nname = \"a\"\nroot = \".\"\n");
    desk.run(&["serve", "--config", "filebell.toml"])
        .refused(2, &format!("error: the configuration has a mistake\n  filebell.toml:3: accounts.root: . {why}"));
    assert!(!desk.path("data").exists(), "refused before anything was made");
    desk.run(&["account", "add", "a", "--root", "."]).refused(1, &format!("error: the root . {why}"));
    // A tree that was there first; the data directory is moved into it.
    desk.run(&["account", "add", "a", "--root", "root"]).done();
    fs::rename(desk.path("data"), desk.path("root/data")).unwrap();
    let ended = desk.run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", "root/data", "--log", "error"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.err.contains("cannot serve the account `a`") && ended.err.contains("holds the data dir"),
        "{}",
        ended.err
    );
}

#[test]
fn a_receiver_verifies_downloads_and_goes_on_where_it_was() {
    let desk = Desk::new();
    // The receiver's port is held until the receiver itself takes it.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = held.local_addr().unwrap().to_string();
    desk.config(&format!(
        "listen = \"127.0.0.1:0\"\n[delivery]\ntimeout = \"1s\"\nschedule = [\"100ms\", \"100ms\", \"200ms\", \"500ms\", \
         \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\", \"1s\"]\n[egress]\nallow_networks = [\"127.0.0.1\"]\n\
         [[accounts]]\nname = \"test2\"\npassword = \"secret\"\nroot = \"root\"\n\
         [[subscriptions]]\nname = \"rdm\"\naccount = \"test2\"\nprotocol = \"nextcloud\"\nurl = \"http://{bind}/hook\"\n\
         connection_id = \"c\"\nmin_interval = \"1s\"\nkey = \"4fdab23178d6c424196c9448070d3bef\"\n"
    ));
    drop(held);
    let serving = desk.serve(&["--config", "filebell.toml"]);
    let server = format!("http://{}", serving.address);
    let listen = |key: &str, count: &str| {
        let arguments = ["listen", "--protocol", "nextcloud", "--bind", &bind, "--server", &server, "--account"];
        let mut command = desk.command(&arguments);
        command.args(["test2", "--into", "inbox", "--count", count, "--json"]);
        command.env("FILEBELL_KEY", key).env("FILEBELL_PASSWORD", "secret").stdout(Stdio::piped());
        command
    };
    let steps = |out: &str| -> Vec<Value> { out.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let downloaded = |out: &str| -> Vec<Value> {
        steps(out).into_iter().filter(|one| one["step"] == "downloaded").map(|one| one["path"].clone()).collect()
    };
    fs::create_dir(desk.path("root/SEED")).unwrap();
    fs::write(desk.path("root/SEED/a.txt"), "one").unwrap();
    let out = ended(&mut listen("4fdab23178d6c424196c9448070d3bef", "1")).done();
    assert_eq!(downloaded(&out), ["SEED/a.txt"], "{out}");
    assert_eq!(fs::read(desk.path("inbox/SEED/a.txt")).unwrap(), b"one");

    // With another key nothing is believed, and nothing is lost.
    fs::write(desk.path("root/SEED/b.txt"), "two").unwrap();
    let mut wrong = listen("00000000", "1").spawn().unwrap();
    let refused = BufReader::new(wrong.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(refused.map(|line| steps(&line)).any(|one| one[0]["step"] == "refused"));
    wrong.kill().unwrap();
    wrong.wait().unwrap();

    fs::write(desk.path("root/SEED/c.txt"), "three").unwrap();
    let out = ended(&mut listen("4fdab23178d6c424196c9448070d3bef", "1")).done();
    assert!(!downloaded(&out).contains(&json!("SEED/a.txt")), "what was done is not done again: {out}");
    for (name, content) in [("a", "one"), ("b", "two"), ("c", "three")] {
        assert_eq!(fs::read_to_string(desk.path(&format!("inbox/SEED/{name}.txt"))).unwrap(), content);
    }
    ended(
        desk.command(&["listen", "--protocol", "sagex3", "--server", &server, "--into", "inbox"])
            .envs([("FILEBELL_KEY", "id"), ("FILEBELL_ACCESS_TOKEN", "t")]),
    )
    .refused(
        1,
        &format!(
            "error: inbox holds the files told by nextcloud of account `test2` at {server}, not by sagex3 of account \
             `` at {server}: choose another directory with --into"
        ),
    );
}

#[test]
fn a_receiver_that_is_killed_after_its_answer_does_the_work_later() {
    let desk = Desk::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = held.local_addr().unwrap().to_string();
    desk.config(&format!(
        "listen = \"127.0.0.1:0\"\n[delivery]\nschedule = [\"100ms\", \"200ms\", \"500ms\", \"1s\", \"1s\", \"1s\", \"1s\"]\n\
         [egress]\nallow_networks = [\"127.0.0.1\"]\n[[accounts]]\nname = \"test2\"\nroot = \"root\"\n\
         [[applications]]\nname = \"ledger\"\nclient_id = \"id\"\nnotification_url = \"http://{bind}/\"\n\
         [[applications.grants]]\naccount = \"test2\"\nfolders = [\"SEED\"]\n"
    ));
    fs::create_dir(desk.path("root/SEED")).unwrap();
    drop(held);
    let serving = desk.serve(&["--config", "filebell.toml"]);
    let server = format!("http://{}", serving.address);
    let listen = || {
        let mut command = desk.command(&["listen", "--protocol", "sagex3", "--server", &server, "--bind", &bind]);
        command.args(["--into", "inbox", "--access-token-file", "token", "--delete", "--json"]);
        command.env("FILEBELL_KEY", "id").stdout(Stdio::piped());
        command
    };
    // Takes steps until one has this name, then kills the receiver.
    let until = |name: &str| -> Value {
        let mut process = listen().spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut steps = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let found = steps.find(|step| step["step"] == name);
        process.kill().unwrap();
        process.wait().unwrap();
        found.unwrap_or_else(|| panic!("no step {name}"))
    };
    fs::write(desk.path("token"), "expired").unwrap();
    fs::write(desk.path("root/SEED/a.txt"), "one").unwrap();
    until("notified");
    assert!(!desk.path("inbox/SEED/a.txt").exists());
    let token = desk.run(&["token", "--application", "ledger", "--account", "test2"]).json();
    fs::write(desk.path("token"), token["access_token"].as_str().unwrap()).unwrap();
    assert_eq!(until("deleted")["what"], "SEED/a.txt");
    assert_eq!(fs::read(desk.path("inbox/SEED/a.txt")).unwrap(), b"one");
    assert!(!desk.path("root/SEED/a.txt").exists(), "deleted on the server");
}

#[test]
fn a_sagex3_receiver_polls_too_and_fetches_a_file_once() {
    let desk = Desk::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = held.local_addr().unwrap().to_string();
    // What is written while the receiver is away is told again some time after it has come and polled.
    desk.config(&format!(
        "listen = \"127.0.0.1:0\"\n[delivery]\nschedule = [\"2s\", \"2s\", \"2s\", \"2s\", \"2s\"]\n\
         [egress]\nallow_networks = [\"127.0.0.1\"]\n[[accounts]]\nname = \"test2\"\nroot = \"root\"\n\
         [[applications]]\nname = \"ledger\"\nclient_id = \"id\"\nnotification_url = \"http://{bind}/\"\n\
         [[applications.grants]]\naccount = \"test2\"\nfolders = [\"SEED\"]\n"
    ));
    fs::create_dir(desk.path("root/SEED")).unwrap();
    drop(held);
    let serving = desk.serve(&["--config", "filebell.toml"]);
    let server = format!("http://{}", serving.address);
    let token = desk.run(&["token", "--application", "ledger", "--account", "test2"]).json();
    fs::write(desk.path("token"), token["access_token"].as_str().unwrap()).unwrap();
    fs::write(desk.path("root/SEED/away.txt"), "one").unwrap();
    while !desk.run(&["tail", "--json"]).out.contains("away.txt") {}
    let mut command = desk.command(&["listen", "--protocol", "sagex3", "--server", &server, "--bind", &bind]);
    command.args(["--into", "inbox", "--access-token-file", "token", "--poll", "1s", "--json"]);
    let mut process = command.env("FILEBELL_KEY", "id").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut steps: Vec<String> = Vec::new();
    for line in lines {
        let step: Value = serde_json::from_str(&line).unwrap();
        assert_ne!(step["step"], "failed", "{step}");
        steps.push(step["step"].as_str().unwrap().to_owned());
        // Both ways have been gone: it was told, and polled before and after.
        let told = steps.iter().position(|step| step == "notified");
        if told.is_some_and(|told| steps[told..].iter().filter(|step| *step == "pulled").count() > 2) {
            break;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(steps.iter().filter(|step| *step == "downloaded").count(), 1, "{steps:?}");
    assert_eq!(fs::read(desk.path("inbox/SEED/away.txt")).unwrap(), b"one");
}
