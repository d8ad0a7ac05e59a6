-- What was answered 500 and accepted when it was rung was not counted as delivered. What was counted of it for the charts
-- moves by as much: nothing was delivered just now.
UPDATE counted SET delivered = delivered
    + (SELECT count(*) FROM notification WHERE notification.subscription = counted.subscription AND state = 'delivered')
    - (SELECT tally.delivered FROM tally WHERE tally.subscription = counted.subscription)
WHERE subscription IN (SELECT id FROM subscription WHERE protocol = 'nextcloud');
UPDATE tally SET delivered =
    (SELECT count(*) FROM notification WHERE notification.subscription = tally.subscription AND state = 'delivered')
WHERE subscription IN (SELECT id FROM subscription WHERE protocol = 'nextcloud');
