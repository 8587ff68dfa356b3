-- set_state(int4, text): building, active or previous, from now on
UPDATE embed.generation SET state = $2, since = pg_catalog.clock_timestamp() WHERE id = $1
