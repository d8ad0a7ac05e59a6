-- Who is signed in to the pages.
CREATE TABLE session (
    hash       BLOB    PRIMARY KEY, -- SHA-256 of the browser's cookie
    account    INTEGER REFERENCES account (id) ON DELETE CASCADE, -- NULL is the operator
    begun_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_account ON session (account);
