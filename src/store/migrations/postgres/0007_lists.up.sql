-- Searches by prefix read ranges of these columns, byte by byte.
ALTER TABLE keys ALTER COLUMN name TYPE text COLLATE "C", ALTER COLUMN actor_id TYPE text COLLATE "C";
CREATE INDEX keys_by_name ON keys (tenant, kind, name, key_id);
CREATE INDEX keys_by_expiry ON keys (tenant, kind, expire_time, key_id);
CREATE INDEX keys_by_last_use ON keys (tenant, kind, coalesce(last_used_time, create_time), key_id);
CREATE INDEX keys_never_used ON keys (tenant, kind, key_id) WHERE last_used_time IS NULL;
