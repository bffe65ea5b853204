-- Searches by prefix read ranges of names and actors, byte by byte. The columns keep their collation: statements that are prepared by older
-- nodes would fail otherwise.
CREATE INDEX keys_by_name ON keys (tenant, kind, name COLLATE "C", key_id);
CREATE INDEX keys_by_actor_prefix ON keys (tenant, kind, actor_id COLLATE "C", key_id);
CREATE INDEX keys_by_expiry ON keys (tenant, kind, expire_time, key_id);
CREATE INDEX keys_by_last_use ON keys (tenant, kind, coalesce(last_used_time, create_time), key_id);
CREATE INDEX keys_never_used ON keys (tenant, kind, key_id) WHERE last_used_time IS NULL;

-- The running nodes. Each writes its own row every few seconds; rows that are older than 20 seconds are removed.
CREATE TABLE nodes (
    node_id        uuid        PRIMARY KEY,
    heartbeat_time timestamptz NOT NULL,
    status         json        NOT NULL
);
