DROP TABLE deleted_keys;
DROP INDEX keys_revoked;
DROP INDEX keys_by_status;
DROP INDEX keys_by_actor_status;
DROP INDEX keys_by_actor;
