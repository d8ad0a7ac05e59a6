//! A real application, written in another language from the specification only, against the real binary.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::house::House;

#[test]
fn an_application_written_from_the_specification_goes_the_whole_road() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = repository.join(".venv/clients/bin/python");
    assert!(python.exists(), "{} is missing: run ./check once, it makes it", python.display());
    // The program listens there itself, once the configuration has named the place.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut house = House::new(&format!(
        "[[applications]]\nname = \"ledger\"\nclient_id = \"5b2f6f0e-2a41-4a0c-9d5e-7f3c1b8e9a10\"\n\
         client_secret = \"s3cr3t-Example\"\nredirect_urls = [\"http://127.0.0.1:{port}/x3/callback\"]\n\
         notification_url = \"http://127.0.0.1:{port}/x3/notification\"\n"
    ));
    let inbox = house.root().join("SEED");
    std::fs::create_dir_all(&inbox).unwrap();
    house.start();
    let output = Command::new(python)
        .arg(repository.join("tests/clients/sagex3_app.py"))
        .args([house.url(""), port.to_string()])
        .arg(inbox)
        .arg(house.path("data").join("admin-token"))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.ends_with("ok done\n"), "{out}{err}");
}
