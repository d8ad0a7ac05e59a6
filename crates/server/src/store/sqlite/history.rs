//! What happened over time.

use std::collections::BTreeMap;

use filebell_core::id::AccountId;
use filebell_core::time::TimestampMs;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::super::{Counts, Pace, Span, StoreError};
use super::SqliteStore;
use super::rows::{corrupt, signed, unsigned};

/// The rows of the whole server.
const SERVER: i64 = 0;

/// How a subscription's tally stood, and stands.
struct Told {
    subscription: i64,
    account: i64,
    delivered: i64,
    dead: i64,
    delivered_before: i64,
    dead_before: i64,
}

/// What is to be written down.
struct News {
    seq: i64,
    /// The minute in which it was last written down.
    last_minute: TimestampMs,
    told: Vec<Told>,
    counts: BTreeMap<(i64, TimestampMs), Counts>,
}

impl SqliteStore {
    pub(in crate::store) async fn count_history(&self, pace: Pace, now: TimestampMs) -> Result<(), StoreError> {
        // Counted beside the writer, who has only the sums to write: nobody else counts.
        let mut news = self.read(move |connection, _| count(connection, now)).await?;
        let last = news.counts.entry((SERVER, news.last_minute)).or_default();
        last.add(&Counts { pace, ..Counts::default() });
        self.write(move |transaction, _| write(transaction, &news, now)).await
    }

    pub(in crate::store) async fn history(
        &self,
        account: Option<AccountId>,
        span: Span,
        since: TimestampMs,
    ) -> Result<Vec<(TimestampMs, Counts)>, StoreError> {
        self.read(move |connection, _| {
            let mut select = connection.prepare_cached(
                "SELECT begins_at, arrivals, delivered, dead, failed, took FROM history
                 WHERE account = ?1 AND span_ms = ?2 AND begins_at >= ?3 ORDER BY begins_at",
            )?;
            let of = params![account.map_or(SERVER, AccountId::get), millis(span), since.as_millis()];
            let rows = select.query_map(of, |row| Ok((TimestampMs::from_millis(row.get(0)?), counts(row, 1))))?;
            rows.map(|row| row.map_err(StoreError::from).and_then(|(at, counts)| Ok((at, counts?)))).collect()
        })
        .await
    }

    pub(in crate::store) async fn uncounted(&self, account: Option<AccountId>) -> Result<Counts, StoreError> {
        self.read(move |connection, _| {
            let seq = meta(connection, "history_seq")?;
            let arrivals: i64 = match account {
                // Numbers are given out one after the other.
                None => connection
                    .prepare_cached("SELECT coalesce(max(seq), ?1) - ?1 FROM event")?
                    .query_row([seq], |row| row.get(0))?,
                Some(account) => connection
                    .prepare_cached("SELECT count(*) FROM event WHERE account = ?1 AND seq > ?2")?
                    .query_row(params![account.get(), seq], |row| row.get(0))?,
            };
            let mut counts = Counts { arrivals: unsigned(arrivals.max(0)), ..Counts::default() };
            for one in told(connection)?.iter().filter(|one| account.is_none_or(|wanted| wanted.get() == one.account)) {
                counts.add(&one.counts());
            }
            Ok(counts)
        })
        .await
    }
}

impl Told {
    /// What was told since. What was replayed meanwhile stands less often dead than before, which is no news.
    fn counts(&self) -> Counts {
        let since = |now: i64, before: i64| unsigned(now.saturating_sub(before).max(0));
        Counts {
            delivered: since(self.delivered, self.delivered_before),
            dead: since(self.dead, self.dead_before),
            ..Counts::default()
        }
    }
}

fn meta(connection: &Connection, key: &str) -> Result<i64, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
    Ok(select.query_row([key], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn told(connection: &Connection) -> Result<Vec<Told>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT t.subscription, s.account, t.delivered, t.dead, coalesce(c.delivered, 0), coalesce(c.dead, 0)
         FROM tally t JOIN subscription s ON s.id = t.subscription LEFT JOIN counted c ON c.subscription = t.subscription
         WHERE t.delivered <> coalesce(c.delivered, 0) OR t.dead <> coalesce(c.dead, 0)",
    )?;
    let rows = select.query_map([], |row| {
        Ok(Told {
            subscription: row.get(0)?,
            account: row.get(1)?,
            delivered: row.get(2)?,
            dead: row.get(3)?,
            delivered_before: row.get(4)?,
            dead_before: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn count(connection: &Connection, now: TimestampMs) -> Result<News, StoreError> {
    let (seq, at) = (meta(connection, "history_seq")?, TimestampMs::from_millis(meta(connection, "history_at")?));
    let last_minute = Span::Minute.begin(if at == TimestampMs::ZERO { now } else { at.min(now) });
    let mut news = News { seq, last_minute, told: told(connection)?, counts: BTreeMap::new() };
    // In the order in which they lie: grouped by the engine, all of them would be in memory at once.
    let mut select =
        connection.prepare_cached("SELECT account, recorded_at / ?2, seq FROM event WHERE seq > ?1 ORDER BY seq")?;
    let minute = millis(Span::Minute);
    let mut arrivals: BTreeMap<(i64, i64), u64> = BTreeMap::new();
    let mut rows = select.query(params![seq, minute])?;
    while let Some(row) = rows.next()? {
        *arrivals.entry((row.get(0)?, row.get(1)?)).or_default() += 1;
        news.seq = row.get(2)?;
    }
    for ((account, minutes), arrivals) in arrivals {
        let at = TimestampMs::from_millis(minutes.saturating_mul(minute));
        news.add(account, at, &Counts { arrivals, ..Counts::default() });
    }
    for one in std::mem::take(&mut news.told) {
        news.add(one.account, last_minute, &one.counts());
        news.told.push(one);
    }
    Ok(news)
}

impl News {
    /// Counts something to an account, and to the whole server.
    fn add(&mut self, account: i64, at: TimestampMs, counts: &Counts) {
        for account in [account, SERVER] {
            self.counts.entry((account, at)).or_default().add(counts);
        }
    }
}

fn write(transaction: &Transaction<'_>, news: &News, now: TimestampMs) -> Result<(), StoreError> {
    for span in Span::ALL {
        let mut sums: BTreeMap<(i64, TimestampMs), Counts> = BTreeMap::new();
        for ((account, at), counts) in news.counts.iter().filter(|(_, counts)| !counts.is_nothing()) {
            sums.entry((*account, span.begin(*at))).or_default().add(counts);
        }
        for ((account, at), counts) in sums {
            add_row(transaction, account, span, at, counts)?;
        }
        transaction
            .prepare_cached("DELETE FROM history WHERE span_ms = ?1 AND begins_at < ?2")?
            .execute(params![millis(span), now.before(span.kept()).as_millis()])?;
    }
    let mut set = transaction.prepare_cached("UPDATE meta SET value = ?2 WHERE key = ?1")?;
    set.execute(params!["history_seq", news.seq])?;
    set.execute(params!["history_at", now.as_millis()])?;
    for one in &news.told {
        transaction
            // A subscription that was removed meanwhile is not counted any more.
            .prepare_cached(
                "INSERT INTO counted (subscription, delivered, dead)
                 SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM subscription WHERE id = ?1)
                 ON CONFLICT (subscription) DO UPDATE SET delivered = excluded.delivered, dead = excluded.dead",
            )?
            .execute(params![one.subscription, one.delivered, one.dead])?;
    }
    Ok(())
}

fn add_row(
    transaction: &Transaction<'_>,
    account: i64,
    span: Span,
    at: TimestampMs,
    mut sum: Counts,
) -> Result<(), StoreError> {
    let key = params![account, millis(span), at.as_millis()];
    let before = transaction
        .prepare_cached(
            "SELECT arrivals, delivered, dead, failed, took FROM history
             WHERE account = ?1 AND span_ms = ?2 AND begins_at = ?3",
        )?
        .query_row(key, |row| Ok(counts(row, 0)))
        .optional()?
        .transpose()?;
    if let Some(before) = before {
        sum.add(&before);
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO history (account, span_ms, begins_at, arrivals, delivered, dead, failed, took)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            account,
            millis(span),
            at.as_millis(),
            signed(sum.arrivals),
            signed(sum.delivered),
            signed(sum.dead),
            signed(sum.pace.failed),
            serde_json::to_string(&sum.pace.took).map_err(corrupt("history"))?
        ])?;
    Ok(())
}

/// Counts from five columns: arrivals, delivered, dead, failed, took.
fn counts(row: &Row<'_>, first: usize) -> Result<Counts, StoreError> {
    let took = row.get_ref(first + 4)?.as_str().map_err(corrupt("history"))?;
    let pace =
        Pace { failed: unsigned(row.get(first + 3)?), took: serde_json::from_str(took).map_err(corrupt("history"))? };
    let [arrivals, delivered, dead] = [first, first + 1, first + 2].map(|column| row.get(column).map(unsigned));
    Ok(Counts { arrivals: arrivals?, delivered: delivered?, dead: dead?, pace })
}

fn millis(span: Span) -> i64 {
    i64::try_from(span.length().as_millis()).unwrap_or(i64::MAX)
}
