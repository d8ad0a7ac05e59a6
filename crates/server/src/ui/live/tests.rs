use std::time::Duration;

use filebell_core::time::TimestampMs;

use super::super::scene::{Answer, Scene};
use crate::delivery::Feed;
use crate::ops::{AccountCaller, Caller, Happening, LivePosition, LiveRequest, OpsError};
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
        scene.wait(Duration::from_millis(1));
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

#[tokio::test]
async fn whoever_is_signed_in_may_listen_and_so_many_at_once() {
    let scene = serving().await;
    let query = "/api/v1/stream?kind=opened";
    assert_eq!(scene.browser().get(query).await.status, 401);
    let alice = scene.person("alice").await;
    assert_eq!(alice.get(query).await.status, 400, "the session is good, and the question is looked at");
    assert_eq!(alice.post("/api/v1/stream", &[]).await.status, 405);
    let caller = Caller::Operator;
    let mut listeners = Vec::new();
    let refused = loop {
        match scene.ops.live(&caller, LiveRequest::default()).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, OpsError::TooManyListeners), "{refused}");
    assert_eq!(listeners.len(), 32);
    let account = scene.ops.account("alice").await.unwrap();
    let own = Caller::Account(AccountCaller { account });
    assert!(scene.ops.live(&own, LiveRequest::default()).await.is_ok(), "others still may");
    listeners.pop();
    assert!(scene.ops.live(&caller, LiveRequest::default()).await.is_ok());
}

#[tokio::test]
async fn nothing_is_a_sign_of_life_and_a_listener_that_is_far_behind_gets_all() {
    let scene = serving().await;
    let request = LiveRequest { after: "pos_0_0".parse().ok(), ..LiveRequest::default() };
    let mut live = scene.ops.live(&Caller::Operator, request).await.unwrap();
    assert_eq!(live.next(Duration::ZERO).await.unwrap(), Some(Vec::new()));
    let names: Vec<String> = (0..1234).map(|number| format!("/{number}.txt")).collect();
    for names in names.chunks(1000) {
        scene.arrive("alice", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let mut heard = Vec::new();
    while heard.len() < 1234 {
        for (_, happening) in live.next(Duration::ZERO).await.unwrap().unwrap() {
            let Happening::Arrival(event) = happening else { panic!("{happening:?}") };
            heard.push(event.path.to_text().into_owned());
        }
    }
    assert_eq!(heard, names);
    for wrong in ["", "pos_", "pos_1", "pos_-1_2", "pos_1_2_3", "pos_99999999999999999999_1", "cur_1"] {
        assert!(wrong.parse::<LivePosition>().is_err(), "{wrong}");
    }
    assert_eq!(live.position().to_string().parse(), Ok(live.position()));
}
