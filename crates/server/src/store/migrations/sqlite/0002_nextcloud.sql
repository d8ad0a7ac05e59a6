-- `recent` of the Nextcloud protocol is answered from this index, page by page.
ALTER TABLE file ADD COLUMN arrived_secs INTEGER GENERATED ALWAYS AS (arrived_at / 1000) VIRTUAL;
CREATE INDEX file_recent ON file (account, arrived_secs, id);
DROP INDEX file_arrival;

-- What an account posted to connect its receiver, as it posted it.
CREATE TABLE connection (
    account  INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    settings BLOB    NOT NULL -- sealed
) STRICT;

CREATE TABLE app_password (
    hash         BLOB    PRIMARY KEY, -- SHA-256 of the password, which is random
    account      INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;

-- Dead properties of WebDAV, by the path of the file or directory they were given to.
CREATE TABLE property (
    account INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    path    BLOB    NOT NULL,
    name    TEXT    NOT NULL, -- {namespace}local
    value   TEXT    NOT NULL, -- XML
    PRIMARY KEY (account, path, name)
) STRICT, WITHOUT ROWID;
