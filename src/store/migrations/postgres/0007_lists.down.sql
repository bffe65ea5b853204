DROP TABLE nodes;
DROP INDEX keys_never_used;
DROP INDEX keys_by_last_use;
DROP INDEX keys_by_expiry;
DROP INDEX keys_by_actor_prefix;
DROP INDEX keys_by_name;
