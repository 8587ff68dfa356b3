-- read(jsonb): what the source has now for a JSON array of keys; {reader} is the generation's reader function
SELECT r.ord, r.src_hash, r.content, r.frame FROM {reader}($1) r

-- scan(jsonb, int4): the next keys of the source in key order; {scan} is the pipeline's scan function
SELECT s.key::pg_catalog.text AS key FROM {scan}($1, $2) s (key)

-- canonical_key(jsonb): a key in its stored form; {canonical} is the pipeline's key function
SELECT {canonical}($1)::pg_catalog.text AS key
