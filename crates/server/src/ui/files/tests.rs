use filebell_core::arrival::{Announce, Arrival, Claim, Completeness, Fingerprint, Present, SourceKind, Version};
use filebell_core::path::FilePath;

use super::super::scene::Scene;
use super::line;

/// A file of alice's whose name is not UTF-8.
async fn odd(scene: &Scene) -> Arrival {
    Arrival {
        account: scene.ops.account("alice").await.unwrap().id,
        path: FilePath::from_bytes(b"/SEED/\xff.txt").unwrap(),
        claim: Claim::Present(Present {
            fingerprint: Fingerprint { dev: 1, inode: 99_999, birth_ns: None, size: 7, mtime_ns: 1, ctime_ns: 1 },
            version: Version { sha256: [1; 32], md5: [1; 16], size: 7 },
            completeness: Completeness::Leased,
            moved_from: None,
            announce: Announce::News,
        }),
        source: SourceKind::Folder,
        user: "alice".into(),
    }
}

#[tokio::test]
async fn a_files_whole_life_is_on_one_page_and_can_be_taken_along() {
    let scene = Scene::new().await;
    scene.arrive("alice", &["/SEED/<b>\"a\",=1.txt", "/SEED/plain.txt"]).await;
    let alice = scene.person("alice").await;
    let list = alice.get("/files").await;
    list.says(&["plain.txt", "&#60;b&#62;", "7 B"]).hides(&["<b>\"a\""]);
    let text = list.text();
    let id = text.split("/files/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let page = alice.get(&format!("/files/{id}")).await;
    page.says(&["created", "whole by: leased", "nobody asked for it", "alice"]);
    let json = alice.get(&format!("/files/{id}.json")).await;
    let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!((value["account"].as_str(), value["events"][0]["kind"].as_str()), (Some("alice"), Some("created")));
    assert!(json.header("content-disposition").starts_with("attachment"));
    let csv = alice.get(&format!("/files/{id}.csv")).await.text();
    assert!(csv.starts_with("seq,recorded_at,kind,path,"), "{csv}");
    assert_eq!(csv.lines().count(), 2);
    let all = alice.get("/files.csv?path=/SEED/%3C").await.text();
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(all.contains("\"/SEED/<b>\"\"a\"\",=1.txt\""), "{all}");
    for odd in ["/files/odd", "/files/1.exe", "/files/99999", "/files?before=odd", "/files?account=bob"] {
        assert_eq!(alice.get(odd).await.status, 404, "{odd}");
    }
    let bob = scene.person("bob").await;
    for hers in [format!("/files/{id}"), format!("/files/{id}.json"), "/files.csv?account=alice".into()] {
        let answer = bob.get(&hers).await;
        assert_eq!(answer.status, 404, "{hers}");
        answer.hides(&["SEED"]);
    }
    bob.get("/files").await.says(&["Nothing has arrived yet"]);
    let operator = scene.operator().await;
    operator.get("/files").await.says(&["Choose an account"]);
    operator.get("/files?account=alice").await.says(&["plain.txt"]);
    operator.get(&format!("/files/{id}")).await.says(&["whole by"]);
}

#[tokio::test]
async fn a_long_list_is_taken_along_whole_and_a_name_exactly() {
    let scene = Scene::new().await;
    let names: Vec<String> = (0..2500).map(|number| format!("/SEED/{number}.txt")).collect();
    scene.arrive("alice", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    scene.journal.record(vec![odd(&scene).await]).await.unwrap();
    let csv = scene.person("alice").await.get("/files.csv").await.text();
    let paths: std::collections::HashSet<&str> =
        csv.lines().skip(1).filter_map(|line| line.split(',').nth(2)).collect();
    assert_eq!((csv.lines().count(), paths.len()), (2502, 2501));
    assert!(csv.contains(",/SEED/\u{fffd}.txt,L1NFRUQv/y50eHQ=,"));
}

#[test]
fn a_spreadsheet_takes_no_field_for_a_formula() {
    let fields = ["=1+1", "+1", "-1", "@a", "a,b", "a\"b", "a\r\nb", "plain", ""].map(str::to_owned);
    assert_eq!(line(&fields), "\"'=1+1\",\"'+1\",\"'-1\",\"'@a\",\"a,b\",\"a\"\"b\",\"a\r\nb\",plain,\r\n");
}
