-- How each subscription stands, kept by triggers: whoever asks need not count its notifications.
CREATE TABLE tally (
    subscription    INTEGER PRIMARY KEY REFERENCES subscription (id) ON DELETE CASCADE,
    pending         INTEGER NOT NULL DEFAULT 0,
    delivered       INTEGER NOT NULL DEFAULT 0,
    dead            INTEGER NOT NULL DEFAULT 0,
    superseded      INTEGER NOT NULL DEFAULT 0,
    -- The newest attempts that ended well and badly.
    last_success_at INTEGER,
    last_failure_at INTEGER,
    last_failure    TEXT
) STRICT;
INSERT INTO tally (subscription, pending, delivered, dead, superseded)
    SELECT id, (SELECT count(*) FROM notification WHERE notification.subscription = subscription.id AND state = 'pending'),
        (SELECT count(*) FROM notification WHERE notification.subscription = subscription.id AND state = 'delivered'),
        (SELECT count(*) FROM notification WHERE notification.subscription = subscription.id AND state = 'dead'),
        (SELECT count(*) FROM notification WHERE notification.subscription = subscription.id AND state = 'superseded')
    FROM subscription;

CREATE TRIGGER tally_begins AFTER INSERT ON subscription BEGIN
    INSERT INTO tally (subscription) VALUES (new.id);
END;
CREATE TRIGGER tally_made AFTER INSERT ON notification BEGIN
    UPDATE tally SET pending = pending + (new.state = 'pending'), delivered = delivered + (new.state = 'delivered'),
        dead = dead + (new.state = 'dead'), superseded = superseded + (new.state = 'superseded')
    WHERE subscription = new.subscription;
END;
CREATE TRIGGER tally_went AFTER UPDATE OF state ON notification WHEN new.state <> old.state BEGIN
    UPDATE tally SET pending = pending + (new.state = 'pending') - (old.state = 'pending'),
        delivered = delivered + (new.state = 'delivered') - (old.state = 'delivered'),
        dead = dead + (new.state = 'dead') - (old.state = 'dead'),
        superseded = superseded + (new.state = 'superseded') - (old.state = 'superseded')
    WHERE subscription = new.subscription;
END;
CREATE TRIGGER tally_removed AFTER DELETE ON notification BEGIN
    UPDATE tally SET pending = pending - (old.state = 'pending'), delivered = delivered - (old.state = 'delivered'),
        dead = dead - (old.state = 'dead'), superseded = superseded - (old.state = 'superseded')
    WHERE subscription = old.subscription;
END;

-- What was told of a file, who was told of an event, and the oldest event that is not told.
CREATE INDEX event_file ON event (file, seq);
CREATE INDEX notification_reach ON notification (subscription, last_seq);
CREATE INDEX notification_untold ON notification (subscription, last_seq) WHERE state = 'pending';
