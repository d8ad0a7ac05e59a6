-- The tally of what is made and settled is kept by the writer, once for each subscription in a transaction: a trigger
-- would run for every notification.
DROP TRIGGER tally_made;
DROP TRIGGER tally_went;
