-- Searches read ranges of these indexes.
CREATE INDEX keys_by_name ON keys (tenant, kind, name, key_id);
CREATE INDEX keys_by_expiry ON keys (tenant, kind, expire_time, key_id);
-- A column, because a pair with an expression is not compared by an index.
ALTER TABLE keys ADD COLUMN last_use INTEGER GENERATED ALWAYS AS (coalesce(last_used_time, create_time)) VIRTUAL;
CREATE INDEX keys_by_last_use ON keys (tenant, kind, last_use, key_id);
CREATE INDEX keys_never_used ON keys (tenant, kind, key_id) WHERE last_used_time IS NULL;
