-- set_options(int4, text): all options of a pipeline
UPDATE embed.pipeline SET options = $2::jsonb WHERE id = $1

-- set_state(int4, text): active or paused
UPDATE embed.pipeline SET state = $2 WHERE id = $1
