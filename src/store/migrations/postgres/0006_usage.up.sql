-- What the requests of keys add up to, by key, hour and refusal. `hour` is the number of hours since 1970, UTC:
-- to_timestamp(hour * 3600). `refusal` is the code of the refusal, empty for requests that were not refused. `kind` and `key_id` are
-- empty for requests that a node could not count by key. Rows outlive their keys. Space is left in each page, so that a count can grow
-- without a new entry in the indexes.
CREATE TABLE key_usage (
    tenant         uuid   NOT NULL,
    kind           text   NOT NULL COLLATE "C" CHECK (kind IN ('issued', 'imported', '')),
    key_id         text   NOT NULL COLLATE "C",
    hour           bigint NOT NULL,
    refusal        text   NOT NULL COLLATE "C",
    requests       bigint NOT NULL,
    bytes_received bigint NOT NULL,
    bytes_sent     bigint NOT NULL,
    PRIMARY KEY (tenant, kind, key_id, hour, refusal)
) WITH (fillfactor = 80);
CREATE INDEX key_usage_by_hour ON key_usage (hour);

-- The last batch of each process that adds to these rows: a batch is added once, also if a process sends it again because it does not
-- know whether it was added.
CREATE TABLE usage_writers (
    writer uuid   PRIMARY KEY,
    batch  bigint NOT NULL,
    hour   bigint NOT NULL -- of the batch
);
