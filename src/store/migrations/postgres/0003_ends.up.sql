-- Keys that ended long ago are found by when they ended.
CREATE INDEX keys_by_end ON keys (expire_time);

-- Taken out after its end: nobody has to remember it.
ALTER TABLE changes DROP CONSTRAINT changes_change_check,
    ADD CONSTRAINT changes_change_check
    CHECK (change IN ('issue', 'import', 'update', 'rotate', 'revoke', 'delete', 'purge'));
