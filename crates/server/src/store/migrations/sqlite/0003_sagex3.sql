-- Pairing by consent, and the tokens that come from it.

-- Refused with the documented words while it is disabled; a secret may overlap with the one before it.
ALTER TABLE application ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE application ADD COLUMN previous_secret_hash TEXT;
ALTER TABLE application ADD COLUMN previous_secret_until INTEGER;

-- A grant that was taken back stays as a row, so that what it was owed stays visible.
ALTER TABLE consent ADD COLUMN revoked_at INTEGER;

-- When its detail was first read; only kept where a detail can be read once.
ALTER TABLE notification ADD COLUMN consumed_at INTEGER;

DROP TABLE token;

CREATE TABLE signing_key (
    kid        TEXT    PRIMARY KEY,
    private    BLOB    NOT NULL, -- sealed
    created_at INTEGER NOT NULL,
    retired_at INTEGER -- signs nothing from here on, still verifies
) STRICT;

CREATE TABLE token_family ( -- all tokens that go back to one code, or to one command
    id         BLOB    PRIMARY KEY,
    consent    INTEGER NOT NULL REFERENCES consent (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX token_family_expiry ON token_family (expires_at);
CREATE INDEX token_family_consent ON token_family (consent);

CREATE TABLE refresh_token (
    hash        BLOB    PRIMARY KEY, -- SHA-256 of its id
    family      BLOB    NOT NULL REFERENCES token_family (id) ON DELETE CASCADE,
    parent      BLOB,    -- the one it was given for
    expires_at  INTEGER NOT NULL,
    replaced_at INTEGER  -- when it was first exchanged
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_token_family ON refresh_token (family);

CREATE TABLE pairing (
    id              BLOB    PRIMARY KEY,
    application     INTEGER NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    account         INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    redirect_uri    TEXT    NOT NULL,
    scopes          TEXT    NOT NULL, -- JSON list
    state           TEXT    NOT NULL, -- the application's, returned unchanged
    challenge       TEXT,             -- PKCE, S256
    transport       TEXT    NOT NULL,
    session_hash    BLOB    NOT NULL, -- SHA-256 of the browser's cookie
    expires_at      INTEGER NOT NULL,
    status          TEXT    NOT NULL, -- requested, accepted, rejected, used
    code_hash       BLOB,             -- SHA-256 of the code's secret part
    code_expires_at INTEGER,
    consent         INTEGER REFERENCES consent (id) ON DELETE CASCADE,
    family          BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX pairing_expiry ON pairing (expires_at);

CREATE TABLE ingestion ( -- an upload that was announced
    id              BLOB    PRIMARY KEY,
    consent         INTEGER NOT NULL REFERENCES consent (id) ON DELETE CASCADE,
    folder          TEXT    NOT NULL,
    file_name       BLOB    NOT NULL,
    status          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    changed_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ingestion_age ON ingestion (created_at);

CREATE TABLE setting ( -- what the server knows and commands must know too
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
