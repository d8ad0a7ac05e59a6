-- The notification that was delivered and is not fetched yet (protocol nextcloud), when it is told again, and how often
-- it was. What is made after it takes its place.
ALTER TABLE subscription ADD COLUMN ring BLOB;
ALTER TABLE subscription ADD COLUMN ring_at INTEGER;
ALTER TABLE subscription ADD COLUMN rung INTEGER NOT NULL DEFAULT 0;
-- When it was told for the last time what was never fetched.
ALTER TABLE subscription ADD COLUMN unfetched_at INTEGER;
