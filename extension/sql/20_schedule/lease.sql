CREATE SEQUENCE embed.token;
COMMENT ON SEQUENCE embed.token IS 'tokens of claims; never used twice';
SELECT pg_catalog.pg_extension_config_dump('embed.token', '');

CREATE TABLE embed.lease (
    token      bigint PRIMARY KEY,
    generation int NOT NULL,
    expires_at timestamptz NOT NULL,
    outside    interval
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.lease IS
    'claims under way; over when expired, deleted, or when the session advisory lock that its worker holds on the token is free';
COMMENT ON COLUMN embed.lease.outside IS
    'of a claim by embed_claim: how long it is good each time it is renewed; no session stands for it, so it goes by time alone';
SELECT pg_catalog.pg_extension_config_dump('embed.lease', '');

CREATE FUNCTION embed.lease_end(claim bigint = NULL) RETURNS timestamptz
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT pg_catalog.clock_timestamp()
           + coalesce((SELECT l.outside FROM embed.lease l WHERE l.token = claim),
                      (SELECT s.value FROM embed.setting s WHERE s.name = 'lease')::interval, '5 minutes'::interval)
$sql$;
COMMENT ON FUNCTION embed.lease_end(bigint) IS
    'internal: until when a claim made or renewed now is good: as long as embed_claim was told, else as embed_setting(''lease'') says';

-- Any role may take any advisory lock and keep it, so what such a lock says counts only when a worker has it.
CREATE FUNCTION embed.held_by_worker(class int, number int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    PERFORM pg_catalog.pg_stat_clear_snapshot();  -- who came since this transaction looked last
    RETURN EXISTS (
        SELECT FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
        JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
          AND l.classid = class::bigint::oid AND l.objid = number::bigint::oid
          AND (pg_catalog.pg_has_role(a.usesysid, 'embed_worker', 'MEMBER')
               OR pg_catalog.has_function_privilege(a.usesysid, '@extschema@.embed_work(text, interval, boolean, int, boolean)', 'EXECUTE')));
END
$plpgsql$;
COMMENT ON FUNCTION embed.held_by_worker(int, int) IS 'internal: has a session that may work this advisory lock';

-- That the lock can be had (shared, to the end of this transaction) is the proof that no worker has it. Somebody else may
-- have taken it when the worker was gone: looked for where the claim is older than most get, as it costs more.
CREATE FUNCTION embed.is_abandoned(token bigint, expires_at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    number constant int = (token & 2147483647)::int;
BEGIN
    RETURN NOT EXISTS (SELECT FROM embed.lease l WHERE l.token = is_abandoned.token AND l.outside IS NOT NULL)
       AND (pg_catalog.pg_try_advisory_xact_lock_shared(1163285062, number)
        OR (expires_at < embed.lease_end() - pg_catalog.make_interval(secs => 5) AND NOT embed.held_by_worker(1163285062, number)));
END
$plpgsql$;
COMMENT ON FUNCTION embed.is_abandoned(bigint, timestamptz) IS 'internal: is the worker of a claim gone; nobody knows it of one outside, before its time is up';

CREATE TABLE embed.inflight (
    model int NOT NULL,
    hash  bytea NOT NULL,
    token bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (model, hash)
) WITH (vacuum_truncate = false);
COMMENT ON TABLE embed.inflight IS 'texts being embedded right now, so that nobody else sends them too';
SELECT pg_catalog.pg_extension_config_dump('embed.inflight', '');
