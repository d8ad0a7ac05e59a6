-- Which part of the journal was shown to whom: events by their number (changes), or by when they were recorded (recent),
-- after `after` and up to `upto`.
CREATE TABLE shown (
    reader  TEXT    NOT NULL, -- operator, account NAME, application NAME
    how     TEXT    NOT NULL, -- changes, recent
    account INTEGER REFERENCES account (id) ON DELETE CASCADE, -- NULL: every account's
    folders TEXT,             -- JSON list; NULL: all
    after   INTEGER NOT NULL,
    upto    INTEGER NOT NULL,
    at      INTEGER NOT NULL
) STRICT;
CREATE INDEX shown_reach ON shown (reader, how, upto);
CREATE INDEX shown_account ON shown (account);

-- Who fetched a file first, for each content that arrived.
CREATE TABLE fetched (
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    file       INTEGER NOT NULL,
    arrived_at INTEGER NOT NULL,
    reader     TEXT    NOT NULL, -- as above
    how        TEXT    NOT NULL, -- detail, download
    at         INTEGER NOT NULL,
    PRIMARY KEY (account, file, arrived_at, reader, how)
) STRICT, WITHOUT ROWID;
