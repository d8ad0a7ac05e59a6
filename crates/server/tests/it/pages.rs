//! The pages in a real browser: `tests/pages/*.py` drive Chromium. Pictures are left in `target/pages`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::house::House;
use crate::receiver::Receiver;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a story; it fails where the browser, or what drives it, is not installed.
fn goes(story: &str, arguments: &[&str]) {
    let python = repository().join(".venv/pages/bin/python");
    assert!(python.exists(), "{} is missing: run ./check once, it makes it", python.display());
    let pictures = repository().join("target/pages");
    let output = Command::new(python)
        .arg(repository().join("tests/pages").join(story))
        .args(arguments)
        .arg(pictures)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("ok done\n"), "{out}{err}");
}

#[test]
fn a_person_connects_a_receiver_and_sees_a_file_told_and_fetched() {
    let house = House::open("");
    goes("story_person.py", &[&house.url(""), house.root().to_str().unwrap()]);
}

#[test]
fn an_operator_registers_an_application_and_replays_what_it_missed() {
    let house = House::open("");
    goes("story_operator.py", &[&house.url(""), &house.admin_token(), house.root().to_str().unwrap()]);
}

#[test]
fn every_page_is_for_everybody() {
    let receiver = Receiver::start();
    let house = House::open(&format!(
        "[[subscriptions]]\nname = \"rdm\"\naccount = \"test2\"\nprotocol = \"nextcloud\"\nurl = \"http://{}/hook\"\n\
         connection_id = \"https://nextcloud.example.com:test2\"\nmin_interval = \"1s\"\n\
         key = \"4fdab23178d6c424196c9448070d3bef\"\n\
         [[applications]]\nname = \"ledger\"\nclient_id = \"5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10\"\n\
         client_secret = \"s3cr3t-Example\"\nredirect_urls = [\"http://127.0.0.1:9/callback\"]\n\
         notification_url = \"http://127.0.0.1:9/notification\"\n\
         [[applications.grants]]\naccount = \"test2\"\nfolders = [\"SEED\"]\nscopes = [\"api.dataDelivery\"]\n",
        receiver.address
    ));
    for name in ["SEED/plain.csv", "SEED/<img src=x onerror=alert(1)>.csv", "a name with spaces, \"quotes\" & ünïcödé"]
    {
        house.write(name, "content");
    }
    house.wait_for_events(3);
    receiver.wait_for(1);
    goes("every_page.py", &[&house.url(""), &house.admin_token()]);
}
