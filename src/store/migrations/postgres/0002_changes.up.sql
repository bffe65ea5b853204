-- The feed that every node follows. A change is written in the transaction that makes it. `xid` tells a reader which
-- transactions it has seen: `seq` alone would not, because transactions do not commit in its order.
CREATE TABLE changes (
    xid     xid8        NOT NULL DEFAULT pg_current_xact_id(),
    seq     bigint      GENERATED ALWAYS AS IDENTITY,
    time    timestamptz NOT NULL DEFAULT clock_timestamp(), -- shortly before the commit
    tenant  uuid        NOT NULL,
    kind    text        NOT NULL,
    key_id  text        NOT NULL,
    change  text        NOT NULL CHECK (change IN ('issue', 'import', 'update', 'rotate', 'revoke', 'delete')),
    version bigint      NOT NULL, -- of the key after the change; of a deleted one, its last
    PRIMARY KEY (xid, seq)
);

-- Moments, and the oldest transaction that was under way then: all changes of older ones could be read by everybody from
-- that moment on.
CREATE TABLE change_marks (
    time timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    xid  xid8        NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot())
);

-- Changes of older transactions than this one have been taken out. One row.
CREATE TABLE pruned_changes (
    id  smallint PRIMARY KEY CHECK (id = 1),
    xid xid8     NOT NULL
);
INSERT INTO pruned_changes VALUES (1, '0');

CREATE FUNCTION keygate_notify_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added) THEN
        PERFORM pg_notify('keygate_changes', '');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER notify_changes AFTER INSERT ON changes REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION keygate_notify_changes();
