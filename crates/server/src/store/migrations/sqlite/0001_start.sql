-- Times are milliseconds since the Unix epoch, in columns named *_at; paths and hashes are bytes.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
-- Grows with every change of accounts, applications, grants or subscriptions.
INSERT INTO meta (key, value) VALUES ('revision', 0);

CREATE TABLE account (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    password_hash TEXT,
    root          BLOB,
    customer_url  TEXT    NOT NULL,
    customer_id   TEXT    NOT NULL,
    customer_code TEXT    NOT NULL,
    managed       INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    -- When its root was first watched, and whether the first scan came to its end.
    root_first_seen_at INTEGER,
    baseline_done      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE application (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    name               TEXT    NOT NULL UNIQUE,
    application_id     TEXT    NOT NULL UNIQUE,
    client_id          TEXT    NOT NULL UNIQUE,
    client_secret_hash TEXT    NOT NULL,
    redirect_urls      TEXT    NOT NULL, -- JSON list
    notification_url   TEXT,
    signature_encoding TEXT    NOT NULL,
    managed            INTEGER NOT NULL,
    created_at         INTEGER NOT NULL
) STRICT;

CREATE TABLE consent ( -- a grant; the word is taken in SQL
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    application INTEGER NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    account     INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    folders     TEXT    NOT NULL, -- JSON list
    scopes      TEXT    NOT NULL, -- JSON list
    created_at  INTEGER NOT NULL,
    UNIQUE (application, account)
) STRICT;

CREATE TABLE token (
    hash       BLOB    PRIMARY KEY, -- SHA-256 of the token's text
    kind       TEXT    NOT NULL,
    consent    INTEGER NOT NULL REFERENCES consent (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_expiry ON token (expires_at);

CREATE TABLE subscription (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL UNIQUE,
    account         INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    consent         INTEGER REFERENCES consent (id) ON DELETE CASCADE, -- only where the protocol is sagex3
    protocol        TEXT    NOT NULL,
    connection_id   TEXT,
    url             TEXT    NOT NULL,
    key             BLOB    NOT NULL, -- sealed
    min_interval_ms INTEGER NOT NULL,
    filter          TEXT    NOT NULL, -- JSON
    status          TEXT    NOT NULL,
    status_reason   TEXT,
    managed         INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    -- The planner's ledger.
    newest_seq      INTEGER NOT NULL DEFAULT 0,
    newest_ordinal  INTEGER NOT NULL DEFAULT 0,
    told_seq        INTEGER NOT NULL DEFAULT 0,
    told_ordinal    INTEGER NOT NULL DEFAULT 0,
    last_sent_at    INTEGER,
    -- The newest second that the account's own consumer was shown by `recent`.
    since_secs      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX subscription_account ON subscription (account);

CREATE TABLE file (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path       BLOB    NOT NULL,
    dev        INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    birth_ns   INTEGER,
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    -- NULL for a file that was in a new root before and has not been read since.
    sha256     BLOB,
    md5        BLOB,
    -- When its newest content was recorded; `recent` is answered from the index on it.
    arrived_at INTEGER NOT NULL,
    user       TEXT    NOT NULL,
    UNIQUE (account, path)
) STRICT;
CREATE INDEX file_arrival ON file (account, arrived_at);
CREATE INDEX file_inode ON file (account, inode);

CREATE TABLE event (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            BLOB    NOT NULL,
    kind          TEXT    NOT NULL,
    account       INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    file          INTEGER NOT NULL,
    path          BLOB    NOT NULL,
    previous_path BLOB,
    size          INTEGER,
    sha256        BLOB,
    md5           BLOB,
    mtime_ms      INTEGER,
    user          TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    completeness  TEXT,
    recorded_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX event_account ON event (account, seq);

CREATE TABLE notification (
    id            BLOB    PRIMARY KEY, -- version 7 UUID: rows are appended
    subscription  INTEGER NOT NULL REFERENCES subscription (id) ON DELETE CASCADE,
    state         TEXT    NOT NULL, -- pending, delivered, dead, superseded
    after_seq     INTEGER NOT NULL,
    after_ordinal INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    last_ordinal  INTEGER NOT NULL,
    -- It covers no more than it does: it has been attempted, or may have been.
    sealed        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0,
    due_at        INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    settled_at    INTEGER,
    body          BLOB -- of the first attempt, while it is not delivered
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_pending ON notification (subscription, due_at, id) WHERE state = 'pending';
CREATE INDEX notification_dead ON notification (subscription, id) WHERE state = 'dead';

CREATE TABLE attempt (
    notification BLOB    NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    took_ms      INTEGER NOT NULL,
    status       INTEGER,
    detail       TEXT,
    PRIMARY KEY (notification, number)
) STRICT, WITHOUT ROWID;
