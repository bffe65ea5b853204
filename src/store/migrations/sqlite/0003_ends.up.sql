-- Keys that ended long ago are found by when they ended.
CREATE INDEX keys_by_end ON keys (expire_time);
