-- record(int4, int4, int8, int8, int8, int8, int8, int8, float8, int8, int8, int8, float8, int8, int8): one batch
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- record_questions(int4, int4, int8, int8, int8, float8): what somebody asked a model; pipeline NULL: embed()
INSERT INTO embed.usage
    (pipeline, model, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost, questions,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe)
VALUES ($1, $2, $3, $4, $5, 0, 0, 0, $6, $4, $3, $4, $5, $6, 0, 0)

-- may_write(): not on a standby, nor in a transaction that is READ ONLY
SELECT NOT pg_catalog.current_setting('transaction_read_only')::boolean AS may

-- fold_hours(int4): batches of hours that are over become one row an hour
WITH old AS MATERIALIZED (
    SELECT u.ctid FROM embed.usage u
    WHERE NOT u.folded AND u.at < pg_catalog.date_trunc('hour', pg_catalog.clock_timestamp())
    ORDER BY u.at LIMIT $1 FOR UPDATE SKIP LOCKED),
gone AS (DELETE FROM embed.usage u WHERE u.ctid = ANY (ARRAY(SELECT o.ctid FROM old o)) RETURNING u.*)
INSERT INTO embed.usage
    (pipeline, model, at, folded, calls, texts, tokens, saved_by_fingerprint, saved_by_cache, saved_by_dedupe, cost,
     alone_calls, alone_texts, alone_tokens, alone_cost, alone_saved_by_cache, alone_saved_by_dedupe, questions)
SELECT g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at), true, sum(g.calls), sum(g.texts), sum(g.tokens),
       sum(g.saved_by_fingerprint), sum(g.saved_by_cache), sum(g.saved_by_dedupe), sum(g.cost),
       sum(g.alone_calls), sum(g.alone_texts), sum(g.alone_tokens), sum(g.alone_cost),
       sum(g.alone_saved_by_cache), sum(g.alone_saved_by_dedupe), sum(g.questions)
FROM gone g GROUP BY g.pipeline, g.model, pg_catalog.date_trunc('hour', g.at)

-- drop_orphans(): of batches that were out when their pipeline was dropped
DELETE FROM embed.usage u
WHERE u.pipeline IS NOT NULL AND NOT EXISTS (SELECT FROM embed.pipeline p WHERE p.id = u.pipeline)

-- fold_tally(): what came and went, as one row a generation; the rows of one that is gone go
WITH rows AS MATERIALIZED (
    SELECT t.ctid, t.generation FROM embed.tally t LIMIT 10000 FOR UPDATE SKIP LOCKED),
several AS (
    SELECT r.ctid FROM (SELECT r.*, count(*) OVER (PARTITION BY r.generation) AS of_it FROM rows r) r
    WHERE r.of_it > 1
       OR NOT EXISTS (SELECT FROM embed.generation g WHERE g.id = r.generation)),
gone AS (DELETE FROM embed.tally t WHERE t.ctid = ANY (ARRAY(SELECT s.ctid FROM several s)) RETURNING t.*)
INSERT INTO embed.tally (generation, documents)
SELECT x.generation, sum(x.documents) FROM gone x JOIN embed.generation g ON g.id = x.generation GROUP BY x.generation
