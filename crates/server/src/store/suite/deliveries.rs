//! Looking for notifications and files, and telling again.

use std::sync::Arc;

use super::*;

/// As a server makes them at this second: they begin with the time.
fn ids_at(secs: i64) -> FreshIds {
    let millis = u64::try_from(secs).unwrap() * 1000;
    Box::new(move || {
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    })
}

impl Bench {
    async fn arrive_at(&self, secs: i64, names: &[String]) {
        let arrivals = names.iter().map(|name| self.seen(name, 1)).collect();
        self.store.record(arrivals, at(secs), ids_at(secs)).await.unwrap();
    }

    async fn wanted(&self, change: impl FnOnce(&mut Wanted)) -> Wanted {
        let subscriptions = self.store.subscriptions().await.unwrap().into_iter().map(Arc::new).collect();
        let mut wanted = Wanted { subscriptions, all: true, ..Wanted::default() };
        change(&mut wanted);
        wanted
    }

    async fn all(&self, wanted: Wanted) -> Vec<NotificationId> {
        self.store
            .list(wanted, None, usize::MAX)
            .await
            .unwrap()
            .rows
            .into_iter()
            .map(|row| row.notification.id)
            .collect()
    }

    async fn walked(&self, wanted: &Wanted, step: usize, mut meanwhile: impl AsyncFnMut()) -> Vec<NotificationId> {
        let (mut walked, mut from) = (Vec::new(), None);
        loop {
            let page = self.store.list(wanted.clone(), from, step).await.unwrap();
            assert!(page.rows.len() <= step);
            walked.extend(page.rows.into_iter().map(|row| row.notification.id));
            meanwhile().await;
            match page.next {
                Some(next) => from = Some(next.to_string().parse().unwrap()),
                None => return walked,
            }
        }
    }
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/{prefix}/{number}.txt")).collect()
}

#[tokio::test]
async fn no_notification_is_lost_or_doubled_while_new_ones_come() {
    let bench = Bench::new().await;
    for name in ["one", "two", "three"] {
        bench.subscribe(name, NewProtocol::Standard, Duration::ZERO).await;
    }
    for secs in 1..=10 {
        bench.arrive_at(secs, &names(&format!("s{secs}"), 7)).await;
    }
    let everything = bench.all(bench.wanted(|_| ()).await).await;
    assert_eq!(everything.len(), 210);
    assert!(everything.is_sorted_by(|newer, older| newer > older));
    for all in [true, false] {
        let wanted = bench.wanted(|wanted| wanted.all = all).await;
        for step in [1, 16, 50] {
            let mut more = 100;
            let walked = bench
                .walked(&wanted, step, async || {
                    more += 1;
                    bench.arrive_at(more, &[format!("/new/{all}-{step}-{more}")]).await;
                })
                .await;
            assert_eq!(walked.len() - everything.len(), walked.iter().filter(|id| !everything.contains(id)).count());
            assert!(walked.is_sorted_by(|newer, older| newer > older), "none is doubled");
            assert!(walked.ends_with(&everything), "none is lost");
        }
    }
}

#[tokio::test]
async fn what_is_looked_for_is_found_and_nothing_else() {
    let bench = Bench::new().await;
    let each = bench.per_event().await;
    let other = bench.subscribe("other", NewProtocol::Standard, Duration::ZERO).await;
    for secs in 1..=4 {
        bench.arrive_at(secs, &names(&format!("S{secs}"), 3)).await;
    }
    let claimed = bench.claim(10, each).await;
    bench.settle(10, &claimed[0], Step::Delivered).await;
    bench.settle(10, &claimed[1], Step::Dead).await;
    let state = |state| move |wanted: &mut Wanted| wanted.state = Some(state);
    let delivered = bench.wanted(state(NotificationState::Delivered)).await;
    assert_eq!(bench.all(delivered).await, [claimed[0].notification]);
    let dead = bench.wanted(state(NotificationState::Dead)).await;
    assert_eq!(bench.all(dead).await, [claimed[1].notification]);
    assert_eq!(bench.all(bench.wanted(state(NotificationState::Pending)).await).await.len(), 22);
    for none in [NotificationState::Superseded, NotificationState::Revoked, NotificationState::Told] {
        assert_eq!(bench.all(bench.wanted(state(none)).await).await, []);
    }
    let of_other = bench
        .wanted(|wanted| {
            wanted.all = false;
            wanted.subscriptions.retain(|one| one.id == other);
        })
        .await;
    assert_eq!(bench.all(of_other).await.len(), 12);
    let timed = bench.wanted(|wanted| (wanted.from, wanted.until) = (Some(at(2)), Some(at(4)))).await;
    assert_eq!(bench.all(timed).await.len(), 12, "from is meant, until is not");

    for (file, count) in [("s3/", 6), ("/S3/1.txt", 2), ("/S3/1", 0), ("1.TXT", 8), ("nothing", 0), ("", 24)] {
        let wanted = bench.wanted(|wanted| wanted.file = file.into()).await;
        // What is looked for by its beginning may also be a part.
        let count = if file == "/S3/1" { 2 } else { count };
        assert_eq!(bench.all(wanted.clone()).await.len(), count, "{file}");
        assert_eq!(bench.walked(&wanted, 1, async || ()).await.len(), count, "{file}");
    }
    let listing = bench.store.list(bench.wanted(|_| ()).await, None, 1).await.unwrap();
    assert!(listing.rows[0].first.as_ref().unwrap().path.as_bytes().starts_with(b"/S4/"));
    let first = bench.store.full(claimed[0].notification).await.unwrap().unwrap();
    assert_eq!((first.attempts.len(), first.settled_at), (1, Some(at(10))));
    assert_eq!(first.attempts[0].1.answer, b"server: x\n\nno");
}

#[tokio::test]
async fn a_long_search_says_where_it_stopped_and_goes_on_there() {
    let bench = Bench::new().await;
    bench.subscribe("gathers", NewProtocol::Standard, Duration::from_secs(3600)).await;
    bench.arrive_at(1, &names("old", 1)).await;
    // One notification for more events than one search looks at.
    for part in 0..5 {
        let name = |number: usize| format!("/many/{part}/{number}");
        bench.arrive_at(2 + part, &(0..4500).map(name).collect::<Vec<_>>()).await;
    }
    bench.arrive_at(9, &["/many/needle".to_owned()]).await;
    let wanted = bench.wanted(|wanted| wanted.file = b"needle".to_vec()).await;
    let first = bench.store.list(wanted.clone(), None, 10).await.unwrap();
    assert_eq!(first.rows, []);
    let next = first.next.unwrap();
    assert!(first.searched_to.is_some() && next.seen.is_some(), "{next:?}");
    assert_eq!(next.to_string().parse(), Ok(next));
    let second = bench.store.list(wanted, Some(next), 10).await.unwrap();
    assert_eq!((second.rows.len(), second.next), (1, None));
    let row = &second.rows[0];
    assert_eq!(row.count, 22_502);

    let subscription = Arc::new(bench.store.subscriptions().await.unwrap().remove(0));
    let (mut seen, mut after) = (0, None);
    loop {
        let notification = row.notification.clone();
        let part = bench.store.covered(notification, subscription.clone(), after, 1000).await.unwrap();
        seen += part.events.len();
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, 22_502, "every event is shown once");
}

#[tokio::test]
async fn what_ended_is_told_again_under_its_id_and_keeps_its_attempts() {
    let bench = Bench::new().await;
    let each = bench.per_event().await;
    bench.arrive_at(1, &names("a", 3)).await;
    let claimed = bench.claim(1, each).await;
    bench.settle(1, &claimed[0], Step::Delivered).await;
    bench.settle(1, &claimed[1], Step::Dead).await;
    let ids: Vec<_> = claimed.iter().map(|one| one.notification).collect();
    let (plan, next) = bench.store.replayable(bench.wanted(|_| ()).await, None, 10).await.unwrap();
    assert_eq!((plan.len(), next), (2, None), "what waits is left alone");
    assert!(plan.iter().all(|(id, _)| ids[..2].contains(id)));
    assert_eq!(bench.store.replay(ids.clone(), at(5)).await.unwrap(), Replayed { due: 2, left: 1 });
    let standing = |standings: Vec<Standing>| {
        let one = standings.into_iter().find(|one| one.subscription == each).unwrap();
        (one.pending, one.delivered, one.dead)
    };
    assert_eq!(standing(bench.store.standings().await.unwrap()), (3, 0, 0));
    let again = bench.claim(5, each).await;
    assert_eq!(again.len(), 2);
    for one in &again {
        assert!(bench.settle(6, one, Step::Delivered).await);
        let full = bench.store.full(one.notification).await.unwrap().unwrap();
        let numbers: Vec<u32> = full.attempts.iter().map(|(number, ..)| *number).collect();
        assert_eq!((full.notification.state, numbers), (NotificationState::Delivered, vec![1, 2]));
    }
    assert_eq!(standing(bench.store.standings().await.unwrap()), (1, 2, 0));
    let missing = NotificationId::new(Uuid::from_u128(1));
    assert_eq!(bench.store.replay(vec![missing], at(7)).await.unwrap(), Replayed { due: 0, left: 1 });
}

#[tokio::test]
async fn one_that_stands_for_many_is_told_again_alone_and_at_its_interval() {
    let bench = Bench::new().await;
    let gathers = bench.subscribe("gathers", NewProtocol::Standard, INTERVAL).await;
    let mut told = Vec::new();
    for secs in [100, 200] {
        bench.arrive_at(secs, &names(&secs.to_string(), 2)).await;
        let claimed = bench.claim(secs, gathers).await.remove(0);
        bench.settle(secs, &claimed, Step::Delivered).await;
        told.push(claimed.notification);
    }
    let (plan, _) = bench.store.replayable(bench.wanted(|_| ()).await, None, 10).await.unwrap();
    assert_eq!(plan, [(told[1], gathers)], "the newest");
    // The older one, by hand.
    let both = vec![told[0], told[1]];
    assert_eq!(bench.store.replay(both, at(203)).await.unwrap(), Replayed { due: 1, left: 1 });
    let (plan, _) = bench.store.replayable(bench.wanted(|_| ()).await, None, 10).await.unwrap();
    assert_eq!(plan, [], "one waits");
    assert_eq!(bench.claim(209, gathers).await.len(), 0, "the interval holds");
    let again = bench.claim(210, gathers).await.remove(0);
    assert_eq!(again.notification, told[0]);
    bench.settle(210, &again, Step::Delivered).await;
    assert_eq!(bench.due(gathers).await, None, "nothing became untold by it");
    bench.arrive_at(300, &names("new", 1)).await;
    let next = bench.claim(300, gathers).await.remove(0);
    assert_eq!(next.last.ordinal - next.after.ordinal, 1, "only what is new");
}

#[tokio::test]
async fn files_are_found_by_path_and_paged_by_arrival() {
    let bench = Bench::new().await;
    for secs in 1..=5 {
        bench.arrive_at(secs, &names(&format!("S{secs}"), 6)).await;
    }
    let wanted = |part: &str| FilesWanted { account: bench.account, part: part.into() };
    for (part, count) in [("", 30), ("/S3/", 6), ("/S3/4.txt", 1), ("s3", 6), ("4.TXT", 5), ("/s3", 0), ("x.csv", 0)] {
        let (mut found, mut from) = (Vec::new(), None);
        loop {
            let page = bench.store.find_files(wanted(part), from, 4).await.unwrap();
            found.extend(page.files.iter().map(|file| (file.arrived_at, file.id)));
            match page.next {
                Some(next) => from = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        assert_eq!(found.len(), count, "{part}");
        assert!(found.is_sorted_by(|newer, older| newer > older), "{part}");
    }
    let other = bench.store.upsert_account(new_account("other"), at(0)).await.unwrap().id;
    let none = bench.store.find_files(FilesWanted { account: other, part: Vec::new() }, None, 4).await.unwrap();
    assert_eq!(none.files, []);
    let file = bench.store.file_at(bench.account, path("/S1/0.txt")).await.unwrap().unwrap().id;
    bench.record(9, vec![bench.gone("/S1/0.txt")]).await;
    let known = bench.store.known_file(file).await.unwrap().unwrap();
    assert_eq!((known.path, known.stored), (path("/S1/0.txt"), None));
    assert_eq!(bench.store.events_of(file, None, 10).await.unwrap().len(), 2);
}
