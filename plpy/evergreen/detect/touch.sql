-- touch(int4, jsonb[]): marks keys to be checked
INSERT INTO embed.change (pipeline, key) SELECT $1, k.key FROM pg_catalog.unnest($2) k (key)
