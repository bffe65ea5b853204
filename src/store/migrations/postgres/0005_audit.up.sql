-- The audit trail. A row is written in the transaction of the mutation that it describes, and gets its place in a chain
-- afterwards: docs/audit.md.
CREATE TABLE audit_events (
    id         uuid        PRIMARY KEY, -- version 7: the order of time
    tenant     uuid        NOT NULL,
    time       timestamptz NOT NULL,
    writer     uuid        NOT NULL, -- the process
    event      text        NOT NULL,
    principal  text        NOT NULL,
    roles      text, -- of an administrator, separated by spaces
    client_ip  text,
    request_id text        NOT NULL,
    key_id     text,
    actor_id   text,
    before     text, -- JSON, as it was authenticated
    after      text,
    details    text,
    mac        text        NOT NULL,
    chain      uuid, -- until the row is sealed: NULL
    seq        bigint,
    seal       text
);
CREATE INDEX audit_events_by_key ON audit_events (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX audit_events_by_actor ON audit_events (actor_id, id) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_events_by_principal ON audit_events (principal, id);
CREATE INDEX audit_checkpoints ON audit_events (id) WHERE event = 'AuditCheckpoint';
CREATE INDEX audit_events_unsealed ON audit_events (id) WHERE seq IS NULL;
CREATE UNIQUE INDEX audit_events_by_chain ON audit_events (chain, seq) WHERE seq IS NOT NULL;

-- The last row of each chain, and the last one that retention removed.
CREATE TABLE audit_chains (
    chain       uuid        PRIMARY KEY,
    seq         bigint      NOT NULL,
    seal        text        NOT NULL,
    secret      text        NOT NULL, -- the fingerprint of the secret
    time        timestamptz NOT NULL, -- of the last sealing
    anchor_seq  bigint      NOT NULL DEFAULT 0,
    anchor_seal text        NOT NULL DEFAULT '',
    anchor_mac  text        NOT NULL DEFAULT ''
);
CREATE INDEX audit_chains_by_time ON audit_chains (time);
