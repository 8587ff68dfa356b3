-- Not an advisory lock: any role could hold it, and nothing would be sent to any model.
CREATE TABLE embed.shared_state_lock (
    owner  text NOT NULL,
    number int NOT NULL,
    PRIMARY KEY (owner, number)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.shared_state_lock IS
    'one row for the state that sessions share about an endpoint, a model or a pipeline''s budget; locked briefly by the '
    'session that changes it';
SELECT pg_catalog.pg_extension_config_dump('embed.shared_state_lock', '');

CREATE TABLE embed.suspect (
    model   int NOT NULL,
    hash    bytea NOT NULL,
    refused boolean NOT NULL,
    last_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.suspect IS 'texts that made a whole request fail: they are sent alone, whichever row contains them';
COMMENT ON COLUMN embed.suspect.refused IS
    'true: the server refused the text; false: the request failed without mentioning the text';
SELECT pg_catalog.pg_extension_config_dump('embed.suspect', '');

-- A table of its own, so that a look locks no row of embed.model.
CREATE TABLE embed.model_watch (
    model      int PRIMARY KEY,
    revision   int NOT NULL DEFAULT 1,
    settled    boolean NOT NULL DEFAULT true,
    epoch      bigint NOT NULL DEFAULT 0,
    served_as  text,
    watched_at timestamptz,
    good_at    timestamptz,
    drift      float8,
    changed_at timestamptz,
    next_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    looks      bigint NOT NULL DEFAULT 0,
    agreeing   int NOT NULL DEFAULT 0
) WITH (fillfactor = 50, vacuum_truncate = false);
COMMENT ON TABLE embed.model_watch IS
    'one row per model that is watched: a few fixed texts are embedded again and compared with embed.model_reference';
COMMENT ON COLUMN embed.model_watch.revision IS 'the model that is served now, of those that were served under this name';
COMMENT ON COLUMN embed.model_watch.settled IS 'false while successive answers are of different models: none of them is used';
COMMENT ON COLUMN embed.model_watch.epoch IS
    'counts changes of what is served: vectors requested in one epoch are not written in another';
COMMENT ON COLUMN embed.model_watch.served_as IS 'what the server calls the model in its answers';
COMMENT ON COLUMN embed.model_watch.good_at IS 'when the last look was sent that found the revision unchanged';
COMMENT ON COLUMN embed.model_watch.drift IS 'largest 1 - cosine between a text''s vector at the last look and its reference';
COMMENT ON COLUMN embed.model_watch.looks IS 'fencing token of a look: only the session that took the last one writes its result';
COMMENT ON COLUMN embed.model_watch.agreeing IS 'consecutive looks that agreed while the model was not settled';
SELECT pg_catalog.pg_extension_config_dump('embed.model_watch', '');

CREATE TABLE embed.model_reference (
    model    int NOT NULL,
    revision int NOT NULL,
    text_no  int NOT NULL,
    vector   float4[] NOT NULL,
    PRIMARY KEY (model, revision, text_no)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.model_reference IS 'vectors of the fixed texts, by which a revision of a model is recognized';
COMMENT ON COLUMN embed.model_reference.revision IS '0: the last look that matched no revision, until the next one confirms it';
SELECT pg_catalog.pg_extension_config_dump('embed.model_reference', '');

CREATE TABLE embed.model_sweep (
    model    int NOT NULL,
    revision int NOT NULL,
    since    timestamptz NOT NULL,
    horizon  xid8,
    PRIMARY KEY (model, revision)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.model_sweep IS
    'after a change: vectors of a revision written since the last good look may be of another model, and are marked as stale. '
    'Until that is done, nothing is embedded for this revision';
COMMENT ON COLUMN embed.model_sweep.horizon IS
    'transactions below it may still write such vectors; NULL until a snapshot after the change is taken';
SELECT pg_catalog.pg_extension_config_dump('embed.model_sweep', '');
