-- What `keys` and `deleted_keys` hold is what the tables of SQLite hold, in the types of PostgreSQL. Ids are compared byte
-- by byte, so that pages have one order in every database. Metadata is json, not jsonb, because it is returned as it was
-- given and never searched.
CREATE TABLE keys (
    tenant                 uuid        NOT NULL,
    kind                   text        NOT NULL CHECK (kind IN ('issued', 'imported')),
    key_id                 text        NOT NULL COLLATE "C",
    request_id             text,
    name                   text        NOT NULL,
    actor_id               text        NOT NULL,
    scopes                 jsonb       NOT NULL,
    metadata               json        NOT NULL,
    status                 text        NOT NULL CHECK (status IN ('active', 'revoked')),
    revocation_reason      text,
    revocation_description text,
    visibility             text        NOT NULL CHECK (visibility IN ('secret', 'public')),
    create_time            timestamptz NOT NULL,
    update_time            timestamptz NOT NULL,
    expire_time            timestamptz,
    last_used_time         timestamptz,
    rate_limit_quota       bigint,
    rate_limit_window      bigint, -- seconds
    allowed_cidrs          jsonb       NOT NULL,
    version                bigint      NOT NULL,
    PRIMARY KEY (tenant, kind, key_id)
);

CREATE UNIQUE INDEX keys_request_id ON keys (tenant, kind, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX keys_active ON keys (tenant) WHERE status = 'active';
CREATE INDEX keys_revoked ON keys (update_time) WHERE status = 'revoked';
-- Lists go by descending key_id within what they are filtered by; expire_time tells active from expired without the row.
CREATE INDEX keys_by_actor ON keys (tenant, kind, actor_id, key_id);
CREATE INDEX keys_by_actor_status ON keys (tenant, kind, actor_id, status, key_id, expire_time);
CREATE INDEX keys_by_status ON keys (tenant, kind, status, key_id, expire_time);

-- What was deleted, for as long as tokens derived from it may live.
CREATE TABLE deleted_keys (
    tenant      uuid        NOT NULL,
    kind        text        NOT NULL,
    key_id      text        NOT NULL COLLATE "C",
    delete_time timestamptz NOT NULL,
    PRIMARY KEY (tenant, kind, key_id)
);
CREATE INDEX deleted_keys_by_time ON deleted_keys (delete_time);
