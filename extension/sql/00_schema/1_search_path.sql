-- Every name below is qualified or one of these; the script must not find a user's operator or function.
SET LOCAL search_path TO pg_catalog, pg_temp;
