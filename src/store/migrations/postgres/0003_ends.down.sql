UPDATE changes SET change = 'delete' WHERE change = 'purge';
ALTER TABLE changes DROP CONSTRAINT changes_change_check,
    ADD CONSTRAINT changes_change_check CHECK (change IN ('issue', 'import', 'update', 'rotate', 'revoke', 'delete'));
DROP INDEX keys_by_end;
