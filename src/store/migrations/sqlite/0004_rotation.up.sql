-- A rotation can leave the old key active for a time. Until `revoke_time` it counts as active, afterwards as revoked, without another
-- change. `replaced_by` is the new key.
ALTER TABLE keys ADD COLUMN revoke_time INTEGER;
ALTER TABLE keys ADD COLUMN replaced_by TEXT;
CREATE INDEX keys_replaced ON keys (tenant, kind, key_id) WHERE revoke_time IS NOT NULL;
CREATE INDEX keys_by_revoke_time ON keys (revoke_time) WHERE revoke_time IS NOT NULL;
