-- exists(text): is it there
SELECT pg_catalog.to_regclass($1)::oid::bigint

-- create(): owned by the table, so that they go with the extension; no members of it, so that a dump has them
CREATE SEQUENCE embed.{owner}_{number}_{name} OWNED BY embed.{owner}.id

-- drop(): with the row they belong to
DROP SEQUENCE IF EXISTS embed.{owner}_{number}_{name}
