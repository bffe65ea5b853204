-- Searches read ranges of these indexes.
CREATE INDEX keys_by_name ON keys (tenant, kind, name, key_id);
CREATE INDEX keys_by_expiry ON keys (tenant, kind, expire_time, key_id);
CREATE INDEX keys_by_last_use ON keys (tenant, kind, coalesce(last_used_time, create_time), key_id);
CREATE INDEX keys_never_used ON keys (tenant, kind, key_id) WHERE last_used_time IS NULL;
