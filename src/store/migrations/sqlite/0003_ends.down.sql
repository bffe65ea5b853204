DROP INDEX keys_by_end;
