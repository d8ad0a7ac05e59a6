//! The README's examples do what it says.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::house::{House, basic};

const README: &str = include_str!("../../../../README.md");

/// The first fenced block of a language.
fn block(language: &str) -> &'static str {
    let (_, begun) = README.split_once(&format!("```{language}\n")).expect("the README has such an example");
    begun.split_once("```").expect("the example ends").0
}

/// Files that arrive while the receiver is away: more than one answer holds.
const BEFORE: usize = 1001;

#[test]
fn the_python_receiver_verifies_and_pulls() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let house = House::open(&format!(
        "[[subscriptions]]\nname = \"app\"\naccount = \"test2\"\nprotocol = \"standard\"\n\
         url = \"http://127.0.0.1:{port}/hook\"\nkey = \"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\"\n"
    ));
    for number in 0..BEFORE {
        house.write(&format!("SEED/{number}"), "before");
    }
    house.wait_for_events(BEFORE);
    let mut receiver = Command::new("python3")
        .args(["-u", "-c", block("python")])
        .env("PORT", port.to_string())
        .env("FILEBELL_KEY", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
        .env("FILEBELL_CHANGES_URL", house.url("/api/v1/changes"))
        .env("FILEBELL_AUTH", basic("test2", "secret"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is installed by ./check");
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told: Vec<String> = lines.by_ref().take(BEFORE).collect();
    house.write("SEED/result.txt", "hello\n");
    let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(lines.next().unwrap(), format!("created /SEED/result.txt {hello}"));
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    assert_eq!(lines.next(), None, "nothing is told twice");
    told.sort_unstable();
    told.dedup();
    assert_eq!(told.len(), BEFORE);
}

#[test]
fn the_rust_receiver_is_the_one_that_is_compiled() {
    assert_eq!(block("rust"), include_str!("../../../client/examples/receive.rs"));
}
