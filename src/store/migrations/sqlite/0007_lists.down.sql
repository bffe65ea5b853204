DROP INDEX keys_never_used;
DROP INDEX keys_by_last_use;
ALTER TABLE keys DROP COLUMN last_use;
DROP INDEX keys_by_expiry;
DROP INDEX keys_by_name;
