-- What happened, counted by account in spans of a minute, a quarter of an hour and a day (UTC), each kept as long as
-- its chart reaches back.
CREATE TABLE history (
    account   INTEGER NOT NULL, -- 0 is the whole server
    span_ms   INTEGER NOT NULL,
    begins_at INTEGER NOT NULL,
    arrivals  INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    dead      INTEGER NOT NULL,
    -- Of the whole server only: attempts that failed, and how many deliveries took how long (JSON list).
    failed    INTEGER NOT NULL,
    took      TEXT    NOT NULL,
    PRIMARY KEY (account, span_ms, begins_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_age ON history (span_ms, begins_at);
CREATE TRIGGER history_ends AFTER DELETE ON account BEGIN
    DELETE FROM history WHERE account = old.id;
END;

-- What has been counted: up to which event, when, and how each subscription stood then.
INSERT INTO meta (key, value) SELECT 'history_seq', coalesce(max(seq), 0) FROM event;
INSERT INTO meta (key, value) VALUES ('history_at', 0);
CREATE TABLE counted (
    subscription INTEGER PRIMARY KEY REFERENCES subscription (id) ON DELETE CASCADE,
    delivered    INTEGER NOT NULL,
    dead         INTEGER NOT NULL
) STRICT;
INSERT INTO counted (subscription, delivered, dead) SELECT subscription, delivered, dead FROM tally;
