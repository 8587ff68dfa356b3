-- stored(int4, jsonb[]): what is embedded of these keys
SELECT d.id, d.key::pg_catalog.text AS key, d.fingerprint, d.src_hash FROM embed.document d
WHERE d.generation = $1 AND d.key = ANY ($2)
