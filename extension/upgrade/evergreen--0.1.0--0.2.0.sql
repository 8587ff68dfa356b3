\echo Use "ALTER EXTENSION evergreen UPDATE" to load this file. \quit

-- Drafted by `python -m evergreen_host.upgrade` from the install scripts of both versions. What is generated for each
-- pipeline is made anew by the first worker that looks at it; until then triggers and readers of the version before go on.

SET LOCAL search_path TO pg_catalog, pg_temp;

DROP FUNCTION embed.lease_end();

DROP PROCEDURE @extschema@.embed_work(pipeline text, max_runtime interval, until_empty boolean, slot int);

COMMENT ON ROLE embed_worker IS
    'evergreen: may drain, work, schedule and claim (which shows the texts of every pipeline)';

ALTER TABLE embed.pipeline DROP CONSTRAINT pipeline_capture_check,
    ADD CONSTRAINT pipeline_capture_check CHECK (capture IN ('trigger', 'cdc', 'manual'));

ALTER TABLE embed.change ADD COLUMN bulk boolean, ADD COLUMN wake boolean;

COMMENT ON COLUMN embed.change.bulk IS
    'was it written by a transaction of many rows; NULL where that transaction logged it itself, and they can be counted';

COMMENT ON COLUMN embed.change.wake IS 'true where a worker slept when the row was written: it is woken by the commit';

CREATE TABLE embed.handed (
    token  bigint NOT NULL,
    hash   bytea NOT NULL,
    key    jsonb NOT NULL,
    tokens int NOT NULL,
    came   boolean NOT NULL DEFAULT false
) WITH (vacuum_truncate = false);

CREATE INDEX handed_token_idx ON embed.handed (token, hash);

COMMENT ON TABLE embed.handed IS
    'texts that embed_claim handed out and the rows that need them, until the claim is over, or an hour after its time was up';

COMMENT ON COLUMN embed.handed.hash IS
    'of a text; empty for a row of the claim that another session had locked when nothing was left to be done for it';

COMMENT ON COLUMN embed.handed.tokens IS 'as estimated, and taken out of a daily budget';

COMMENT ON COLUMN embed.handed.came IS 'whether its vector came';

SELECT pg_catalog.pg_extension_config_dump('embed.handed', '');

ALTER TABLE embed.lease ADD COLUMN outside interval;

COMMENT ON COLUMN embed.lease.outside IS
    'of a claim by embed_claim: how long it is good each time it is renewed; no session stands for it, so it goes by time alone';

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

CREATE OR REPLACE FUNCTION embed.held_by_worker(class int, number int) RETURNS boolean
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

CREATE OR REPLACE FUNCTION embed.is_abandoned(token bigint, expires_at timestamptz) RETURNS boolean
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

ALTER TABLE embed.scan ADD COLUMN walked bigint NOT NULL DEFAULT 0, ADD COLUMN moved_at timestamptz,
    ADD COLUMN worked interval NOT NULL DEFAULT '0';

COMMENT ON COLUMN embed.scan.walked IS 'keys since it was started, counted as it moves: what progress is reckoned from';

COMMENT ON COLUMN embed.scan.worked IS 'time since it was started, without that in which nobody moved it';

CREATE SEQUENCE embed.asleep_until MINVALUE 0 START 0;

COMMENT ON SEQUENCE embed.asleep_until IS
    'until when a worker sleeps and wants to be woken, in milliseconds since 1970; a sequence, because it is read at once by all';

CREATE FUNCTION embed.may_notify() RETURNS boolean
LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $sql$
    -- PREPARE TRANSACTION fails after a NOTIFY. Where it is possible at all, NOTIFY is sent by what is a commit and nothing
    -- else: by COMMIT, by the one statement of a transaction, or after it (then there is no query). An apply worker has none
    -- either, and may prepare.
    SELECT pg_notification_queue_usage() < 0.5
       AND current_setting('lock_timeout')::interval NOT BETWEEN '1 ms' AND '999 ms'
       AND (current_setting('max_prepared_transactions') = '0'
            OR (current_setting('session_replication_role') <> 'replica'
                AND coalesce(current_query(), '') !~* 'prepare'
                AND (coalesce(current_query(), '') ~* '^\s*(commit\M|end\M|$)' OR statement_timestamp() = transaction_timestamp())))
$sql$;

COMMENT ON FUNCTION embed.may_notify() IS
    'internal: can NOTIFY do no harm to the transaction that is about to end: neither a full queue, nor lock_timeout, nor PREPARE';

CREATE FUNCTION embed.wake() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    -- In this order: a sleeper has said that it sleeps before it has the lock.
    IF pg_catalog.pg_try_advisory_xact_lock_shared(1163285066, 0) THEN
        RETURN NULL;
    END IF;
    IF (SELECT s.last_value FROM embed.asleep_until s) > 1000 * pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
       AND embed.may_notify() THEN
        -- A commit with a NOTIFY takes a lock, and fails where the table of locks is full: is there room for one?
        IF pg_catalog.pg_try_advisory_lock_shared(1163285066, pg_catalog.pg_backend_pid()) THEN
            PERFORM pg_catalog.pg_advisory_unlock_shared(1163285066, pg_catalog.pg_backend_pid());
            PERFORM pg_catalog.pg_notify('evergreen_wake', '');
        END IF;
    END IF;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN  -- whatever it is, a writer's commit is not to fail for it: workers poll, too
    RETURN NULL;
END
$plpgsql$;

COMMENT ON FUNCTION embed.wake() IS 'internal: wakes the worker that sleeps, by the commit of whoever wrote';

CREATE CONSTRAINT TRIGGER wake AFTER INSERT ON embed.change DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.wake) EXECUTE FUNCTION embed.wake();

ALTER TABLE embed.change ENABLE ALWAYS TRIGGER wake;

COMMENT ON TRIGGER wake ON embed.change IS 'for rows written while a worker slept, at the end of their transaction';

CREATE TABLE embed.wal (
    pipeline int PRIMARY KEY,
    state    text NOT NULL CHECK (state IN ('wanted', 'joining', 'settling', 'reading', 'leaving', 'unable')),
    triggers boolean NOT NULL DEFAULT false,
    checks   boolean NOT NULL DEFAULT true,
    horizon  xid8,
    position pg_lsn,
    leaves   oid[],
    note     text
) WITH (fillfactor = 50, vacuum_truncate = false);

COMMENT ON TABLE embed.wal IS 'pipelines whose changes are read from the WAL, are to be, or still have to be read to the end';

COMMENT ON COLUMN embed.wal.state IS
    'wanted: not in the publication; joining: transactions go on that began before it was; settling: read up to position, then '
    'reading; leaving: read up to position, then forgotten; unable: the replica identity does not do, and triggers capture';

COMMENT ON COLUMN embed.wal.triggers IS 'triggers capture meanwhile';

COMMENT ON COLUMN embed.wal.checks IS 'nothing captures meanwhile: every row is checked as soon as something does';

COMMENT ON COLUMN embed.wal.leaves IS 'the tables that were looked at last: the source and its partitions';

COMMENT ON COLUMN embed.wal.note IS 'why it is not read, or was not';

CREATE TABLE embed.wal_position (
    slot name NOT NULL,
    lsn  pg_lsn NOT NULL
) WITH (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = false);

COMMENT ON TABLE embed.wal_position IS 'up to where the WAL was read, by replication slot; the furthest counts';

CREATE SEQUENCE embed.wal_awaited;

COMMENT ON SEQUENCE embed.wal_awaited IS 'a position, as a number, up to which somebody waits for the WAL to be read: it is to be noted';

CREATE FUNCTION embed.slot_name() RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT ('evergreen_' || d.oid)::name FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
$sql$;

COMMENT ON FUNCTION embed.slot_name() IS 'internal: the replication slot of this database';

CREATE FUNCTION embed.slot_lag() RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
                THEN pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn)::bigint END
    FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = embed.slot_name()
$sql$;

COMMENT ON FUNCTION embed.slot_lag() IS 'internal: bytes of WAL that the replication slot of this database keeps';

SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';

SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE TABLE embed.lag (
    pipeline int NOT NULL,
    at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    folded   boolean NOT NULL DEFAULT false,
    buckets  int2[] NOT NULL,
    counts   bigint[] NOT NULL
) WITH (vacuum_truncate = false);

CREATE INDEX lag_pipeline_idx ON embed.lag (pipeline, at);

CREATE INDEX lag_unfolded_idx ON embed.lag (at) WHERE NOT folded;

COMMENT ON TABLE embed.lag IS
    'how long live changes took to be searchable: histograms, a row a batch, folded into a row a minute, kept for an hour; only inserted and deleted';

COMMENT ON COLUMN embed.lag.buckets IS 'bucket b holds what took up to 2 ^ (b / 4) milliseconds and more than bucket b - 1 holds: four to a doubling';

SELECT pg_catalog.pg_extension_config_dump('embed.lag', '');

CREATE TABLE embed.tally (
    generation int NOT NULL,
    documents  bigint NOT NULL
) WITH (
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = false
);

CREATE INDEX tally_generation_idx ON embed.tally (generation);

COMMENT ON TABLE embed.tally IS 'documents of a generation: the sum over its rows';

CREATE FUNCTION embed.count_documents() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    INSERT INTO embed.tally (generation, documents)
    SELECT m.generation, CASE TG_OP WHEN 'INSERT' THEN count(*) ELSE -count(*) END FROM moved m GROUP BY m.generation;
    RETURN NULL;
END
$plpgsql$;

COMMENT ON FUNCTION embed.count_documents() IS 'internal: trigger, keeps embed.tally';

CREATE TRIGGER tally_insert AFTER INSERT ON embed.document REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();

CREATE TRIGGER tally_delete AFTER DELETE ON embed.document REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION embed.count_documents();

ALTER TABLE embed.document ENABLE ALWAYS TRIGGER tally_insert, ENABLE ALWAYS TRIGGER tally_delete;

CREATE OR REPLACE FUNCTION @extschema@.embed_elevate() RETURNS void
LANGUAGE plpython3u VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '200ms'
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen import gate
gate.run()
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_elevate_stable() RETURNS void
LANGUAGE plpython3u STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen import gate
gate.run()
$python$;

CREATE FUNCTION embed.unfit(source regclass, key int2[]) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $sql$
    WITH leaf AS (
        SELECT c.oid, c.oid::pg_catalog.regclass AS name, c.relpersistence, c.relreplident
        FROM (SELECT t.relid FROM pg_catalog.pg_partition_tree(source) t UNION SELECT source) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid AND c.relkind = 'r'
    ), key_column AS (
        SELECT a.attname, a.attgenerated FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = source AND a.attnum = ANY (key) AND NOT a.attisdropped
    ), told AS (
        SELECT l.*, (SELECT i.indkey::int2[] FROM pg_catalog.pg_index i
                     WHERE i.indrelid = l.oid AND i.indisvalid
                       AND CASE l.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END) AS identity
        FROM leaf l
    )
    SELECT CASE
        WHEN EXISTS (SELECT FROM key_column k WHERE k.attgenerated <> '')
            THEN pg_catalog.format('a column of the primary key of table %s is generated, and those are not replicated', source)
        ELSE (SELECT CASE
            WHEN t.relpersistence <> 'p' THEN pg_catalog.format('table %s is not logged', t.name)
            WHEN t.relreplident = 'n' THEN pg_catalog.format('table %s has REPLICA IDENTITY NOTHING', t.name)
            WHEN t.identity IS NULL THEN pg_catalog.format('table %s has no replica identity', t.name)
            ELSE pg_catalog.format('the replica identity of table %s does not tell the primary key', t.name) END
            FROM told t
            WHERE t.relpersistence <> 'p'
               OR (t.relreplident <> 'f' AND (t.identity IS NULL OR EXISTS (
                   SELECT FROM key_column k WHERE NOT EXISTS (
                       SELECT FROM pg_catalog.pg_attribute a
                       WHERE a.attrelid = t.oid AND a.attname = k.attname AND a.attnum = ANY (t.identity)))))
            LIMIT 1)
        END
$sql$;

COMMENT ON FUNCTION embed.unfit(regclass, int2[]) IS 'internal: why changes of a table cannot be read from the WAL; NULL where they can';

CREATE FUNCTION embed.leave_publication(pipeline int) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '1s'
AS $plpgsql$
DECLARE
    published record;
BEGIN
    SELECT p.source, embed.unfit(p.source, p.key_attnums) AS why INTO published
    FROM embed.pipeline p
    JOIN pg_catalog.pg_publication_rel r ON r.prrelid = p.source
    JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid AND u.pubname = 'evergreen_cdc'
    WHERE p.id = leave_publication.pipeline;
    IF published.why IS NULL THEN
        RETURN;
    END IF;
    EXECUTE pg_catalog.format('ALTER PUBLICATION evergreen_cdc DROP TABLE ONLY %s', published.source);
    INSERT INTO embed.wal AS w (pipeline, state, triggers, note)
    SELECT p.id, 'unable', true, published.why FROM embed.pipeline p WHERE p.source = published.source AND p.capture = 'cdc'
    ON CONFLICT ON CONSTRAINT wal_pkey DO UPDATE SET state = 'unable', triggers = true, checks = true, note = EXCLUDED.note;
END
$plpgsql$;

COMMENT ON FUNCTION embed.leave_publication(int) IS
    'internal: takes a source out of the publication where the user''s UPDATE and DELETE would fail because of it';

CREATE OR REPLACE FUNCTION embed.refresh(pipeline int, dropped boolean = false, attnum int = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $python$
@boot@
from evergreen.detect import follow
follow.refresh(pipeline, dropped, attnum)
$python$;

CREATE OR REPLACE FUNCTION embed.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    touched record;
BEGIN
    FOR touched IN
        WITH RECURSIVE command AS (
            SELECT c.classid, c.objid, c.objsubid FROM pg_catalog.pg_event_trigger_ddl_commands() c
        ), below AS (
            SELECT c.objid AS relation, c.objsubid FROM command c
            WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
            UNION
            SELECT i.inhrelid, 0 FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relation
        )
        SELECT p.id, max(nullif(b.objsubid, 0)) AS attnum
        FROM embed.pipeline p
        JOIN pg_catalog.pg_class r ON r.oid = p.source
        LEFT JOIN below b ON b.relation = p.source
        WHERE b.relation IS NOT NULL
           OR EXISTS (SELECT FROM command c, pg_catalog.pg_partition_ancestors(c.objid) a
                      WHERE c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.relid = p.source)
           OR EXISTS (SELECT FROM command c
                      WHERE c.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND c.objid = r.relnamespace)
           OR (EXISTS (SELECT FROM command c WHERE c.classid IN ('pg_catalog.pg_type'::pg_catalog.regclass,
                                                                'pg_catalog.pg_extension'::pg_catalog.regclass,
                                                                'pg_catalog.pg_namespace'::pg_catalog.regclass))
               AND (r.reloftype <> 0 OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                                WHERE a.attrelid = p.source AND a.atttypid >= 16384)))
        GROUP BY p.id
    LOOP
        BEGIN
            PERFORM embed.leave_publication(touched.id);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not take the source of pipeline % out of its publication: %', touched.id, SQLERRM
                USING HINT = 'UPDATE and DELETE may fail until ALTER PUBLICATION evergreen_cdc DROP TABLE … is done.';
        END;
        BEGIN
            PERFORM embed.refresh(touched.id, false, touched.attnum::int);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not follow this change of pipeline %: %', touched.id, SQLERRM
                USING HINT = 'The next embed_drain() or embed_work() tries again.';
        END;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not look at this DDL command: %', SQLERRM;
END
$plpgsql$;

CREATE OR REPLACE FUNCTION embed.follow_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    touched int;
BEGIN
    FOR touched IN
        SELECT DISTINCT p.id
        FROM pg_catalog.pg_event_trigger_dropped_objects() d, embed.pipeline p
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objsubid = 0 AND d.objid = p.source
    LOOP
        BEGIN
            PERFORM embed.refresh(touched, true);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not follow the drop of the source of pipeline %: %', touched, SQLERRM;
        END;
    END LOOP;
    -- With an index may go a replica identity.
    FOR touched IN
        SELECT p.id
        FROM embed.pipeline p
        JOIN pg_catalog.pg_publication_rel r ON r.prrelid = p.source
        JOIN pg_catalog.pg_publication u ON u.oid = r.prpubid AND u.pubname = 'evergreen_cdc'
        WHERE EXISTS (SELECT FROM pg_catalog.pg_event_trigger_dropped_objects() d
                      WHERE d.object_type IN ('index', 'table constraint') AND NOT d.is_temporary)
          AND embed.unfit(p.source, p.key_attnums) IS NOT NULL
    LOOP
        BEGIN
            PERFORM embed.leave_publication(touched);
            PERFORM embed.refresh(touched, false);
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING 'evergreen could not take the source of pipeline % out of its publication: %', touched, SQLERRM
                USING HINT = 'UPDATE and DELETE may fail until ALTER PUBLICATION evergreen_cdc DROP TABLE … is done.';
        END;
    END LOOP;
    -- A partition that goes takes its rows with it, and no row trigger fires.
    INSERT INTO embed.change (pipeline, scope)
    SELECT DISTINCT p.id, 'document'
    FROM pg_catalog.pg_event_trigger_dropped_objects() d
    JOIN embed.pipeline p ON d.object_type = 'table' AND d.objsubid = 0 AND d.objid <> p.source
    JOIN pg_catalog.pg_class r ON r.oid = p.source AND r.relkind = 'p'
    WHERE NOT d.is_temporary;
EXCEPTION
    WHEN undefined_table OR invalid_schema_name THEN
        NULL;  -- DROP EXTENSION evergreen: the catalog goes in this very command
    WHEN OTHERS THEN
        RAISE WARNING 'evergreen could not look at this DROP command: %', SQLERRM;
END
$plpgsql$;

CREATE FUNCTION embed.follow_end() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF pg_catalog.current_query() ~* '\mdrop\s+extension\M.*\mevergreen\M.*\mcascade\M' THEN
        PERFORM pg_catalog.pg_drop_replication_slot(s.slot_name) FROM pg_catalog.pg_replication_slots s
        WHERE s.slot_name = embed.slot_name();
        DROP PUBLICATION IF EXISTS evergreen_cdc;
    END IF;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'evergreen could not drop its replication slot %: %', embed.slot_name(), SQLERRM
        USING HINT = 'SELECT pg_drop_replication_slot(…); DROP PUBLICATION evergreen_cdc;';
END
$plpgsql$;

COMMENT ON FUNCTION embed.follow_end() IS 'internal: event trigger, drops the replication slot before DROP EXTENSION … CASCADE';

CREATE EVENT TRIGGER evergreen_follow_end ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION')
    EXECUTE FUNCTION embed.follow_end();

COMMENT ON EVENT TRIGGER evergreen_follow_end IS 'evergreen: leaves no replication slot behind';

ALTER EVENT TRIGGER evergreen_follow_end ENABLE ALWAYS;

CREATE OR REPLACE FUNCTION @extschema@.embed_alter(pipeline text, options jsonb) RETURNS jsonb
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import alter
return alter.embed_alter(pipeline, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_alter(text, jsonb) IS
    'merges options into a pipeline''s (null resets one) and returns them all: on_too_long (fail or truncate), max_attempts, '
    'live_share, daily_tokens, daily_cost, previous_kept, slot_limit, wakeup, language; embed_create takes the same';

CREATE FUNCTION @extschema@.embed_capture_set(pipeline text, capture text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import capture as captures
captures.embed_capture_set(pipeline, capture)
$python$;

COMMENT ON FUNCTION @extschema@.embed_capture_set(text, text) IS
    'how changes of the source are seen from now on: by triggers, in the WAL (cdc), or by your own embed_touch (manual); '
    'switches without a gap, to cdc as soon as a worker has made the replication slot';

CREATE OR REPLACE FUNCTION @extschema@.embed_chunk_text(size int = 800, overlap int = 0) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_text(size, overlap)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_chunk_markdown(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_markdown(size, context)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_chunk_html(size int = 800, context boolean = false) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_html(size, context)
$python$;

CREATE FUNCTION @extschema@.embed_chunk_recursive(
    size int = 800, overlap int = 0, separators text[] = ARRAY[E'\n\n', E'\n', ' ', '']) RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_recursive(size, overlap, separators)
$python$;

COMMENT ON FUNCTION @extschema@.embed_chunk_recursive(int, int, text[]) IS
    'chunker: as LangChain''s RecursiveCharacterTextSplitter, for texts that were cut so before: at the first of the separators that '
    'there is, what is then too long at the next ('''' cuts anywhere), and packed until a chunk is full; an edit moves the boundaries '
    'after it. size and overlap are maxima, in characters; what no separator can cut is longer';

CREATE FUNCTION @extschema@.embed_chunk_separator(size int = 800, overlap int = 0, separator text = E'\n\n') RETURNS jsonb
LANGUAGE plpython3u IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import chunkers
return chunkers.embed_chunk_separator(size, overlap, separator)
$python$;

COMMENT ON FUNCTION @extschema@.embed_chunk_separator(int, int, text) IS
    'chunker: as LangChain''s CharacterTextSplitter, for texts that were cut so before: at one separator, and packed until a chunk is '
    'full; an edit moves the boundaries after it. size and overlap are maxima, in characters; what the separator does not cut is longer';

CREATE OR REPLACE FUNCTION @extschema@.embed_create(
    name text, source regclass, columns text[] = NULL, template text = NULL, model text = NULL, chunker jsonb = NULL,
    capture text = 'trigger', backfill boolean = true, if_not_exists boolean = false, view_name name = NULL,
    only_if name = NULL, options jsonb = '{}') RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import create
return create.embed_create(name, source, columns, template, model, chunker, capture, backfill, if_not_exists,
                           view_name, only_if, options)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_drop(pipeline text, keep_embeddings boolean = false, if_exists boolean = false)
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import drop
drop.embed_drop(pipeline, keep_embeddings, if_exists)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_get_def(pipeline text) RETURNS text
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import definition
return definition.embed_get_def(pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_model_add(
    name text, provider text, dimensions int, remote_name text = NULL, endpoint text = NULL, options jsonb = '{}')
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import model
model.embed_model_add(name, provider, dimensions, remote_name, endpoint, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_model_add(text, text, int, text, text, jsonb) IS
    'registers a model under a name (embed_admin). provider: openai (and what speaks as it does), ollama, cohere, voyage, '
    'function or hash; remote_name: what it is called there, or your function; options: price, prompts, what a request may hold';

CREATE OR REPLACE FUNCTION @extschema@.embed_model_drop(name text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import model
model.embed_model_drop(name)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_endpoint_set(name text, url text, secret text = NULL, options jsonb = '{}')
RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import endpoint
endpoint.embed_endpoint_set(name, url, secret, options)
$python$;
COMMENT ON FUNCTION @extschema@.embed_endpoint_set(text, text, text, jsonb) IS
    'where models are served (embed_admin): url, the name of a secret, never its value; options: time-outs, limits, proxy, allow_http';

CREATE OR REPLACE FUNCTION @extschema@.embed_pause(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import alter
alter.embed_pause(pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_resume(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import alter
alter.embed_resume(pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_preview(
    source regclass, columns text[] = NULL, template text = NULL, chunker jsonb = NULL, model text = NULL)
RETURNS TABLE (key jsonb, chunk_no int, chunk text, tokens int)
LANGUAGE plpython3u VOLATILE ROWS 10
SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO, YMD'
SET "IntervalStyle" = 'postgres'
SET "TimeZone" = 'UTC'
SET extra_float_digits = '1'
SET bytea_output = 'hex'
SET lc_monetary = 'C'
AS $python$
@boot@
from evergreen.setup import preview
return preview.embed_preview(source, columns, template, chunker, model)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_setting(name text, value text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.setup import setting
return setting.embed_setting(name, value)
$python$;
COMMENT ON FUNCTION @extschema@.embed_setting(text, text) IS
    'a setting of this database: default_model, cache_retention, lease or index_from; with a value, sets it first (embed_admin)';

CREATE OR REPLACE FUNCTION @extschema@.embed_touch(pipeline text, VARIADIC keys jsonb[]) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.detect import touch
return touch.embed_touch(pipeline, keys)
$python$;

SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';

CREATE FUNCTION @extschema@.embed_adopt(pipeline text, texts text[], vectors vector[], keys jsonb[] = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.apply import adopt
return adopt.embed_adopt(pipeline, texts, vectors, keys)
$python$;

COMMENT ON FUNCTION @extschema@.embed_adopt(text, text[], vector[], jsonb[]) IS
    'vectors made elsewhere by the model of a pipeline, with the texts as they were sent: kept for cache_retention, so that rows whose '
    'text is one of these cost no call. Makes no row fresh: the next drain does that, if the text is still the same. keys: the texts'' '
    'rows, so that embed_forget finds them. Returns how many of the texts need no call now; those that would be cut or refused for '
    'their length, and erased ones, are not taken. embed_admin only: vectors are shared by all pipelines of a model';

SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE FUNCTION @extschema@.embed_claim(pipeline text, max_rows int, lease interval = '5 min', for_model text = NULL)
RETURNS TABLE (token bigint, key jsonb, chunk_no int, text text, hash bytea, model text)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import handout
return handout.embed_claim(pipeline, max_rows, lease, for_model)
$python$;

COMMENT ON FUNCTION @extschema@.embed_claim(text, int, interval, text) IS
    'claims up to max_rows rows for compute outside the database and returns the texts that need a model, each once, with any '
    'prompt of the model before it; rows that need none are brought up to date at once. All of one call are of one claim (token) '
    'and one generation, hence one model: the active one first, or of for_model only. Commit, embed, then embed_submit. The claim is good '
    'for the time of the lease, and for two thirds of it at least from each embed_submit on. No row: there is nothing to do now, the pipeline is paused, or '
    'its daily budget is spent';

CREATE OR REPLACE FUNCTION @extschema@.embed_drain(pipeline text = NULL, max_rows int = 1000, max_runtime interval = '55 s')
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import drain
return drain.embed_drain(pipeline, max_rows, max_runtime)
$python$;

CREATE FUNCTION @extschema@.embed_release(pipeline text, token bigint, hashes bytea[] = NULL, error text = NULL) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import giveback
return giveback.embed_release(pipeline, token, hashes, error)
$python$;

COMMENT ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) IS
    'gives back the rows of some texts that embed_claim handed out, or of all (NULL); anybody may claim them at once. With an error '
    'they lose an attempt instead, and wait, or become dead letters, as after a refusal by a model. Returns how many rows';

CREATE OR REPLACE FUNCTION @extschema@.embed_schedule(workers int = 1, pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import cron
return cron.embed_schedule(workers, pipeline)
$python$;

CREATE FUNCTION embed.cron_problems(workers int) RETURNS TABLE (problem text, hint text)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import cron
return cron.cron_problems(workers)
$python$;

COMMENT ON FUNCTION embed.cron_problems(int) IS
    'internal: what keeps pg_cron from running so many workers beside those that are scheduled, and what mends it';

CREATE OR REPLACE FUNCTION @extschema@.embed_unschedule(pipeline text = NULL) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import cron
return cron.embed_unschedule(pipeline)
$python$;

CREATE FUNCTION @extschema@.embed_sleep(pipeline text = NULL, OUT asleep boolean, OUT seconds float8)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import sleep
return sleep.embed_sleep(pipeline)
$python$;

COMMENT ON FUNCTION @extschema@.embed_sleep(text) IS
    'for evergreen worker, between two calls of embed_work(until_idle => true): for how long to wait at most. asleep: until '
    'then commits NOTIFY evergreen_wake; else another worker sleeps, or somebody is writing. The next embed_work ends it';

SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';

CREATE FUNCTION @extschema@.embed_submit(
    pipeline text, token bigint, hashes bytea[], vectors vector[], tokens bigint = NULL)
RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import submit
return submit.embed_submit(pipeline, token, hashes, vectors, tokens)
$python$;

COMMENT ON FUNCTION @extschema@.embed_submit(text, bigint, bytea[], vector[], bigint) IS
    'vectors of texts that embed_claim handed out, any of them in any order; returns the rows brought up to date: those that have all '
    'their vectors now. The others'' vectors are kept meanwhile, and so are those that come when the claim is over. Renews the '
    'lease when a third of it is over, also with empty arrays. tokens: as billed, where that is known; else they are estimated';

SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE PROCEDURE @extschema@.embed_work(
    pipeline text = NULL, max_runtime interval = '55 s', until_empty boolean = false, slot int = NULL, until_idle boolean = false)
LANGUAGE plpython3u
AS $python$
@boot@
from evergreen.schedule import work
work.embed_work(pipeline, max_runtime, until_empty, slot, until_idle)
$python$;

COMMENT ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) IS
    'the worker loop: commits between steps and holds no transaction while a model is called; any number side by side. '
    'slot: only one session at a time works in a slot of this number. until_empty: until nothing is left. until_idle: until '
    'there is nothing to do now, whatever has to wait for its time';

SELECT pg_catalog.set_config('search_path', pg_catalog.concat('pg_catalog, ', pg_catalog.quote_ident(n.nspname), ', pg_temp'), true)
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';

CREATE OR REPLACE FUNCTION @extschema@.embed(text text, model text = NULL) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.ask import query
return query.embed(text, model)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_query(pipeline text, text text) RETURNS vector
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.ask import query
return query.embed_query(pipeline, text)
$python$;

SET LOCAL search_path TO pg_catalog, pg_temp;

CREATE OR REPLACE FUNCTION @extschema@.embed_search(
    pipeline text, query text, k int = 10, mode text = 'vector', stale text = 'serve', max_per_key int = NULL,
    min_score float8 = NULL)
RETURNS TABLE (key jsonb, chunk_no int, chunk text, score float8, is_stale boolean)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
SET hnsw.iterative_scan = 'strict_order'
AS $python$
@boot@
from evergreen.ask import search
return search.embed_search(pipeline, query, k, mode, stale, max_per_key, min_score)
$python$;

COMMENT ON FUNCTION @extschema@.embed_search(text, text, int, text, text, int, float8) IS
    'the k best chunks for a question, as the caller may see them; mode vector (score: cosine similarity), keyword (full text search) or hybrid (both, by reciprocal rank fusion); a higher score is better';

CREATE OR REPLACE FUNCTION @extschema@.embed_search_rows_sql(source regclass, query text, k int, pipeline text) RETURNS text[]
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.ask import rows
return rows.search_rows_sql(source, query, k, pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_search_rows_pipeline(source regclass) RETURNS text
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.ask import rows
return rows.only_pipeline(source)
$python$;

CREATE FUNCTION @extschema@.embed_wait(pipeline text, key jsonb = NULL, timeout interval = '10 s') RETURNS boolean
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.schedule import wait
return wait.embed_wait(pipeline, key, timeout)
$python$;

COMMENT ON FUNCTION @extschema@.embed_wait(text, jsonb, interval) IS
    'read your writes: true once every change of this row (or of the pipeline) that was committed before the call is searchable; '
    'false when the time is up, and at once when it is a dead letter, or the pipeline is paused or broken. Call it after COMMIT';

CREATE FUNCTION @extschema@.embed_backfill(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import backfill
backfill.embed_backfill(pipeline)
$python$;

COMMENT ON FUNCTION @extschema@.embed_backfill(text) IS
    'has every row of the table checked, in the backfill lane and bit by bit as workers come to it; what is fresh costs no call. '
    'embed_status shows how far it is, embed_pause stops it';

CREATE OR REPLACE FUNCTION @extschema@.embed_estimate(
    pipeline text, OUT texts bigint, OUT tokens bigint, OUT calls bigint, OUT cost float8, OUT seconds float8)
RETURNS SETOF record
LANGUAGE plpython3u VOLATILE ROWS 1
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import estimate
return estimate.embed_estimate(pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_explain(pipeline text, key jsonb) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import explain
return explain.embed_explain(pipeline, key)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_forget(pipeline text, key jsonb) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import forget
return forget.embed_forget(pipeline, key)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_retry(pipeline text, key jsonb = NULL) RETURNS bigint
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import retry
return retry.embed_retry(pipeline, key)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_verify(pipeline text, repair boolean = false)
RETURNS TABLE (state text, rows bigint)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.operate import verify
return verify.embed_verify(pipeline, repair)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_build(
    pipeline text, model text = NULL, chunker jsonb = NULL, columns text[] = NULL, template text = NULL,
    options jsonb = '{}') RETURNS int
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import build
return build.embed_build(pipeline, model, chunker, columns, template, options)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_compare(pipeline text, queries text[] = NULL, k int = 10)
RETURNS TABLE (query text, overlap float8, active_keys jsonb, building_keys jsonb)
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import compare
return compare.embed_compare(pipeline, queries, k)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_promote(pipeline text, min_coverage float8 = 1.0, min_overlap float8 = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import switch
switch.embed_promote(pipeline, min_coverage, min_overlap)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_rollback(pipeline text) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import switch
switch.embed_rollback(pipeline)
$python$;

CREATE OR REPLACE FUNCTION @extschema@.embed_retire(pipeline text, generation int = NULL) RETURNS void
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import retire
retire.embed_retire(pipeline, generation)
$python$;

CREATE FUNCTION embed.index_statement(generation int) RETURNS text
LANGUAGE plpython3u VOLATILE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.generations import indexing
return indexing.index_statement(generation)
$python$;

COMMENT ON FUNCTION embed.index_statement(int) IS 'internal: the statement that makes the index over a generation''s vectors';

CREATE FUNCTION embed.planned_rows(queue text, number int) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
DECLARE
    plan json;
BEGIN
    EXECUTE CASE queue
        WHEN 'job' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.job WHERE generation = %s', number)
        WHEN 'change' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.change WHERE pipeline = %s', number)
        WHEN 'failure' THEN pg_catalog.format('EXPLAIN (FORMAT JSON) SELECT FROM embed.failure WHERE generation = %s', number)
    END INTO plan;
    RETURN (plan -> 0 -> 'Plan' ->> 'Plan Rows')::bigint;
END
$plpgsql$;

COMMENT ON FUNCTION embed.planned_rows(text, int) IS 'internal: about how many rows of a queue belong to a generation or a pipeline';

CREATE FUNCTION embed.documents(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT coalesce(sum(t.documents), 0)::bigint FROM embed.tally t WHERE t.generation = $1
$sql$;

COMMENT ON FUNCTION embed.documents(int) IS 'internal: how many documents a generation has';

CREATE FUNCTION embed.rough_chunks(generation int) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT r.rows FROM embed.rough_rows(pg_catalog.to_regclass('embed_store.g' || generation)) r
$sql$;

COMMENT ON FUNCTION embed.rough_chunks(int) IS 'internal: about how many chunks a generation has, by the catalog';

CREATE OR REPLACE VIEW @extschema@.embed_pipelines WITH (security_barrier) AS
SELECT p.name AS pipeline,
       p.source,
       p.key_names AS key_columns,
       g.columns,
       g.template,
       p.only_if,
       m.name AS model,
       g.chunker,
       p.capture,
       CASE WHEN p.broken_reason IS NULL THEN p.state ELSE 'broken' END AS state,
       p.broken_reason,
       p.view,
       p.options,
       g.id AS generation,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       p.created_at,
       p.id
FROM embed.pipeline p
LEFT JOIN embed.generation g ON g.pipeline = p.id AND g.state = 'active'
LEFT JOIN embed.model m ON m.id = g.model
LEFT JOIN pg_catalog.pg_class c ON c.oid = p.source
WHERE embed.may_see(p.source);

CREATE OR REPLACE VIEW @extschema@.embed_status WITH (security_barrier) AS
SELECT p.name AS pipeline,
       CASE WHEN p.broken_reason IS NOT NULL THEN 'broken'
            WHEN p.state = 'active' AND embed.is_over_budget(p.id, p.options) THEN 'over budget'
            ELSE p.state END AS state,
       s.source_rows AS rows,
       c.fresh,
       j.waiting + l.keys
           + CASE WHEN g.scanning THEN greatest(s.source_rows - d.documents - j.new - l.new - f.failed, 0) ELSE 0 END AS pending,
       j.in_flight,
       f.failed,
       pg_catalog.clock_timestamp() - least(j.oldest, l.oldest) AS oldest_pending_age,
       coalesce(p.broken_reason, CASE WHEN embed.may_own(p.source) THEN coalesce(g.scan_error, CASE WHEN w.state <> 'reading' OR g.scanning THEN w.note END,
                CASE WHEN l.too_long > 0 THEN pg_catalog.format(
                    '%s rows have a key longer than 2600 bytes and cannot be queued', l.too_long) END,
                j.last_error, f.last_error) END) AS last_error,
       u.calls,
       u.texts,
       u.tokens,
       u.cost,
       u.texts_saved,
       CASE WHEN l.restarts THEN 0 WHEN g.started_at IS NOT NULL THEN g.walked END AS backfill_rows,
       CASE WHEN l.restarts THEN 0
            WHEN g.started_at IS NULL THEN NULL
            WHEN g.scanning OR j.backfill > 0
                THEN least(greatest(g.walked - j.backfill, 0)::float8 / greatest(s.source_rows, 1), 0.999)
            ELSE 1 END AS backfill_progress,
       CASE WHEN g.scanning AND g.walked > 0 AND NOT l.restarts AND p.state = 'active' AND p.broken_reason IS NULL
            THEN g.worked * (greatest(s.source_rows - g.walked, 0)::float8 / g.walked) END AS backfill_eta,
       CASE WHEN s.source_rows = 0 THEN 1 ELSE least(c.fresh::float8 / s.source_rows, 1) END AS coverage,
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, t.p50 / 4.0::float8)) AS lag_p50,
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, t.p95 / 4.0::float8)) AS lag_p95,
       pg_catalog.make_interval(secs => 0.001 * pg_catalog.power(2::float8, t.p99 / 4.0::float8)) AS lag_p99,
       CASE WHEN w.state IS NULL OR (p.capture <> 'cdc' AND w.state <> 'leaving') THEN
                CASE p.capture WHEN 'cdc' THEN 'cdc wanted, slot not there yet' ELSE p.capture END
            WHEN w.state IN ('wanted', 'joining', 'settling') AND k.slot_lag IS NULL THEN 'cdc wanted, slot not there yet'
            ELSE CASE w.state
                WHEN 'wanted' THEN 'cdc wanted, not published yet'
                WHEN 'joining' THEN 'cdc wanted, earlier transactions go on'
                WHEN 'settling' THEN 'cdc wanted, being read'
                WHEN 'reading' THEN CASE WHEN k.slot_lag IS NULL THEN 'cdc, its slot is gone' ELSE 'cdc' END
                WHEN 'leaving' THEN p.capture || ', slot still read'
                ELSE 'trigger, cdc wanted' END
            END AS capture,
       k.slot_lag
FROM embed.pipeline p
LEFT JOIN embed.wal w ON w.pipeline = p.id
LEFT JOIN LATERAL (SELECT embed.slot_lag() AS slot_lag WHERE w.pipeline IS NOT NULL) k ON true
LEFT JOIN LATERAL (
    SELECT g.id, coalesce(b.running, false) AS scanning, b.walked, b.worked, b.started_at,
           (SELECT c.last_error FROM embed.scan c WHERE c.generation = g.id AND c.running AND c.last_error IS NOT NULL LIMIT 1)
               AS scan_error
    FROM embed.generation g LEFT JOIN embed.scan b ON b.generation = g.id AND b.scope = 'source'
    WHERE g.pipeline = p.id AND g.state = 'active') g ON true
CROSS JOIN LATERAL (SELECT embed.estimate_rows(p.source) AS source_rows) s
CROSS JOIN LATERAL (SELECT embed.documents(g.id) AS documents) d
-- Of a queue that is longer than 5 000 the first 5 000 are looked at, and the rest is taken to be like them.
CROSS JOIN LATERAL (
    SELECT (a.waiting * z.whole)::bigint AS waiting, (a.in_flight * z.whole)::bigint AS in_flight,
           (a.checking * z.whole)::bigint AS checking, (a.new * z.whole)::bigint AS new,
           (a.backfill * z.whole)::bigint AS backfill, a.oldest, a.last_error
    FROM (SELECT count(*) AS seen,
                 count(*) FILTER (WHERE e.token IS NULL) AS waiting,
                 count(e.token) AS in_flight,
                 count(d.key) AS checking,
                 count(*) - count(d.key) AS new,
                 min(q.changed_at) AS oldest,
                 count(*) FILTER (WHERE q.lane = 1) AS backfill,
                 (array_agg(q.last_error ORDER BY q.ready_at DESC) FILTER (WHERE q.last_error IS NOT NULL))[1] AS last_error
          FROM (SELECT j.* FROM embed.job j WHERE j.generation = g.id AND j.lane IN (0, 1) ORDER BY j.lane, j.xid LIMIT 5000) q
          LEFT JOIN LATERAL (SELECT d.key FROM embed.document d WHERE d.generation = q.generation AND d.key = q.key OFFSET 0) d
              ON true
          LEFT JOIN embed.lease e ON e.token = q.token AND e.expires_at > pg_catalog.clock_timestamp()) a
    CROSS JOIN LATERAL (SELECT CASE WHEN a.seen < 5000 THEN 1.0
                                    ELSE greatest(embed.planned_rows('job', g.id), a.seen) / a.seen::float8 END AS whole) z) j
CROSS JOIN LATERAL (
    SELECT (a.keys * z.whole)::bigint AS keys, (a.checking * z.whole)::bigint AS checking,
           ((a.keys - a.checking) * z.whole)::bigint AS new, a.too_long, a.oldest, a.restarts
    FROM (SELECT sum(q.rows) AS seen,
                 count(q.key) AS keys,
                 count(d.key) AS checking,
                 count(*) FILTER (WHERE pg_catalog.pg_column_size(q.key) > 2600) AS too_long,
                 min(q.oldest) AS oldest,
                 coalesce(bool_or(q.restarts), false) AS restarts
          FROM (SELECT c.key, count(*) AS rows, min(c.changed_at) AS oldest, bool_or(c.scope = 'source') AS restarts
                FROM (SELECT c.* FROM embed.change c WHERE c.pipeline = p.id ORDER BY c.xid LIMIT 5000) c
                GROUP BY c.key) q
          LEFT JOIN LATERAL (SELECT j.key FROM embed.job j WHERE j.generation = g.id AND j.key = q.key OFFSET 0) j ON true
          LEFT JOIN LATERAL (SELECT d.key FROM embed.document d WHERE d.generation = g.id AND d.key = q.key OFFSET 0) d ON true
          WHERE j.key IS NULL) a
    CROSS JOIN LATERAL (SELECT CASE WHEN coalesce(a.seen, 0) < 5000 THEN 1.0
                                    ELSE greatest(embed.planned_rows('change', p.id), a.seen) / a.seen::float8 END AS whole) z) l
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('failure', g.id), count(*)) END AS failed,
           (array_agg(x.message ORDER BY x.last_at DESC))[1] AS last_error
    FROM (SELECT x.message, x.last_at FROM embed.failure x WHERE x.generation = g.id LIMIT 5000) x) f
CROSS JOIN LATERAL (SELECT greatest(d.documents - j.checking - l.checking, 0) AS fresh) c
CROSS JOIN LATERAL (
    SELECT coalesce(sum(x.calls), 0)::bigint AS calls, coalesce(sum(x.texts), 0)::bigint AS texts,
           coalesce(sum(x.tokens), 0)::bigint AS tokens, sum(x.cost) AS cost,
           coalesce(sum(x.saved_by_fingerprint + x.saved_by_cache + x.saved_by_dedupe), 0)::bigint AS texts_saved
    FROM embed.usage x WHERE x.pipeline = p.id) u
CROSS JOIN LATERAL (
    SELECT min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.5) AS p50,
           min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.95) AS p95,
           min(b.bucket) FILTER (WHERE b.up_to >= b.total * 0.99) AS p99
    FROM (SELECT h.bucket, sum(sum(h.count)) OVER (ORDER BY h.bucket) AS up_to, sum(sum(h.count)) OVER () AS total
          FROM embed.lag x CROSS JOIN LATERAL unnest(x.buckets, x.counts) h (bucket, count)
          WHERE x.pipeline = p.id AND x.at > pg_catalog.clock_timestamp() - '1 h'::interval
          GROUP BY h.bucket) b) t
WHERE embed.may_see(p.source);

COMMENT ON VIEW @extschema@.embed_status IS
    'a row a pipeline: how much is fresh, waiting, at a model, given up. Cheap enough to poll: documents, calls and lags are '
    'counters; rows is the planner''s estimate for a large table; of a queue longer than 5 000 rows the first 5 000 are '
    'looked at, and how long it is is the planner''s estimate';

COMMENT ON COLUMN @extschema@.embed_status.rows IS
    'rows of the table: counted below 4 MB (or 64 MB if never analysed), else an estimate';

COMMENT ON COLUMN @extschema@.embed_status.coverage IS 'fresh / rows';

COMMENT ON COLUMN @extschema@.embed_status.lag_p50 IS
    'from a live change to its being searchable, in the last hour: half of them took no longer. Rounded up by at most a fifth '
    '(four buckets to a doubling); counted from the statement that changed the row, so a long transaction counts in';

COMMENT ON COLUMN @extschema@.embed_status.lag_p95 IS 'as lag_p50, of 95 in a hundred';

COMMENT ON COLUMN @extschema@.embed_status.lag_p99 IS 'as lag_p50, of 99 in a hundred';

COMMENT ON COLUMN @extschema@.embed_status.backfill_rows IS 'rows that the backfill has come to, counted as it goes';

COMMENT ON COLUMN @extschema@.embed_status.backfill_progress IS
    'the share of the table that the backfill has done, by the estimate of rows; 1 when it is over, NULL where there was none';

COMMENT ON COLUMN @extschema@.embed_status.backfill_eta IS 'time of work that the rest will take at the pace so far; NULL while it is not known';

COMMENT ON COLUMN @extschema@.embed_status.capture IS
    'how changes are seen: trigger, cdc, manual, or what is between two of them; last_error says what it waits for';

COMMENT ON COLUMN @extschema@.embed_status.slot_lag IS
    'bytes of WAL that the replication slot keeps on disk, for all pipelines of the database; NULL where it is not there';

CREATE OR REPLACE FUNCTION embed.model_limits(
    name text, provider text, remote_name text, dimensions int, options jsonb,
    OUT inputs int, OUT request_tokens int, OUT input_tokens int)
LANGUAGE plpython3u STABLE
SET search_path = pg_catalog, pg_temp
AS $python$
@boot@
from evergreen.model import limits
return limits.shown(name, provider, remote_name, dimensions, options)
$python$;

CREATE OR REPLACE VIEW @extschema@.embed_generations WITH (security_barrier) AS
SELECT p.name AS pipeline,
       g.id AS generation,
       g.state,
       m.name AS model,
       m.dimensions,
       g.columns,
       g.template,
       g.chunker,
       g.options,
       d.documents,
       d.chunks,
       j.pending,
       f.failed,
       CASE WHEN g.state <> 'active' THEN c.coverage END AS coverage,
       coalesce(s.running, false) AS backfilling,
       EXISTS (SELECT FROM pg_catalog.pg_index i
               WHERE i.indisvalid AND i.indexrelid = pg_catalog.to_regclass('embed_store.g' || g.id || '_embedding_idx')) AS indexed,
       g.since,
       g.created_at
FROM embed.pipeline p
JOIN embed.generation g ON g.pipeline = p.id
LEFT JOIN embed.model m ON m.id = g.model
LEFT JOIN embed.scan s ON s.generation = g.id AND s.scope = 'source'
CROSS JOIN LATERAL (
    SELECT embed.documents(g.id) AS documents,
           CASE WHEN embed.documents(g.id) <= 5000
                THEN (SELECT coalesce(sum(d.chunks), 0)::bigint FROM embed.document d WHERE d.generation = g.id)
                ELSE embed.rough_chunks(g.id) END AS chunks) d
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('job', g.id), count(*)) END AS pending
    FROM (SELECT FROM embed.job j WHERE j.generation = g.id LIMIT 5000) j) j
CROSS JOIN LATERAL (
    SELECT CASE WHEN count(*) < 5000 THEN count(*) ELSE greatest(embed.planned_rows('failure', g.id), count(*)) END AS failed
    FROM (SELECT FROM embed.failure f WHERE f.generation = g.id LIMIT 5000) f) f
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.documents > 5000 THEN least(d.documents / a.documents::float8, 1)
                ELSE (SELECT CASE WHEN count(*) = 0 THEN 1.0 ELSE count(b.key)::float8 / count(*) END
                      FROM embed.document x
                      LEFT JOIN embed.document b ON b.generation = g.id AND b.key = x.key
                      WHERE x.generation = a.id
                        AND NOT EXISTS (SELECT FROM embed.failure f WHERE f.generation IN (a.id, g.id) AND f.key = x.key))
                END AS coverage
    FROM (SELECT max(a.id) AS id, embed.documents(max(a.id)) AS documents FROM embed.generation a
          WHERE a.pipeline = p.id AND a.state = 'active' AND g.state <> 'active') a) c
WHERE embed.may_see(p.source);

COMMENT ON COLUMN @extschema@.embed_generations.coverage IS
    'of the rows embedded in the active generation, the share that has a document in this one; dead letters of both left '
    'out; of more than 5 000 rows an estimate (embed_promote counts)';

REVOKE EXECUTE ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_claim(text, int, interval, text) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_submit FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) FROM PUBLIC;

GRANT EXECUTE ON PROCEDURE @extschema@.embed_work(text, interval, boolean, int, boolean) TO embed_worker;

GRANT EXECUTE ON FUNCTION @extschema@.embed_claim(text, int, interval, text) TO embed_worker;

GRANT EXECUTE ON FUNCTION @extschema@.embed_submit TO embed_worker;

GRANT EXECUTE ON FUNCTION @extschema@.embed_release(text, bigint, bytea[], text) TO embed_worker;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_sleep(text) FROM PUBLIC;

GRANT EXECUTE ON FUNCTION @extschema@.embed_sleep(text) TO embed_worker;

REVOKE EXECUTE ON FUNCTION @extschema@.embed_adopt FROM PUBLIC;

GRANT EXECUTE ON FUNCTION @extschema@.embed_adopt TO embed_admin;

REVOKE EXECUTE ON FUNCTION embed.lease_end(bigint) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.follow_end() FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.cron_problems(int) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.index_statement(int) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.count_documents() FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.unfit(regclass, int2[]) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.leave_publication(int) FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.may_notify() FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION embed.wake() FROM PUBLIC;

-- bound_name tells for which name of the source the functions were made: with another one they are made again.
UPDATE embed.pipeline SET bound_name = '';

INSERT INTO embed.tally (generation, documents)
SELECT d.generation, count(*) FROM embed.document d GROUP BY d.generation;
