-- make_job(int4, jsonb): takes the place of the row's job, if there is none; waits for a session that is making one
INSERT INTO embed.job (generation, key) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING generation

-- lock_job(int4, jsonb): nobody writes this row from here on
SELECT j.token FROM embed.job j WHERE j.generation = $1 AND j.key = $2 FOR UPDATE

-- drop_job(int4, jsonb): nothing is to be done for this row
DELETE FROM embed.job WHERE generation = $1 AND key = $2

-- reset_job(int4, jsonb): whoever had it has it no more; it is to be done as if it were new
UPDATE embed.job
SET token = NULL, changes = changes + 1, attempts = 0, last_error = NULL, ready_at = pg_catalog.clock_timestamp()
WHERE generation = $1 AND key = $2

-- chunks(int4, jsonb): the row's texts and vectors go
DELETE FROM {table} g WHERE g.ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.document d
    CROSS JOIN LATERAL (SELECT c.ctid FROM {table} c WHERE c.document = d.id OFFSET 0) c
    WHERE d.generation = $1 AND d.key = $2))
RETURNING g.chunk_hash AS hash

-- document(int4, jsonb): what was recorded of the row
DELETE FROM embed.document WHERE generation = $1 AND key = $2

-- failure(int4, jsonb): the dead letter, whose message may quote the text
DELETE FROM embed.failure WHERE generation = $1 AND key = $2

-- logged(int4, jsonb): changes that nobody looked at yet
SELECT c.ctid::pg_catalog.text AS ctid FROM embed.change c WHERE c.pipeline = $1 AND c.key = $2

-- drop_logged(jsonb, text[]): of a row that is gone nothing is to be looked at
DELETE FROM embed.change WHERE ctid = ANY (ARRAY(
    SELECT c.ctid FROM embed.change c WHERE c.ctid = ANY ($2::pg_catalog.tid[]) AND c.key = $1 FOR UPDATE SKIP LOCKED))

-- under_way(int4, int8): texts of the claim that had the row; which of them is the row's nobody knows any more
SELECT i.hash FROM embed.inflight i WHERE i.model = $1 AND i.token = $2

-- land(int4, bytea[], int8): the row's texts are in flight no more
DELETE FROM embed.inflight WHERE ctid = ANY (ARRAY(
    SELECT i.ctid FROM embed.inflight i
    WHERE i.model = $1 AND i.hash = ANY ($2) AND (i.token = $3 OR i.expires_at <= pg_catalog.clock_timestamp())
    FOR UPDATE SKIP LOCKED))

-- block_cache(int4, bytea[]): placeholders; gone again before anybody could see one
INSERT INTO embed.cache (model, hash, embedding)
SELECT $1, u.hash, '[0]'::{vector} FROM pg_catalog.unnest($2) u (hash) ORDER BY u.hash
ON CONFLICT DO NOTHING

-- clear_cache(int4, bytea[]): kept vectors
DELETE FROM embed.cache WHERE model = $1 AND hash = ANY ($2)

-- kept_of_row(int4, jsonb): vectors of texts that the row had earlier
DELETE FROM embed.cache WHERE pipeline = $1 AND key = $2

-- remember(int4, bytea[]): what must not be kept, should it come late
INSERT INTO embed.forgotten (model, hash)
SELECT $1, u.hash FROM pg_catalog.unnest($2) u (hash) ORDER BY u.hash
ON CONFLICT (model, hash) DO UPDATE SET forgotten_at = pg_catalog.clock_timestamp()

-- others(oid, int4): pipelines of the same table
SELECT p.name FROM embed.pipeline p WHERE p.source = $1::pg_catalog.regclass AND p.id <> $2 ORDER BY p.name
