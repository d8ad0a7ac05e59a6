-- What an account may hold, and what it holds: the sum of its files' sizes, written with what
-- changes it.
ALTER TABLE account ADD COLUMN quota_bytes INTEGER;
ALTER TABLE account ADD COLUMN used_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET used_bytes = (SELECT coalesce(sum(size), 0) FROM file WHERE file.account = account.id);
