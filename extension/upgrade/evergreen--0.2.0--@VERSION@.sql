\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

-- As in the install script: no name resolves to a user's object.
SET LOCAL search_path TO pg_catalog, pg_temp;

@replacements@
