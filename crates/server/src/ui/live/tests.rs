use filebell_core::time::TimestampMs;

use super::super::scene::{Answer, Scene};
use crate::delivery::Feed;
use crate::source::Roots;

async fn serving() -> Scene {
    let scene = Scene::new().await;
    scene.ops.serving(Roots::default(), Feed::new(TimestampMs::ZERO));
    scene
}

/// The files that are listed, in order.
fn listed(answer: &Answer) -> Vec<String> {
    let text = answer.text();
    let cells = text.split("<tbody data-rows>").nth(1).unwrap().split("</tbody>").next().unwrap().to_owned();
    cells
        .split("data-label=\"File or subscription\">")
        .skip(1)
        .map(|cell| cell.split('<').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_newest_hundred_are_listed_newest_first_to_whose_they_are() {
    let scene = serving().await;
    let alice = scene.person("alice").await;
    alice.get("/live").await.says(&["Nothing has happened yet"]);
    for number in 0..105 {
        scene.arrive("alice", &[&format!("/{number:03}.txt")]).await;
        scene.wait(std::time::Duration::from_millis(1));
    }
    scene.arrive("bob", &["/secret of bob"]).await;
    let page = alice.get("/live").await;
    let files = listed(&page);
    assert_eq!((files.len(), files[0].as_str(), files[99].as_str()), (100, "/104.txt", "/005.txt"));
    page.hides(&["bob"]).says(&["data-live=\"/api/v1/stream?after=pos_106_0\"", ">Reload</a>"]);
    let operator = scene.operator().await;
    assert_eq!(listed(&operator.get("/live?account=bob").await), ["/secret of bob"]);
    assert_eq!(listed(&operator.get("/live").await).len(), 100);
    assert!(listed(&operator.get("/live?kind=deleted").await).is_empty());
    operator.get("/live?kind=deleted&account=bob").await.says(&["&#38;account=bob&#38;kind=deleted"]);
    // Another's account is not there at all.
    alice.get("/live?account=bob").await.says(&["There is no account `bob`."]).hides(&["secret of"]);
    alice.get("/live?account=nobody").await.says(&["There is no account `nobody`."]);
}

#[tokio::test]
async fn names_full_of_markup_stay_names() {
    let scene = serving().await;
    scene.arrive("alice", &["/<img src=x onerror=alert(1)>\"'.txt"]).await;
    let page =
        scene.operator().await.get("/live?subscription=%22%3E%3Cscript%3Ealert(2)%3C/script%3E&kind=%3Cb%3E").await;
    page.hides(&["<script>alert", "<b>"]);
    let page = scene.person("alice").await.get("/live").await;
    page.hides(&["<img"]).says(&["&#60;img src=x"]);
}
