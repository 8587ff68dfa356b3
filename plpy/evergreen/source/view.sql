-- view_digest(oid): hash of the queries of a view
SELECT embed.view_digest($1)

-- view_tables(oid): tables under a view, and the numbers of the columns that it uses
SELECT v.relation::bigint AS relation, coalesce(v.attnums, '{}')::int[] AS attnums
FROM embed.view_relations($1) v WHERE v.kind IN ('r', 'p', 'f') ORDER BY v.relation

-- is_grouped(oid): whether a view, or one below it, aggregates its rows, so that a join with it is not looked up row by row
SELECT EXISTS (SELECT FROM embed.view_relations($1) v
               JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.relation AND r.rulename = '_RETURN' AND v.kind = 'v'
               WHERE pg_catalog.substring(r.ev_action::pg_catalog.text, ':hasAggs ([a-z]+)') = 'true'
                  OR pg_catalog.substring(r.ev_action::pg_catalog.text, ':hasWindowFuncs ([a-z]+)') = 'true'
                  OR pg_catalog.substring(r.ev_action::pg_catalog.text, ':hasDistinctOn ([a-z]+)') = 'true')

-- is_deterministic(oid, int4): whether texts of a column are equal only if their bytes are
SELECT coalesce(c.collisdeterministic, true)
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = $1 AND a.attnum = $2

-- expand_body(): keys of the rows that values of a link lead to, at most $2 for each; {matches} compares with v.link
SELECT v.ord::pg_catalog.int4, k.key
FROM pg_catalog.jsonb_array_elements($1) WITH ORDINALITY v (link, ord)
CROSS JOIN LATERAL (SELECT {key_document} AS key FROM {source} s WHERE {matches} AND {not_null} LIMIT $2) k

-- page_body(): keys of the rows that one value leads to, in order, after $2 and up to $3; planned for the value
BEGIN
    RETURN QUERY EXECUTE pg_catalog.concat(
        {keys}, CASE WHEN pg_catalog.num_nulls($2) OPERATOR(pg_catalog.=) 0 THEN {after} END,
        CASE WHEN pg_catalog.num_nulls($3) OPERATOR(pg_catalog.=) 0 THEN {up_to} END, {order}) USING $1, $2, $3, $4;
END

-- keys_of_link(): the first part of that statement
SELECT DISTINCT ON ({order}) {key_document} FROM {source} s WHERE {matches} AND {not_null}

-- foreign_keys(int8[]): foreign keys among these tables, with the numbers of their columns
SELECT k.conrelid::bigint AS source, k.confrelid::bigint AS target, k.conkey::int[] AS columns, k.confkey::int[] AS referenced
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND k.conrelid::bigint = ANY ($1) AND k.confrelid::bigint = ANY ($1) AND k.conparentid = 0
ORDER BY k.conrelid, k.conname

-- has_children(oid): whether other tables inherit from it, so that their rows are in it without its triggers
SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
               WHERE i.inhparent = $1)
