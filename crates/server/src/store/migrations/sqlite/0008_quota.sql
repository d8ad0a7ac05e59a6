-- What an account may hold, and what it holds: the sum of its files' sizes, kept by triggers in the same transactions.
ALTER TABLE account ADD COLUMN quota_bytes INTEGER;
ALTER TABLE account ADD COLUMN used_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE account SET used_bytes = (SELECT coalesce(sum(size), 0) FROM file WHERE file.account = account.id);

CREATE TRIGGER file_comes AFTER INSERT ON file BEGIN
    UPDATE account SET used_bytes = used_bytes + new.size WHERE id = new.account;
END;
CREATE TRIGGER file_changes AFTER UPDATE OF size ON file WHEN new.size <> old.size BEGIN
    UPDATE account SET used_bytes = used_bytes + new.size - old.size WHERE id = new.account;
END;
CREATE TRIGGER file_goes AFTER DELETE ON file BEGIN
    UPDATE account SET used_bytes = used_bytes - old.size WHERE id = old.account;
END;
