//! The clients that people use with a Nextcloud, used with filebell: `tests/clients/run` drives them.

use std::path::Path;
use std::process::Command;

use crate::house::House;

/// Runs the script with one client; it fails where a client is not installed.
fn works(client: &str) {
    let house = House::open("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/run");
    let token = std::fs::read_to_string(house.path("data").join("admin-token")).unwrap();
    let output = Command::new(script).args([&house.url(""), "test2", "secret", token.trim(), client]).output().unwrap();
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
