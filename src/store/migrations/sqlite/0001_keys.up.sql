-- Times are microseconds since 1970, UTC. Lists and objects are JSON text.
CREATE TABLE keys (
    tenant                 TEXT    NOT NULL,
    kind                   TEXT    NOT NULL CHECK (kind IN ('issued', 'imported')),
    key_id                 TEXT    NOT NULL,
    request_id             TEXT,
    name                   TEXT    NOT NULL,
    actor_id               TEXT    NOT NULL,
    scopes                 TEXT    NOT NULL,
    metadata               TEXT    NOT NULL,
    status                 TEXT    NOT NULL CHECK (status IN ('active', 'revoked')),
    revocation_reason      TEXT,
    revocation_description TEXT,
    visibility             TEXT    NOT NULL CHECK (visibility IN ('secret', 'public')),
    create_time            INTEGER NOT NULL,
    update_time            INTEGER NOT NULL,
    expire_time            INTEGER,
    last_used_time         INTEGER,
    rate_limit_quota       INTEGER,
    rate_limit_window      INTEGER, -- seconds
    allowed_cidrs          TEXT    NOT NULL,
    version                INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, key_id)
) WITHOUT ROWID;

CREATE UNIQUE INDEX keys_request_id ON keys (tenant, kind, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX keys_active ON keys (tenant) WHERE status = 'active';
