-- Lists go by descending key_id within what they are filtered by; expire_time tells active from expired without the row.
CREATE INDEX keys_by_actor ON keys (tenant, kind, actor_id, key_id);
CREATE INDEX keys_by_actor_status ON keys (tenant, kind, actor_id, status, key_id, expire_time);
CREATE INDEX keys_by_status ON keys (tenant, kind, status, key_id, expire_time);
CREATE INDEX keys_revoked ON keys (update_time) WHERE status = 'revoked';

-- What was deleted, for as long as tokens derived from it may live.
CREATE TABLE deleted_keys (
    tenant      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    key_id      TEXT    NOT NULL,
    delete_time INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, key_id)
) WITHOUT ROWID;
CREATE INDEX deleted_keys_by_time ON deleted_keys (delete_time);
