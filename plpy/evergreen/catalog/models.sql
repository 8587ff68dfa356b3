-- find(text, int4): a model and its endpoint, by its name or its id
SELECT m.id, m.name, m.provider, m.remote_name, m.dimensions, m.options::text AS options,
       m.endpoint AS wants_endpoint, e.name AS endpoint, e.id AS endpoint_id, e.url, e.secret, e.options::text AS endpoint_options
FROM embed.model m LEFT JOIN embed.endpoint e ON e.name = m.endpoint
WHERE m.name = $1 OR m.id = $2

-- vector_type(): where pgvector's type lives, quoted
SELECT pg_catalog.quote_ident(n.nspname) AS schema
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
