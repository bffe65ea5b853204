DROP TABLE usage_writers;
DROP TABLE key_usage;
