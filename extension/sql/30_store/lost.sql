-- A dump may have left vectors out, and a table of ours can be truncated: then documents are there whose chunks are not.
CREATE FUNCTION embed.is_restored(pipeline int) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $sql$
    SELECT (p.system_identifier, p.database_oid, p.source_oid) IS DISTINCT FROM (s.system_identifier, d.oid, p.source::oid)
    FROM embed.pipeline p, pg_catalog.pg_control_system() s, pg_catalog.pg_database d
    WHERE p.id = is_restored.pipeline AND d.datname = pg_catalog.current_database()
$sql$;
COMMENT ON FUNCTION embed.is_restored(int) IS 'internal: was a pipeline restored or cloned, and no worker has been here since';

-- The size of the file is looked at, and no lock taken: a view must not wait. Until the first worker has looked at a
-- restored pipeline the chunks are counted, where that takes no longer than an instant.
CREATE FUNCTION embed.lost_documents(pipeline int, generation int) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $plpgsql$
DECLARE
    stored constant oid = pg_catalog.to_regclass('embed_store.g' || generation);
    documents constant bigint = embed.documents(generation);
    lost bigint = 0;
BEGIN
    IF documents = 0 OR stored IS NULL THEN
        RETURN 0;
    END IF;
    IF (pg_catalog.pg_stat_file(pg_catalog.pg_relation_filepath(stored), true)).size = 0 THEN
        SELECT count(*) INTO lost FROM embed.document d WHERE d.generation = lost_documents.generation AND d.chunks > 0;
    ELSIF documents <= 100000 AND embed.is_restored(pipeline) THEN
        EXECUTE pg_catalog.format(
            'SELECT count(*) FROM embed.document d'
            ' LEFT JOIN (SELECT g.document, count(*) AS chunks FROM embed_store.g%s g GROUP BY g.document) s ON s.document = d.id'
            ' WHERE d.generation = $1 AND d.chunks <> coalesce(s.chunks, 0)', generation) USING generation INTO lost;
    END IF;
    RETURN lost;
EXCEPTION
WHEN lock_not_available THEN
    RETURN 0;
WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'role % owns extension evergreen and is not a superuser any more', pg_catalog.quote_ident(current_user)
    USING ERRCODE = 'insufficient_privilege',
          HINT = pg_catalog.format('ALTER ROLE %1$I SUPERUSER; or hand all that it owns over: REASSIGN OWNED BY %1$I TO postgres;', current_user);
END
$plpgsql$;
COMMENT ON FUNCTION embed.lost_documents(int, int) IS 'internal: documents of a generation whose chunks are not there, as far as is known at once';

CREATE FUNCTION embed.follow_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $plpgsql$
BEGIN
    IF TG_TABLE_NAME = 'document' THEN  -- as after a restore without them
        DELETE FROM embed.tally;
        UPDATE embed.pipeline SET database_oid = 0;
        INSERT INTO embed.change (pipeline, scope) SELECT p.id, 'source' FROM embed.pipeline p;
    ELSE
        INSERT INTO embed.change (pipeline, scope)
        SELECT g.pipeline, 'source' FROM embed.generation g WHERE 'g' || g.id = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$plpgsql$;
COMMENT ON FUNCTION embed.follow_truncate() IS 'internal: trigger, has everything checked when documents or chunks were truncated';
CREATE TRIGGER truncated AFTER TRUNCATE ON embed.document FOR EACH STATEMENT EXECUTE FUNCTION embed.follow_truncate();
ALTER TABLE embed.document ENABLE ALWAYS TRIGGER truncated;
