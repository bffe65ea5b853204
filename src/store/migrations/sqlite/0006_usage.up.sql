-- What the requests of keys add up to, by key, hour and refusal. `hour` is the number of hours since 1970, UTC. `refusal` is the code of
-- the refusal, empty for requests that were not refused. `kind` and `key_id` are empty for requests that could not be counted by key.
-- Rows outlive their keys.
CREATE TABLE key_usage (
    tenant         TEXT    NOT NULL,
    kind           TEXT    NOT NULL CHECK (kind IN ('issued', 'imported', '')),
    key_id         TEXT    NOT NULL,
    hour           INTEGER NOT NULL,
    refusal        TEXT    NOT NULL,
    requests       INTEGER NOT NULL,
    bytes_received INTEGER NOT NULL,
    bytes_sent     INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, key_id, hour, refusal)
) WITHOUT ROWID;
CREATE INDEX key_usage_by_hour ON key_usage (hour);

-- The last batch of each process that adds to these rows: a batch is added once, also if a process sends it again because it does not
-- know whether it was added.
CREATE TABLE usage_writers (
    writer TEXT    PRIMARY KEY,
    batch  INTEGER NOT NULL,
    hour   INTEGER NOT NULL -- of the batch
) WITHOUT ROWID;
