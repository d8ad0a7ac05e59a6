-- What an attempt keeps for a person to read. The request is not kept: it is built again from the notification, and
-- `print` tells whether it comes out as it was sent.
ALTER TABLE attempt ADD COLUMN resolve_us INTEGER;    -- these three only where a connection was made for it
ALTER TABLE attempt ADD COLUMN connect_us INTEGER;
ALTER TABLE attempt ADD COLUMN tls_us INTEGER;
ALTER TABLE attempt ADD COLUMN first_byte_us INTEGER; -- since it began
ALTER TABLE attempt ADD COLUMN answer BLOB;           -- header lines, an empty line, the beginning of the body
ALTER TABLE attempt ADD COLUMN since_secs INTEGER;    -- of protocol nextcloud, where it made a new body
ALTER TABLE attempt ADD COLUMN print INTEGER;         -- 32 bits of a hash over URL, signed headers and body

-- Attempts made before it was last replayed.
ALTER TABLE notification ADD COLUMN earlier_attempts INTEGER NOT NULL DEFAULT 0;
CREATE INDEX notification_of ON notification (subscription, id);
CREATE INDEX notification_aside ON notification (subscription, state, id) WHERE state IN ('superseded', 'revoked');
