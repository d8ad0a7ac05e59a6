//! Nothing that is owed is forgotten or told twice, whatever happens at the same time.

use super::*;

impl Bench {
    /// Lets another process hold the write lock of the database until the guard is dropped.
    fn locked(&self) -> rusqlite::Connection {
        let other = rusqlite::Connection::open(self.dir.path().join("filebell.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        other
    }
}

#[tokio::test]
async fn what_arrives_in_the_commit_that_settles_the_one_before_is_told_after_the_interval() {
    for (first, ring) in [(Step::Delivered, None), (Step::Delivered, Some(10)), (Step::Told, Some(10))] {
        let bench = Bench::new().await;
        let subscription = bench.coalescing().await;
        bench.arrive(100, "/a").await;
        let told = bench.claim(100, subscription).await.remove(0);
        // Both wait behind what stands alone, and so share a transaction.
        let locked = bench.locked();
        let settlement = Bench::settlement(101, &told, first, ring);
        let (quota, settled, recorded, ()) = tokio::join!(
            biased;
            bench.store.set_quota(bench.account, None),
            bench.store.settle([settlement].into(), at(101), ids()),
            async { bench.store.record(vec![bench.seen("/b", 1)], at(101), ids()).await },
            async { drop(locked) }
        );
        assert!(quota.is_ok() && recorded.is_ok());
        assert_eq!(settled.unwrap(), [true]);
        assert_eq!(bench.due(subscription).await, Some(at(111)), "{first:?}, {ring:?}");
        let next = bench.claim(111, subscription).await.remove(0);
        assert_eq!((next.rung, next.after, next.last.ordinal), (None, told.last, 2));
    }
}
