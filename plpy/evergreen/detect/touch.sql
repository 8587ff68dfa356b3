-- touch(int4, jsonb[]): marks keys to be checked
INSERT INTO embed.change (pipeline, key) SELECT $1, k.key FROM pg_catalog.unnest($2) k (key)

-- touch_all(int4): marks every row to be checked
INSERT INTO embed.change (pipeline, scope) VALUES ($1, 'source')
