DROP TABLE deleted_keys;
DROP TABLE keys;
