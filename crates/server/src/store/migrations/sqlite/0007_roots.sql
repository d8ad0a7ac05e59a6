-- Which directory an account's root is.
ALTER TABLE account ADD COLUMN root_dev INTEGER;
ALTER TABLE account ADD COLUMN root_inode INTEGER;
ALTER TABLE account ADD COLUMN root_birth_ns INTEGER;
ALTER TABLE account ADD COLUMN root_file_system INTEGER;
