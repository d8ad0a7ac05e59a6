-- Up to which event each event had a notification of its own, before the subscription began to gather them: what died of
-- those is covered by nothing that was made since.
ALTER TABLE subscription ADD COLUMN gathered_seq INTEGER NOT NULL DEFAULT 0;
