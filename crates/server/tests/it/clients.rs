//! The clients that people use with a Nextcloud, used with filebell: `tests/clients/run` drives them.

use std::path::Path;
use std::process::Command;

use crate::house::{House, basic};
use crate::observe::{asked, until};
use crate::receiver::Receiver;

/// Runs the script with one client; it fails where a client is not installed.
fn works(client: &str) {
    let house = House::open("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/run");
    let output =
        Command::new(script).args([&house.url(""), "test2", "secret", &house.admin_token(), client]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}

#[test]
fn pyocclient_does_what_gakunin_rdm_does() {
    works("pyocclient");
}

#[test]
fn rclone_copies_a_tree_up_and_down() {
    works("rclone");
}

#[test]
fn litmus_finds_webdav_as_it_is_written() {
    works("litmus");
}

#[test]
fn cadaver_goes_about() {
    works("cadaver");
}

#[test]
fn nextcloudcmd_keeps_two_folders_alike() {
    works("nextcloudcmd");
}

/// A house that tells a receiver which answers 500 to everything, as GakuNin RDM's does.
fn told_with_500(rings: &str) -> (House, Receiver) {
    let receiver = Receiver::start().answering(&["500 Internal Server Error"; 20]);
    let mut house = House::new(&format!(
        "[[subscriptions]]\nname = \"rdm\"\naccount = \"test2\"\nprotocol = \"nextcloud\"\nurl = \"{}\"\n\
         connection_id = \"https://cloud.example.org:test2\"\nmin_interval = \"1s\"\n\
         key = \"4fdab23178d6c424196c9448070d3bef\"\n",
        receiver.url("/hook")
    ));
    let mut command = house.command("serve");
    command.env("FILEBELL_DELIVERY_RING", rings);
    house.start_as(command);
    house.write("a.csv", "a");
    receiver.wait_for(1);
    (house, receiver)
}

/// How the notification of the file stands.
fn state(house: &House) -> String {
    let path = house.root().join("a.csv");
    let why = asked(house, "GET", &format!("/api/v1/why?path={}", path.display()));
    why["events"][0]["sent"][0]["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_receiver_that_answers_500_and_fetches_has_been_told() {
    let (house, receiver) = told_with_500("1h");
    until(|| state(&house), |state| state == "told");
    let headers = [("Authorization", basic("test2", "secret")), ("OCS-APIRequest", "true".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let recent = house.get("/ocs/v1.php/apps/file_upload_notification/api/recent?since=0", &headers);
    assert!(recent.text().contains("<path>/a.csv</path>"), "{}", recent.text());
    until(|| state(&house), |state| state == "delivered");
    assert_eq!(receiver.received().len(), 1);
}

#[test]
fn a_receiver_that_answers_500_and_never_fetches_is_given_up_in_sight() {
    let (house, receiver) = told_with_500("100ms,200ms");
    until(|| state(&house), |state| state == "dead");
    assert_eq!(receiver.received().len(), 3, "once, and once for each gap");
    let status = asked(&house, "GET", "/api/v1/status");
    assert_eq!(status["subscriptions"][0]["dead"], 1, "{status}");
    assert!(status["subscriptions"][0]["unfetched_at"].is_string(), "{status}");
}
