-- What an account holds is summed up by whoever writes its files, once in a transaction.
DROP TRIGGER file_comes;
DROP TRIGGER file_changes;
DROP TRIGGER file_goes;
