-- The audit trail. A row is written in the transaction of the mutation that it describes, and gets its place in a chain
-- afterwards: docs/audit.md.
CREATE TABLE audit_events (
    id         TEXT    NOT NULL PRIMARY KEY, -- a UUID version 7: the order of time
    tenant     TEXT    NOT NULL,
    time       INTEGER NOT NULL,
    writer     TEXT    NOT NULL, -- the process
    event      TEXT    NOT NULL,
    principal  TEXT    NOT NULL,
    roles      TEXT, -- of an administrator, separated by spaces
    client_ip  TEXT,
    request_id TEXT    NOT NULL,
    key_id     TEXT,
    actor_id   TEXT,
    before     TEXT, -- JSON, as it was authenticated
    after      TEXT,
    details    TEXT,
    mac        TEXT    NOT NULL,
    chain      TEXT, -- until the row is sealed: NULL
    seq        INTEGER,
    seal       TEXT
) WITHOUT ROWID;
CREATE INDEX audit_events_by_key ON audit_events (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX audit_events_by_actor ON audit_events (actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_events_by_principal ON audit_events (principal, id);
CREATE INDEX audit_checkpoints ON audit_events (id) WHERE event = 'AuditCheckpoint';
CREATE INDEX audit_events_unsealed ON audit_events (id) WHERE seq IS NULL;
CREATE UNIQUE INDEX audit_events_by_chain ON audit_events (chain, seq) WHERE seq IS NOT NULL;

-- The last row of each chain, and the last one that retention removed.
CREATE TABLE audit_chains (
    chain       TEXT    NOT NULL PRIMARY KEY,
    seq         INTEGER NOT NULL,
    seal        TEXT    NOT NULL,
    secret      TEXT    NOT NULL, -- the fingerprint of the secret
    time        INTEGER NOT NULL, -- of the last sealing
    anchor_seq  INTEGER NOT NULL DEFAULT 0,
    anchor_seal TEXT    NOT NULL DEFAULT '',
    anchor_mac  TEXT    NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX audit_chains_by_time ON audit_chains (time);
